"""How often a dataset's training rows share a knowledge key, for :mod:`benchmarks.train.keys`.

``python -m benchmarks.train.histogram DATASET TITLE > benchmarks/train/NAME_keys.json``; with a DAY at the end of that
as-of day of the test split, whose rows are those of a feature day.
"""

import json
import sys
from typing import Any

import numpy as np
import torch

from m2m_model.backbone import knowledge_ids
from m2m_model.config import ModelConfig
from m2m_model.contracts.store import Folder, read_manifest
from training.published import parquet_files, read_spec
from training.scoring import Source

BATCH_ROWS = 65_536


def histogram(dataset: str, **partition: str) -> dict[str, Any]:
    """Rows, keys, and the number of keys by their number of rows, of a partition's files."""
    manifest = read_manifest(Folder.at(dataset), kind="dataset", build_hint="build it")
    source = Source(location=dataset, spec=read_spec(Folder.at(dataset), manifest), batch_size=BATCH_ROWS)
    entries = parquet_files(manifest, **partition)
    batches = (source.batch(table) for entry in entries for table in source.tables(entry))
    config = ModelConfig()
    keys_of_rows = torch.cat([knowledge_ids(config, batch) for batch in batches]).numpy()
    rows = np.unique(keys_of_rows, axis=0, return_counts=True)[1]
    sizes, keys = np.unique(rows, return_counts=True)
    by_rows = {str(size): int(count) for size, count in zip(sizes, keys, strict=True)}
    return {"rows": int(rows.sum()), "keys": len(rows), "keys_by_rows": by_rows}


if __name__ == "__main__":
    dataset, title, *day = sys.argv[1:]
    partition = {"split": "test", "dt": day[0]} if day else {"split": "train"}
    print(json.dumps({"dataset": title} | histogram(dataset, **partition)))

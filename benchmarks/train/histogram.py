"""How often a dataset's training rows share a knowledge key on one as-of day, for :mod:`benchmarks.train.keys`.

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
    """Rows, keys, keys of a day, and the number of keys of a day by their number of rows, of a partition's files."""
    manifest = read_manifest(Folder.at(dataset), kind="dataset", build_hint="build it")
    source = Source(location=dataset, spec=read_spec(Folder.at(dataset), manifest), batch_size=BATCH_ROWS)
    entries = parquet_files(manifest, **partition)
    batches = ((entry, source.batch(table)) for entry in entries for table in source.tables(entry))
    config, days = ModelConfig(), sorted({entry.partition["dt"] for entry in entries})
    parts = [(knowledge_ids(config, batch), days.index(entry.partition["dt"])) for entry, batch in batches]
    keys_of_rows = torch.cat([keys for keys, _ in parts]).numpy()
    day_of_rows = np.repeat([day for _, day in parts], [len(keys) for keys, _ in parts])
    keys = len(np.unique(keys_of_rows, axis=0))
    rows = np.unique(np.column_stack([keys_of_rows, day_of_rows]), axis=0, return_counts=True)[1]
    sizes, counts = np.unique(rows, return_counts=True)
    by_rows = {str(size): int(count) for size, count in zip(sizes, counts, strict=True)}
    return {"rows": int(rows.sum()), "keys": keys, "keys_of_a_day": len(rows), "keys_by_rows": by_rows}


if __name__ == "__main__":
    dataset, title, *day = sys.argv[1:]
    partition = {"split": "test", "dt": day[0]} if day else {"split": "train"}
    print(json.dumps({"dataset": title} | histogram(dataset, **partition)))

"""Score a feature day with an exported model: torch, pyarrow and numpy, and nothing of the package that made it.

    python score_exported.py <out>/export/model.pt2 <out>/features/dt=2017-12-31 predictions.parquet

The features must be those that the model was trained on: the fingerprints are compared.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

KEYS = ["advertiser_id", "scenario_id", "as_of"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="model.pt2")
    parser.add_argument("features", type=Path, help="a published feature day")
    parser.add_argument("out", type=Path, help="the Parquet file to write")
    parser.add_argument("--rows", type=int, default=256, help="rows at a time")
    arguments = parser.parse_args()
    extra = {"columns.json": ""}
    program = torch.export.load(arguments.model, extra_files=extra).module()
    about = json.loads(extra["columns.json"])
    manifest = json.loads((arguments.features / "manifest.json").read_text())
    found = manifest["content"]["feature_fingerprint"]
    if found != about["feature_fingerprint"]:
        sys.exit(f"error: the model wants features {about['feature_fingerprint']}, {arguments.features} has {found}")
    files = [arguments.features / file["path"] for file in manifest["files"] if file["path"].endswith(".parquet")]
    tables = [scored(table, program, about) for table in read(files, about, arguments.rows)]
    pq.write_table(pa.concat_tables(tables), arguments.out)
    print(f"{sum(map(len, tables)):,} rows by model {about['model_version']} in {arguments.out}")


def read(files: list[Path], about: dict[str, Any], rows: int) -> Iterator[pa.Table]:
    names = KEYS + [column["name"] for column in about["inputs"]]
    for file in files:
        for batch in pq.ParquetFile(file).iter_batches(rows, columns=names):
            yield pa.Table.from_batches([batch])


def scored(table: pa.Table, program: Any, about: dict[str, Any]) -> pa.Table:
    inputs = [tensor(table[column["name"]], column) for column in about["inputs"]]
    with torch.inference_mode():
        forecasts = program(*inputs).numpy()
    columns = {name: table[name] for name in KEYS}
    columns |= {name: forecasts[:, position] for position, name in enumerate(about["outputs"])}
    return pa.table(columns)


def tensor(column: pa.ChunkedArray, about: dict[str, Any]) -> torch.Tensor:
    values = column.combine_chunks()
    if about["length"] is not None:
        values = values.flatten()
    array = values.to_numpy(zero_copy_only=False).astype(about["type"])
    return torch.from_numpy(array if about["length"] is None else array.reshape(len(column), about["length"]))


if __name__ == "__main__":
    main()

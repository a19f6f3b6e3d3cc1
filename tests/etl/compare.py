"""A published dataset against the oracle: keys and spec in full, and as many random rows as wanted.

``python -m tests.etl.compare --config jobs/configs/synthetic.toml --rows 5000`` does it for a run's raw tables and
dataset, as far as they fit into memory as Python objects.
"""

import argparse
import random
import sys
from pathlib import Path

from jobs.config import RunConfig
from m2m_model.contracts.store import Manifest
from tests.etl.published import live_manifest, read_rows, read_spec
from tests.etl.reference import Key, Reference, Split

SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def compare(reference: Reference, out: Path, manifest: Manifest, *, rows: int | None = None, seed: int = 0) -> int:
    """Assert that the dataset holds what ``reference`` says; returns the number of rows compared.

    Args:
        rows: at most so many random rows of each split, default all.
    """
    _compare_spec(reference, out, manifest)
    compared = 0
    for split in SPLITS:
        table = read_rows(out, manifest, split=split)
        columns = (table[name].to_pylist() for name in ("advertiser_id", "scenario_id", "as_of"))
        positions: dict[Key, int] = {key: position for position, key in enumerate(zip(*columns, strict=True))}
        expected = reference.split_keys[split]
        assert len(positions) == table.num_rows, f"{split} has doubled rows"
        assert positions.keys() == set(expected), sorted(positions.keys() ^ set(expected), key=str)[:5]
        chosen = random.Random(seed).sample(expected, min(len(expected), rows or len(expected)))
        found = table.take([positions[key] for key in chosen]).to_pylist()
        for key, row in zip(chosen, found, strict=True):
            wanted = reference.row(key)
            unlike = {name: (row.get(name), value) for name, value in wanted.items() if row.get(name) != value}
            assert not unlike, (key, unlike)
            assert row.keys() == wanted.keys()
        compared += len(chosen)
    return compared


def _compare_spec(reference: Reference, out: Path, manifest: Manifest) -> None:
    spec = read_spec(out, manifest)
    assert list(spec.scenarios) == reference.scenarios
    for columns, sequence in ((spec.behavior, "behavior"), (spec.performance, "performance")):
        names = [name for name, *_ in reference.columns(sequence)]  # type: ignore[arg-type]
        assert {column.name: column.edges for column in columns} == {name: reference.edges[name] for name in names}
    for kind, features in (("profile", spec.profile), ("scenario", spec.scenario_attributes)):
        fitted = {feature.name: feature.edges if feature.kind == "bucket" else feature.values for feature in features}
        assert fitted == reference.attributes[kind]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--rows", type=int, default=1000, help="random rows per split")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    config = RunConfig.read(arguments.config, arguments.overrides)
    out = Path(config.run.path("dataset"))
    reference = Reference.of_folder(config, Path(config.run.path("raw")))
    compared = compare(reference, out, live_manifest(out), rows=arguments.rows, seed=arguments.seed)
    print(f"all keys, the spec and {compared:,} random rows agree with the oracle")
    return 0


if __name__ == "__main__":
    sys.exit(main())

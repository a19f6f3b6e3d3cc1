"""The published dataset against :mod:`tests.etl.reference`: splits, keys, spec and a random sample of rows, exactly."""

import datetime
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from etl.build import build_dataset
from m2m_model.contracts.drift import Histograms
from m2m_model.contracts.schema import dataset_schema
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Manifest
from tests.etl.published import live_manifest, read_rows, read_spec
from tests.etl.raw_world import DAY, FIRST_DAY, Shape, World, make_world
from tests.etl.reference import Reference, Split
from tests.etl.slow_counts import slow_counts

pytestmark = pytest.mark.spark
SAMPLE = 400
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, kw_only=True)
class Built:
    world: World
    out: Path
    reference: Reference
    manifest: Manifest
    spec: DatasetSpec
    splits: dict[str, pa.Table]


def _explicit(shape: Shape) -> dict[str, Any]:
    """Split dates with the smallest gaps that the purge rule allows, and strides that do not divide the spans."""
    first = FIRST_DAY + (shape.lag + shape.length - 1) * DAY
    gap = shape.horizon + shape.lag
    train = (first + 2 * DAY, first + 30 * DAY)
    validation = (train[1] + gap * DAY, train[1] + (gap + 6) * DAY)
    test = (validation[1] + gap * DAY, first + 59 * DAY)
    return {"train": train, "validation": validation, "test": test, "train_stride": 3, "test_stride": 2}


WEEK = Shape(seed=1)
LATE = Shape(seed=2, lag=2, horizon=5, length=9, history_weeks=2, bigint_ids=True, advertisers=12)
FAR = Shape(seed=3, lag=3, horizon=3, length=20, history_weeks=5, timezone="Australia/Lord_Howe")
"""Half an hour of summer time, 10.5 hours ahead of UTC; weeks of history reach back further than the sequence."""
WEST = Shape(seed=4, lag=1, length=6, advertisers=24, timezone="Pacific/Marquesas")
ALL_LIVE = {"activity": "count(*) > 0", "table": "orders", "min_active_days": 1, "train": "live", "evaluate": "own"}
WORLDS = {
    "week": (WEEK, {}, False),
    "lagged, known at": (LATE, {"split": _explicit(LATE), "population": ALL_LIVE}, True),
    "far east, known at": (FAR, {"split": {"ratio": (4, 1, 1), "validation_stride": 2}}, True),
    "far west": (WEST, {"population": {"activity": "count(*) > 0", "train": "live"}}, False),
}


@pytest.fixture(scope="module", params=WORLDS)
def built(request: pytest.FixtureRequest, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Built:
    shape, sections, late = WORLDS[request.param]
    world = make_world(shape, **sections)
    known = world.as_known_at if late else None
    folder = tmp_path_factory.mktemp("world")
    returned = build_dataset(
        spark, world.config, raw=world.write(folder / "raw"), out=str(folder / "out"), as_known_at=known
    )
    out = folder / "out"
    manifest = live_manifest(out)
    assert returned == manifest
    return Built(
        world=world,
        out=out,
        reference=Reference.of_folder(world.config, folder / "raw", known),
        manifest=manifest,
        spec=read_spec(out, manifest),
        splits={split: read_rows(out, manifest, split=split) for split in SPLITS},
    )


def keys(table: pa.Table) -> list[tuple[Any, str, datetime.date]]:
    columns = (table.column(name).to_pylist() for name in ("advertiser_id", "scenario_id", "as_of"))
    return list(zip(*columns, strict=True))


def test_the_world_shows_every_case(built: Built) -> None:
    """Without this, an agreement may be one about nothing."""
    reference, world = built.reference, built.world
    expected = reference.split_keys
    rows = [reference.row(key) for split in SPLITS for key in random.Random(0).sample(expected[split], 60)]
    assert min(map(len, expected.values())) > 50
    assert {row["scenario_index"] for row in rows} == {0, 1, 2, 3}
    assert {i for row in rows for i in row["profile_ids"]} >= {0, 1, 2, 3}
    assert {i for row in rows for i in row["behavior_ids"]} >= {0, 1, 2, 3}
    assert any(value < 0 for row in rows for value in row["dense"])
    assert any(row["scenario_id"] is None for row in world.tables["behavior"])
    assert any(row["label_gmv"] for row in rows)


def test_splits_and_keys(built: Built) -> None:
    for split in SPLITS:
        expected = built.reference.split_keys[split]
        found = Counter(keys(built.splits[split]))
        assert not [key for key, count in found.items() if count > 1], "doubled rows"
        assert sorted(found) == sorted(expected)


def test_rows_lie_in_the_partition_of_their_as_of_day(built: Built) -> None:
    expected = {(split, day.isoformat()) for split in SPLITS for day in {key[2] for key in keys(built.splits[split])}}
    data = [file for file in built.manifest.files if "split" in file.partition]
    assert {(file.partition["split"], file.partition["dt"]) for file in data if file.rows} == expected
    assert sum(file.rows for file in data) == sum(table.num_rows for table in built.splits.values())
    assert all(sum(file.row_groups) == file.rows for file in data)


def test_schema(built: Built) -> None:
    for table in built.splits.values():
        found = {field.name: field.type for field in table.schema}
        expected = {field.name: field.type for field in dataset_schema(built.spec, labels=True)}
        assert {name: str(kind).replace("element", "item") for name, kind in found.items()} == {
            name: str(kind).replace("element", "item") for name, kind in expected.items()
        }


def test_spec(built: Built) -> None:
    spec, reference, config = built.spec, built.reference, built.world.config
    assert list(spec.scenarios) == reference.scenarios
    assert spec.advertiser_id_type == ("bigint" if isinstance(reference.rows.advertisers[0], int) else "string")
    for sequence in ("behavior", "performance"):
        expected = list(reference.columns(sequence))
        columns = spec.sequence(sequence)
        assert [column.name for column in columns] == [name for name, *_ in expected]
        for column, (name, feature, scenario) in zip(columns, expected, strict=True):
            assert column.edges == reference.edges[name], name
            assert (column.scope, column.scenario, column.dense) == (feature.scope, scenario, feature.dense)
            assert (column.table, column.expr) == (feature.table or sequence, feature.expr)
    for kind, features in (("profile", spec.profile), ("scenario", spec.scenario_attributes)):
        fitted = {f.name: f.edges if f.kind == "bucket" else f.values for f in features}
        assert fitted == reference.attributes[kind]
        assert list(fitted) == list(getattr(config.features, kind))
    assert [(task.name, task.scale) for task in spec.tasks] == [("clicks", 0), ("spend", 4), ("gmv", 2), ("active", 0)]


def test_label_statistics_are_over_training_rows(built: Built) -> None:
    train = built.reference.split_keys["train"]
    for task in built.spec.tasks:
        horizon = built.spec.horizon
        labels = [built.reference.task_sum(task.name, key, key[2] + DAY, horizon) for key in train]
        assert task.mean_label == pytest.approx(sum(labels) / len(labels), rel=1e-9)
        assert task.max_label == max(labels)


def test_histograms_and_key_counts_are_those_of_the_rows(built: Built) -> None:
    rows = {split: table.to_pylist() for split, table in built.splits.items()}
    published = Histograms.beside(built.out / "spec.json", built.spec)
    assert published is not None
    assert published.splits == {split: slow_counts(built.spec, of_split) for split, of_split in rows.items()}
    assert built.manifest.content["drift"] == published.drift()
    keys = Counter((*row["attribute_ids"], *row["profile_ids"]) for row in rows["train"])
    found = built.manifest.content["key_multiplicity"]
    assert (found["rows"], found["distinct_keys"], found["exact"]) == (len(rows["train"]), len(keys), True)


@pytest.mark.parametrize("split", SPLITS)
def test_a_random_sample_of_rows_agrees_exactly(built: Built, split: Split) -> None:
    expected = built.reference.split_keys[split]
    sample = random.Random(3).sample(expected, min(SAMPLE, len(expected)))
    found = dict(zip(keys(built.splits[split]), built.splits[split].to_pylist(), strict=True))
    for key in sample:
        wanted = built.reference.row(key)
        assert found[key].keys() == wanted.keys()
        for column, value in wanted.items():
            assert found[key][column] == value, (key, column)

"""The dataset build against an independent oracle, and what must hold of any build."""

import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from etl.build import build_dataset, build_day
from etl.config import EtlConfig
from etl.split import as_of_days
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import KEYS, sorted_rows_hash
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import MANIFEST, Folder, Manifest, read_manifest
from tests.etl.oracle import Oracle
from tests.etl.small_world import day, make_config, make_tables, write_tables

pytestmark = pytest.mark.spark


def read(out: Path, manifest: Manifest) -> pa.Table:
    return pa.concat_tables(pq.ParquetFile(out / f.path).read() for f in manifest.files if f.rows)


def build(spark: SparkSession, tmp_path: Path, tables: dict[str, pd.DataFrame], config: EtlConfig) -> pa.Table:
    write_tables(tables, tmp_path / "raw")
    out = tmp_path / "dataset"
    return read(out, build_dataset(spark, config, raw=str(tmp_path / "raw"), out=str(out)))


@pytest.mark.parametrize(("lag", "horizon", "seed"), [(0, 7, 0), (2, 3, 1)])
def test_rows_agree_with_the_oracle(spark: SparkSession, tmp_path: Path, lag: int, horizon: int, seed: int) -> None:
    tables, config = make_tables(seed), make_config(lag=lag, horizon=horizon)
    rows = build(spark, tmp_path, tables, config).to_pylist()
    days = as_of_days(config)
    oracle = Oracle(tables, train=(days["train"][0], days["train"][-1]), lag=lag, horizon=horizon)
    for split, population in (("train", "own"), ("validation", "live"), ("test", "live")):
        for as_of in days[split]:
            keys = [(r["advertiser_id"], r["scenario_id"]) for r in rows if r["as_of"] == as_of]
            assert len(keys) == len(set(keys))
            assert set(keys) == oracle.keys(as_of, population)
    chosen = np.random.default_rng(seed).choice(len(rows), 200, replace=False)
    for row in (rows[index] for index in chosen):
        expected = oracle.row(row["advertiser_id"], row["scenario_id"], row["as_of"])
        assert {name: row[name] for name in expected} == expected


def test_the_future_cannot_move_a_feature(spark: SparkSession, tmp_path: Path) -> None:
    tables, config = make_tables(), make_config(lag=1)
    write_tables(tables, tmp_path / "raw")
    out = tmp_path / "dataset"
    before = read(out, build_dataset(spark, config, raw=str(tmp_path / "raw"), out=str(out)))
    spec = DatasetSpec.read(out / "spec.json")
    as_of = as_of_days(config)["test"][0]

    def features(changed: dict[str, pd.DataFrame]) -> str:
        write_tables(changed, tmp_path / "changed")
        target = tmp_path / "day"
        manifest = build_day(spark, config, spec, date=as_of, raw=str(tmp_path / "changed"), out=str(target))
        return sorted_rows_hash(read(target, manifest))

    unchanged = before.filter(pa.compute.equal(before["as_of"], as_of))
    names = [name for name in unchanged.column_names if not name.startswith("label_")]
    assert features(tables) == sorted_rows_hash(unchanged.select(names))

    def moved(first: datetime.date, last: datetime.date) -> dict[str, pd.DataFrame]:
        frame = tables["performance"].copy()
        rows = (frame.day >= first) & (frame.day <= last)
        assert rows.any()
        frame.loc[rows, "clicks"] += 17
        return tables | {"performance": frame}

    assert features(moved(as_of, day(89))) == features(tables)  # with a lag of 1, the as-of day is future too
    assert features(moved(as_of - datetime.timedelta(days=3), as_of - datetime.timedelta(days=1))) != features(tables)


def test_a_rerun_replaces_and_equals(spark: SparkSession, tmp_path: Path) -> None:
    config = make_config(dataset={"shards": 3, "row_group_rows": 50, "grace_seconds": 0})
    first = build(spark, tmp_path, make_tables(), config)
    second = build(spark, tmp_path, make_tables(), config)
    assert sorted_rows_hash(first) == sorted_rows_hash(second)
    assert len(list((tmp_path / "dataset" / "data").iterdir())) == 1
    assert second.select(KEYS).num_rows == len(set(zip(*(second[k].to_pylist() for k in KEYS), strict=True)))


def broken(table: str, **columns: object) -> dict[str, pd.DataFrame]:
    tables = make_tables()
    frame = tables[table].copy()
    for name, value in columns.items():
        if value is None:
            frame = frame.drop(columns=name)
        else:
            frame.loc[frame.index[:3], name] = value
    return tables | {table: frame}


def doubled() -> dict[str, pd.DataFrame]:
    tables = make_tables()
    return tables | {"performance": pd.concat([tables["performance"], tables["performance"].head(4)])}


BAD_INPUT = [
    (lambda: broken("performance", clicks=None), {}, r"expression 'sum\(clicks\)' is not valid"),
    (lambda: broken("performance", day=None), {}, r"'performance' must have column 'day'"),
    (lambda: broken("performance", clicks=-5), {}, r"negative daily value of a task"),
    (lambda: broken("performance", scenario_id="radio"), {}, r"3 rows with a scenario that no scenario snapshot"),
    (lambda: broken("performance", day=datetime.date(2031, 1, 1)), {}, r"3 rows with a day outside"),
    (doubled, {}, r"4 rows with a key \(advertiser_id, scenario_id, day\) that another row has too"),
    (lambda: make_tables() | {"performance": make_tables()["performance"].head(0)}, {}, r"it is empty|cannot be read"),
    (
        make_tables,
        {"tasks": {"clicks": {"expr": "sum(cast(clicks as double))", "unit": "x"}}},
        r"tasks.clicks: .*depends on the order of rows",
    ),
    (make_tables, {"tasks": {"clicks": {"expr": "first(clicks)", "unit": "x"}}}, r"uses First"),
    (make_tables, {"tasks": {"clicks": {"expr": "sum(clicks", "unit": "x"}}}, r"is not valid"),
]


@pytest.mark.parametrize(("tables", "sections", "message"), BAD_INPUT)
def test_bad_input_is_named_and_nothing_is_published(spark, tmp_path, tables, sections, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=message):
        build(spark, tmp_path, tables(), make_config(**sections))
    assert not (tmp_path / "dataset" / MANIFEST).exists()


def test_drops_by_policy_are_counted(spark: SparkSession, tmp_path: Path) -> None:
    checks = {"duplicate_keys": "drop", "negative_labels": "drop"}
    config = make_config(checks=checks)
    clean = build(spark, tmp_path / "clean", make_tables(), config)
    dirty = build(spark, tmp_path / "dirty", doubled(), config)
    manifest = read_manifest(Folder.at(tmp_path / "dirty" / "dataset"), kind="dataset", build_hint="")
    assert manifest.content["dropped"] == {"duplicate_keys": 4}
    assert sorted_rows_hash(clean) == sorted_rows_hash(dirty)

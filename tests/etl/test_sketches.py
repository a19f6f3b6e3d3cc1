"""Spec versions proposed from sketches: near the exact edges, and beside what models were trained with."""

import json
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from etl.discretize import quantile_edges
from etl.facts import Source, Value
from etl.packed import COUNTS_SCHEMA
from etl.sketches import day_sketches, propose_edges
from etl.versions import read_versions, register_spec
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec, SequenceColumn
from m2m_model.contracts.store import Folder
from tests.etl.raw_world import Shape, make_config
from tests.training.tiny import SPEC


def column(name: str, expr: str, **changes: object) -> SequenceColumn:
    content = {"name": name, "expr": expr, "edges": (1.0, 5.0), "table": "performance", "scope": "own"}
    return SequenceColumn.model_validate(content | changes)


PARENT = SPEC.model_copy(
    update={
        "behavior": (),
        "performance": (
            column("spend", "sum(spend)"),
            column("clicks@a", "sum(clicks)", scope="each_scenario", scenario="a"),
            column("all_spend", "sum(spend)", scope="advertiser"),
        ),
    }
)
SOURCES = (Source("performance", True, (Value("sum(spend)"), Value("sum(clicks)"), Value("sum(clicks)", 2, True))),)
CONFIG = make_config(Shape())


def sketched(spark: SparkSession, values: list[list[tuple[int, float, float]]]) -> list[bytes]:
    """A sketch per day of (scenario, spend, clicks)."""
    days = []
    for of_day in values:
        rows = [
            (0, scenario, position, value, 1)
            for scenario, spend, clicks in of_day
            for position, value in enumerate((spend, clicks, 100 * clicks))
            if value
        ]
        days.append(day_sketches(spark.createDataFrame(rows, COUNTS_SCHEMA), SOURCES, ("a", "b")))
    return days


@pytest.mark.spark
def test_edges_of_few_values_are_exact(spark: SparkSession) -> None:
    random = np.random.default_rng(0)
    days = [
        [(int(random.integers(2)), float(random.integers(0, 40)), float(random.integers(0, 9))) for _ in range(60)]
        for _ in range(3)
    ]
    proposal, shifts = propose_edges(spark, CONFIG, PARENT, sketched(spark, days))
    every = np.array([row for day in days for row in day])
    expected = {
        "spend": (every[:, 1], CONFIG.features.performance["spend"].buckets),
        "clicks@a": (every[every[:, 0] == 0, 2], CONFIG.features.performance["clicks"].buckets),
    }
    for shift, made in zip(shifts, proposal.performance, strict=True):
        assert shift.edges == made.edges
        if made.name not in expected:
            assert (shift.values, made.edges) == (0, (1.0, 5.0)), "no values, so the parent's edges"
            continue
        values, buckets = expected[made.name]
        distinct, counts = np.unique(values[values != 0], return_counts=True)
        assert made.edges == quantile_edges(distinct, counts, buckets)
        assert shift.values == counts.sum()
        before, after = (np.searchsorted(edges, values[values != 0]) for edges in ((1.0, 5.0), made.edges))
        assert shift.moved == pytest.approx(np.mean(before != after))
    assert proposal.parent == PARENT.feature_fingerprint
    assert proposal.feature_fingerprint != PARENT.feature_fingerprint


@pytest.mark.spark
def test_edges_of_many_values_are_near_their_ranks(spark: SparkSession) -> None:
    random = np.random.default_rng(1)
    values = np.exp(random.normal(size=(4, 50_000)))
    days = []
    for day in values:
        frame = spark.createDataFrame([(day.tolist(),)], "v array<double>").select(F.explode("v").alias("value"))
        zero = F.lit(0)
        counts = frame.select(
            zero.alias("source"), zero.alias("scenario"), zero.alias("position"), "value", F.lit(1).alias("count")
        )
        days.append(day_sketches(counts, SOURCES, ("a", "b")))
    proposal, shifts = propose_edges(spark, CONFIG, PARENT, days)
    buckets = CONFIG.features.performance["spend"].buckets
    edges = proposal.performance[0].edges
    assert len(edges) == buckets - 1
    ranks = np.searchsorted(np.sort(values.ravel()), edges, side="right") / values.size
    assert np.abs(ranks - np.arange(1, buckets) / buckets).max() < 0.01
    assert shifts[0].values == values.size


def test_versions_count_up_and_the_same_spec_keeps_its_number(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    first = register_spec(folder, PARENT)
    child = PARENT.model_copy(update={"horizon": 3, "parent": PARENT.feature_fingerprint})
    second = register_spec(folder, child)
    assert (first.version, second.version) == (1, 2)
    statistics = [task.model_copy(update={"mean_label": 9.0}) for task in PARENT.tasks]
    again = register_spec(folder, PARENT.model_copy(update={"tasks": tuple(statistics)}))
    assert (again.version, again.tasks[0].mean_label) == (1, 9.0)
    assert read_versions(folder) == {1: first, 2: second}
    assert DatasetSpec.read(tmp_path / "2.json").parent == PARENT.feature_fingerprint


def test_an_edited_version_is_refused(tmp_path: Path) -> None:
    register_spec(Folder.at(tmp_path), PARENT)
    path = tmp_path / "1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"horizon": 8}))
    with pytest.raises(UserError, match="was edited or damaged"):
        register_spec(Folder.at(tmp_path), PARENT)

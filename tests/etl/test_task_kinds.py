"""Labels and histories of every kind of task against plain loops over the raw rows, and what a config may not say."""

import random

import numpy as np
import pytest
from pydantic import ValidationError
from pyspark.sql import SparkSession

from etl.build import build_dataset, build_day
from etl.config import TaskConfig
from etl.task_values import history_windows, task_values, window_sums
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import ActivitySpec, DatasetSpec, ExposureSpec, TaskKind, TaskSpec
from tests.etl.published import features, live_manifest, read_rows, read_spec
from tests.etl.raw_world import DAY, Shape, World, make_world
from tests.etl.reference import Key, Reference

TASKS = {
    "clicks": {"expr": "sum(clicks)", "unit": "clicks"},
    "cost": {"kind": "rate", "expr": "sum(spend)", "exposure": "sum(clicks)", "unit": "dollars per click"},
    "churn": {"kind": "binary", "expr": "sum(clicks)", "outcome": "none", "unit": ""},
    "buys": {"kind": "binary", "expr": "sum(gmv)", "outcome": "any", "unit": "", "table": "orders"},
    "gmv": {"kind": "spend", "expr": "sum(gmv)", "unit": "dollars", "table": "orders"},
}


def expected(world: World, key: Key, first: object, days: int) -> dict[str, float]:
    """Each task's value over ``days`` days from ``first`` on; the exposure of ``cost`` too."""
    plain = {
        name: {"expr": TASKS[name]["expr"], "unit": "", "table": TASKS[name].get("table", "performance")}
        for name in TASKS
    }
    tasks = {name: TaskConfig(**fields) for name, fields in plain.items()}
    counts = Reference(world.config.model_copy(update={"tasks": tasks}), world.tables)
    sums = {name: counts.task_sum(name, key, first, days) for name in TASKS}  # type: ignore[arg-type]
    return {
        "clicks": sums["clicks"],
        "cost": sums["cost"] / sums["clicks"] if sums["clicks"] else 0.0,
        "churn": float(sums["churn"] == 0),
        "buys": float(sums["buys"] > 0),
        "gmv": sums["gmv"],
        "exposure": sums["clicks"],
    }


@pytest.mark.spark
def test_labels_and_histories_of_every_kind(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("kinds")
    world = make_world(Shape(seed=5, advertisers=8), tasks=TASKS)
    raw = world.write(folder / "raw")
    build_dataset(spark, world.config, raw=raw, out=str(folder / "out"))
    manifest = live_manifest(folder / "out")
    spec = read_spec(folder / "out", manifest)
    rows = read_rows(folder / "out", manifest, split="train").to_pylist()
    steps, seen = world.config.sequence, {name: set() for name in TASKS}  # type: ignore[var-annotated]
    for row in random.Random(0).sample(rows, 40):
        key = (row["advertiser_id"], row["scenario_id"], row["as_of"])
        wanted = expected(world, key, row["as_of"] + DAY, steps.horizon)
        assert row["exposure_cost"] == wanted["exposure"]
        last = row["as_of"] - steps.availability_lag_days * DAY
        starts = [last - (7 * week - 1) * DAY for week in range(1, steps.history_weeks + 1)]
        windows = [*((start, 7) for start in starts), (last - (steps.length - 1) * DAY, steps.length)]
        histories = [expected(world, key, *window) for window in windows]
        for name in TASKS:
            assert row[f"label_{name}"] == pytest.approx(wanted[name], rel=1e-12), name
            assert row[f"history_{name}"] == pytest.approx([values[name] for values in histories], rel=1e-12), name
            seen[name].add(wanted[name])
    assert all(len(values) > 1 for values in seen.values()), "an agreement about nothing"
    assert [task.kind for task in spec.tasks] == ["count", "rate", "binary", "binary", "spend"]
    means = {task.name: task.mean_label for task in spec.tasks}
    assert means["churn"] == pytest.approx(np.mean([row["label_churn"] for row in rows]))
    # A single day's build takes the same exposures for its histories and has no labels.
    day = rows[-1]["as_of"]
    build_day(spark, world.config, spec, date=day, raw=raw, out=str(folder / "day"))
    table = read_rows(folder / "day", live_manifest(folder / "day", "features"))
    found = {(row["advertiser_id"], row["scenario_id"]): row for row in table.to_pylist()}
    assert features(table).column_names == table.column_names
    for row in (row for row in rows if row["as_of"] == day):
        assert found[row["advertiser_id"], row["scenario_id"]]["history_cost"] == row["history_cost"]


@pytest.mark.spark
def test_an_exposure_must_sum_exactly(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("kinds")
    tasks = {"cost": TASKS["cost"] | {"exposure": "try_divide(sum(clicks), sum(views))"}}
    world = make_world(Shape(seed=5, advertisers=3), tasks=tasks)
    with pytest.raises(UserError, match=r"tasks\.cost\.exposure: .* integers or decimals"):
        build_dataset(spark, world.config, raw=world.write(folder / "raw"), out=str(folder / "out"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "rate"}, "needs exposure"),
        ({"kind": "binary"}, "needs outcome"),
        ({"exposure": "sum(views)"}, "exposure belongs to tasks of kind rate, however: kind is 'count'"),
        ({"kind": "spend", "outcome": "any"}, "outcome belongs to tasks of kind binary"),
        ({"kind": "binary", "outcome": "any", "daily_max": 1}, "daily_max belongs to tasks of kind count or spend"),
    ],
)
def test_a_task_says_what_its_kind_needs_and_no_more(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TaskConfig.model_validate({"expr": "sum(x)", "unit": ""} | fields)


def spec_of_all_kinds(*, history_weeks: int = 4) -> DatasetSpec:
    """A count, a rate, a binary task of nothing happening, a spend in cents."""
    kinds = ({}, {"exposure": ExposureSpec(expr="y", scale=0)}, {"outcome": "none"}, {"scale": 2})
    names: tuple[TaskKind, ...] = ("count", "rate", "binary", "spend")
    plain = {"unit": "", "table": "performance", "expr": "x", "scale": 0, "mean_label": 1.0, "max_label": 1.0}
    return DatasetSpec(
        timezone="UTC",
        sequence_length=20,
        horizon=7,
        availability_lag_days=0,
        history_weeks=history_weeks,
        advertiser_id_type="string",
        scenarios=("feed",),
        behavior=(),
        performance=(),
        profile=(),
        scenario_attributes=(),
        tasks=tuple(
            TaskSpec.model_validate(plain | {"name": name, "kind": name} | fields)
            for name, fields in zip(names, kinds, strict=True)
        ),
        activity=ActivitySpec(table="performance", expr="count(*) > 0", min_active_days=1),
    )


def test_values_of_sums() -> None:
    spec = spec_of_all_kinds()
    sums = np.array([[[3.0, 0.0], [4.0, 5.0], [0.0, 2.0], [250.0, 0.0]]])
    values = task_values(sums, {1: np.array([[8.0, 0.0]])}, spec)
    assert values.tolist() == [[[3.0, 0.0], [0.5, 0.0], [1.0, 0.0], [2.5, 0.0]]]


def test_windows_of_histories() -> None:
    spec = spec_of_all_kinds(history_weeks=2)
    assert history_windows(spec, 10, 30) == [(23, 30), (16, 23), (10, 30)]
    totals = np.array([0.0, 1.0, 3.0, 6.0]).reshape(1, 4, 1)
    assert window_sums(totals, np.array([0]), [(0, 2), (1, 3)]).tolist() == [[[3.0, 5.0]]]

"""The matured rows of one day equal those of the full build, labels and all; nobody is missing."""

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from etl.build import build_dataset, build_day
from etl.matured import build_labels, labels_complete
from jobs.build_dataset import check_matured
from jobs.config import RunConfig
from m2m_model.contracts.days import newest_known_day
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import sorted_rows_hash
from m2m_model.contracts.spec import DatasetSpec
from tests.etl.published import feature_hash, live_manifest, read_rows, read_spec
from tests.etl.raw_world import Shape, make_world
from tests.etl.test_replay import dates, replaying

pytestmark = pytest.mark.spark
SHAPE = Shape(seed=12, lag=1, advertisers=12, length=9, history_weeks=2, horizon=3)
SPLIT = {"ratio": (6, 2, 2), "train_stride": 6, "validation_stride": 4, "test_stride": 2}


@pytest.mark.parametrize("replayed", [False, True])
def test_a_days_labels_are_those_of_the_full_build(spark: SparkSession, tmp_path: Path, *, replayed: bool) -> None:
    """Of a horizon that is no whole week, with a lag, on late data, a rate among the tasks or not."""
    world = make_world(SHAPE, split=SPLIT)
    config = replaying(world.config) if replayed else world.config
    raw = world.write(tmp_path / "raw")
    manifest = build_dataset(spark, config, raw=raw, out=str(tmp_path / "whole"))
    spec = read_spec(tmp_path / "whole", manifest)
    date = dates(manifest, "test")[0]
    expected = read_rows(tmp_path / "whole", manifest, split="test", dt=date.isoformat())
    assert pc.sum(pc.not_equal(expected[f"label_{spec.task_names[0]}"], 0)).as_py() > 0
    # As if the run's calendar ended with the as-of day: who asks for labels says that their days are there.
    raw_config = config.raw.model_copy(update={"last_day": date})
    early = config.model_copy(update={"raw": raw_config})
    out = tmp_path / "labels"
    assert not labels_complete(spark, early, spec, date=date, raw=raw, out=str(out))
    build_labels(spark, early, spec, date=date, raw=raw, out=str(out))
    assert labels_complete(spark, early, spec, date=date, raw=raw, out=str(out))
    made = live_manifest(out, "labels")
    rows = read_rows(out, made)
    assert sorted_rows_hash(rows) == sorted_rows_hash(expected)
    night = tmp_path / "features"
    features = build_day(spark, config, spec, date=date, raw=raw, out=str(night))
    assert keys(read_rows(night, features)) <= keys(rows)
    assert feature_hash(read_rows(night, features)) == feature_hash(rows)


def test_labels_that_have_not_matured_are_refused(tmp_path: Path) -> None:
    world = make_world(SHAPE, split=SPLIT)
    config = RunConfig.model_validate({**world.config.model_dump(), "run": {"name": "early", "out": str(tmp_path)}})
    spec = DatasetSpec.model_construct(horizon=3, availability_lag_days=1)
    newest = newest_known_day(
        datetime.datetime.now(datetime.UTC),
        timezone=config.raw.timezone,
        after_hours=config.raw.known_after_hours,
    )
    check_matured(config, spec, newest - datetime.timedelta(days=4))
    with pytest.raises(UserError, match=r"must be a day whose labels have matured, 3 \+ 1 days"):
        check_matured(config, spec, newest - datetime.timedelta(days=3))


def keys(rows: pa.Table) -> set[tuple[object, object]]:
    return set(zip(rows["advertiser_id"].to_pylist(), rows["scenario_id"].to_pylist(), strict=True))

"""A trial says what a build says, and is near what a build makes."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from etl.build import build_dataset
from etl.trial import try_build
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from tests.etl.raw_world import Shape, World, make_config, make_world

pytestmark = pytest.mark.spark
SHAPE = Shape(seed=5, advertisers=40, length=5, history_weeks=1, horizon=2)
SPLIT = {"ratio": (6, 2, 2), "train_stride": 2}


@pytest.fixture
def world() -> World:
    return make_world(SHAPE, split=SPLIT)


def test_the_spec_is_the_builds_and_the_samples_are_near(spark: SparkSession, world: World, tmp_path: Path) -> None:
    world.write(tmp_path / "raw")
    trial = try_build(spark, world.config, raw=str(tmp_path / "raw"))
    manifest = build_dataset(spark, world.config, raw=str(tmp_path / "raw"), out=str(tmp_path / "out"))
    assert trial.spec.feature_fingerprint == DatasetSpec.read(tmp_path / "out" / "spec.json").feature_fingerprint
    for split, rows in manifest.content["rows_by_scenario"].items():
        # Of one day each, in a world whose advertisers come and go: the right size, not the number.
        assert trial.samples[split] == pytest.approx(sum(rows.values()), rel=0.6)
    assert trial.bytes > 0
    assert trial.build_seconds(cores=2) > trial.build_seconds(cores=4)


def test_nobody_to_learn_from(spark: SparkSession, world: World, tmp_path: Path) -> None:
    world.write(tmp_path / "raw")
    config = make_config(SHAPE, split=SPLIT, population=world.config.population.model_dump() | {"min_active_days": 6})
    with pytest.raises(UserError, match=r"no advertiser is active on population\.min_active_days = 6 of the 5 days"):
        try_build(spark, config, raw=str(tmp_path / "raw"))

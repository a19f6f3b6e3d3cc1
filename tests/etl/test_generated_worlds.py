"""Whole builds of generated worlds against the oracle, every row of them.

A build costs seconds whatever its size, so one world holds many generated advertisers and a failure names the row
instead of being shrunk.
"""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, note, settings
from pyspark.sql import SparkSession

from etl.build import build_dataset, build_day
from m2m_model.contracts.drift import Histograms
from m2m_model.contracts.schema import sorted_rows_hash
from tests.etl.compare import compare
from tests.etl.generated import worlds
from tests.etl.published import feature_hash, read_rows, read_spec
from tests.etl.reference import Reference

pytestmark = [pytest.mark.spark, pytest.mark.slow]
EXAMPLES = 8


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(case=worlds(advertisers=40))
def test_generated_worlds(spark: SparkSession, case: tuple) -> None:  # type: ignore[type-arg]
    world, known = case
    note(f"{world.config.raw} {world.config.sequence} {world.config.split} {world.config.population} {known}")
    with tempfile.TemporaryDirectory() as name:
        raw, out = world.write(Path(name, "raw")), Path(name, "out")
        manifest = build_dataset(spark, world.config, raw=raw, out=str(out), as_known_at=known)
        reference, spec = Reference.of_world(world, known), read_spec(out, manifest)
        assert compare(reference, out, manifest) == manifest.rows
        day = reference.as_of_days["test"][0]
        if reference.keys("live", day) and world.config.population.evaluate == "live":
            trained_on = Histograms.beside(out / "spec.json", spec)
            features = build_day(
                spark,
                world.config,
                spec,
                date=day,
                raw=raw,
                out=str(out / "day"),
                as_known_at=known,
                trained_on=trained_on,
            )
            assert features.content["drift"].keys() == {"features"}
            whole = read_rows(out, manifest, split="test", dt=day.isoformat())
            assert sorted_rows_hash(read_rows(out / "day", features)) == feature_hash(whole)

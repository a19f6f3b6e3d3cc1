"""A scenario that is held out: unknown in training and validation, and in the test split as one that came later."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pyspark.sql import SparkSession

from etl.build import build_dataset
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import KEYS
from m2m_model.contracts.spec import OUT_OF_VOCABULARY_ID
from tests.etl.published import live_manifest, read_rows, read_spec
from tests.etl.raw_world import Shape, make_world

pytestmark = pytest.mark.spark
SHAPE = Shape(seed=6, advertisers=10)
RATIO = (6, 2, 2)
LABELS = ("label_", "history_")


def eligible_rows(out: Path, split: str) -> pa.Table:
    manifest = live_manifest(out)
    rows = read_rows(out, manifest.model_copy(update={"files": manifest.select(split=split)}))
    return rows.filter(rows["eligible"]).sort_by([(key, "ascending") for key in KEYS])


def test_a_held_out_scenario_is_new_in_the_test_split(spark: SparkSession, tmp_path: Path) -> None:
    whole = make_world(SHAPE, split={"ratio": RATIO})
    raw = whole.write(tmp_path / "raw")
    build_dataset(spark, whole.config, raw=raw, out=str(tmp_path / "whole"))
    everywhere = read_spec(tmp_path / "whole", live_manifest(tmp_path / "whole")).scenarios
    held_out = everywhere[-1]
    part = make_world(SHAPE, split={"ratio": RATIO, "hold_out": [held_out]})
    for row in part.tables["scenarios"]:
        if row["scenario_id"] == held_out:
            row["medium"] = "hologram"
    build_dataset(spark, part.config, raw=part.write(tmp_path / "odd"), out=str(tmp_path / "part"))
    spec = read_spec(tmp_path / "part", live_manifest(tmp_path / "part"))
    assert spec.scenarios == everywhere[:-1]
    assert all(column.scenario != held_out for column in (*spec.behavior, *spec.performance))
    for split in ("train", "validation", "test"):
        found, wanted = eligible_rows(tmp_path / "part", split), eligible_rows(tmp_path / "whole", split)
        assert held_out in wanted["scenario_id"].to_pylist()
        if split != "test":
            wanted = wanted.filter(pc.not_equal(wanted["scenario_id"], held_out))
        same = [*KEYS, "active_days", *(name for name in wanted.column_names if name.startswith(LABELS))]
        assert found.select(same).equals(wanted.select(same))
        indices = [spec.scenario_index(name) for name in found["scenario_id"].to_pylist()]
        assert found["scenario_index"].to_pylist() == indices
    assert spec.scenario_index(held_out) == 0
    new = found.filter(pc.equal(found["scenario_id"], held_out))["attribute_ids"].to_pylist()
    assert {ids[0] for ids in new} == {OUT_OF_VOCABULARY_ID}


def test_a_scenario_to_hold_out_must_be_known(spark: SparkSession, tmp_path: Path) -> None:
    world = make_world(SHAPE, split={"ratio": RATIO, "hold_out": ["radio"]})
    with pytest.raises(UserError, match=r"split.hold_out must be among .*, however: 'radio'"):
        build_dataset(spark, world.config, raw=world.write(tmp_path / "raw"), out=str(tmp_path / "out"))

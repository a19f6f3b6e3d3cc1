"""A partitioned table in Hive's own metastore, as on a platform: the same day, opened by partition."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from etl.build import build_dataset, history
from etl.inputs import changed_parts
from m2m_model.contracts.schema import sorted_rows_hash
from tests.etl.partitioned import filed_day, partitioned, write_partitioned
from tests.etl.published import feature_hash, live_manifest, read_rows, read_spec
from tests.etl.raw_world import DAY, Shape, make_world

pytestmark = pytest.mark.spark
SHAPE = Shape(seed=12, advertisers=6, length=6, history_weeks=1, horizon=2)
SPLIT = {"ratio": (6, 2, 2), "train_stride": 10, "validation_stride": 5, "test_stride": 2}
JOB = """
import datetime, json, sys
from etl.build import build_day, snapshot_span
from etl.config import EtlConfig, SparkConfig
from etl.inputs import list_inputs
from etl.session import build_session
from m2m_model.contracts.spec import DatasetSpec

config, raw, spec, date, out, conf = sys.argv[1:]
spark = build_session(SparkConfig(master="local[1]", conf=json.loads(conf)), "hive")
config, spec, date = EtlConfig.model_validate_json(config), DatasetSpec.read(spec), datetime.date.fromisoformat(date)
spark.sql("SET hive.exec.dynamic.partition.mode=nonstrict")
frame = spark.read.parquet(raw + "/behavior")
columns = ", ".join(f"{name} {kind}" for name, kind in frame.dtypes if name != "dt")
spark.sql(f"CREATE TABLE behavior ({columns}) PARTITIONED BY (dt string) STORED AS PARQUET")
frame.withColumn("dt", frame.dt.cast("string")).write.insertInto("behavior")
build_day(spark, config, spec, date=date, raw=raw, out=out)
days = json.loads(open(out + "/manifest.json").read())["content"]["raw_days"]
spark.sql(f"INSERT INTO behavior SELECT * FROM behavior WHERE dt = '{days[1]}'")
facts, snapshots = tuple(map(datetime.date.fromisoformat, days)), snapshot_span(spec, date)
print(json.dumps(list_inputs(spark, config.raw, root=raw).versions(facts=facts, snapshots=snapshots)))
"""


def test_a_hive_table_gives_the_same_day_and_knows_what_changed(spark: SparkSession, tmp_path: Path) -> None:
    world = make_world(SHAPE, split=SPLIT)
    raw, config, out = write_partitioned(world, tmp_path / "raw"), partitioned(world.config), tmp_path / "out"
    manifest = build_dataset(spark, config, raw=raw, out=str(out))
    date = config.raw.last_day - SHAPE.horizon * DAY
    whole = read_rows(out, manifest, split="test", dt=str(date))
    behavior = config.raw.facts["behavior"].model_copy(update={"path": "table:behavior"})
    hive = config.model_copy(
        update={"raw": config.raw.model_copy(update={"facts": config.raw.facts | {"behavior": behavior}})}
    )
    conf = {
        "spark.sql.catalogImplementation": "hive",
        "spark.sql.warehouse.dir": str(tmp_path / "warehouse"),
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={tmp_path / 'derby'};create=true",
        "spark.sql.shuffle.partitions": "1",
        "spark.driver.memory": "1g",
    }
    arguments = [
        hive.model_dump_json(),
        raw,
        str(out / "spec.json"),
        str(date),
        str(tmp_path / "day"),
        json.dumps(conf),
    ]
    done = subprocess.run(
        [sys.executable, "-c", JOB, *arguments], check=False, capture_output=True, text=True, cwd=tmp_path, timeout=240
    )
    assert done.returncode == 0, done.stderr
    built = live_manifest(tmp_path / "day", "features")
    assert sorted_rows_hash(read_rows(tmp_path / "day", built)) == feature_hash(whole)
    first, last = history(read_spec(out, manifest), date)
    days = {filed_day("behavior", row) for row in world.tables["behavior"]}
    assert list(built.content["inputs"]["behavior"]) == sorted(str(day) for day in days if first <= day <= last + DAY)
    now = json.loads(done.stdout.splitlines()[-1])
    assert changed_parts(built.content["inputs"], now) == {"behavior": [str(last)]}

"""Generated raw tables on real Spark: partitions do not matter, the ETL builds on them, floors are computed."""

import datetime
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from etl.build import build_dataset
from etl.config import EtlConfig
from etl.sources.synthetic.floors import write_truth
from etl.sources.synthetic.generate import generate
from etl.sources.synthetic.parameters import Parameters
from etl.sources.synthetic.truth import TASKS
from jobs.config import RunConfig
from jobs.floors import FloorRow, floor_rows
from m2m_model.contracts.errors import UserError
from tests.etl.published import read_rows

CONFIG = Path(__file__).parents[3] / "jobs" / "configs" / "synthetic.toml"
DAYS = 80
KEYS = ["advertiser_id", "scenario_id", "as_of"]
pytestmark = pytest.mark.spark


def _config(*changes: str) -> EtlConfig:
    last = datetime.date(2019, 12, 10) + datetime.timedelta(days=DAYS - 1)
    size = (
        "synthetic.advertisers=520",
        "sequence.length=20",
        "synthetic.bad_rate=0.01",
        "dataset.shards=2",
        "synthetic.floors.particles=12",
    )
    run = RunConfig.read(CONFIG, [*size, f"raw.last_day={last}", "synthetic.floors.draws=120", *changes])
    table = run.model_dump(include=set(EtlConfig.model_fields))
    table["split"] = {"ratio": (5, 1, 1), "train_stride": 9}
    return EtlConfig.model_validate(table)


@pytest.fixture(scope="module")
def raw(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:  # type: ignore[type-arg]
    folder = tmp_path_factory.mktemp("synthetic")
    config = _config()
    return folder, generate(spark, config, folder=str(folder), partitions=1)


@pytest.fixture(scope="module")
def dataset(spark: SparkSession, raw: tuple[Path, dict], tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def, type-arg]
    out = tmp_path_factory.mktemp("dataset")
    return out, build_dataset(spark, _config(), raw=str(raw[0]), out=str(out))


def _files(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }


def test_partitions_change_no_byte(spark: SparkSession, raw: tuple[Path, dict], tmp_path: Path) -> None:  # type: ignore[type-arg]
    config = _config()
    made = generate(spark, config, folder=str(tmp_path), partitions=4)
    assert _files(tmp_path) == _files(raw[0])
    assert made == raw[1]
    assert len(_files(tmp_path)) == 3 * 2 + 1


def test_what_was_made_is_stated(raw: tuple[Path, dict]) -> None:  # type: ignore[type-arg]
    folder, made = raw
    assert made["parameters"] == Parameters().digest
    for name, rows in made["rows"].items():
        assert pq.ParquetDataset(folder / name).read(columns=[]).num_rows == rows
    json.dumps(made)


def test_the_build_drops_what_was_put_in(dataset, raw: tuple[Path, dict]) -> None:  # type: ignore[no-untyped-def, type-arg]
    assert dataset[1].content["dropped"] == raw[1]["bad"]


def test_the_new_scenario_is_live_from_its_first_snapshot(dataset) -> None:  # type: ignore[no-untyped-def]
    folder, manifest = dataset
    launch = datetime.date(2019, 12, 10) + datetime.timedelta(days=int(DAYS * Parameters().launch_at))
    for split in ("train", "validation", "test"):
        rows = read_rows(folder, manifest, split=split)
        new = rows.filter(pa.compute.equal(rows["scenario_id"], "star_shop"))
        assert all(day >= launch for day in new["as_of"].to_pylist())
        assert (split == "train") or len(new) > 0


@pytest.fixture(scope="module")
def samples(dataset) -> pa.Table:  # type: ignore[no-untyped-def]
    rows = read_rows(dataset[0], dataset[1], split="test")
    rows = rows.filter(rows["eligible"]).select([*KEYS, *(f"label_{task}" for task in TASKS)])
    return rows.sort_by([(key, "ascending") for key in KEYS])


def test_nothing_observable_beats_the_truth(spark: SparkSession, samples: pa.Table, tmp_path: Path) -> None:
    config = _config()
    files = write_truth(spark, config, samples, folder=str(tmp_path))
    truth = pa.concat_tables([pq.read_table(tmp_path / name) for name in files])
    rows = list(floor_rows(truth, samples, parts=4))
    cells = {(row.floor, row.scenario, row.task): row for row in rows}
    assert len(cells) == len(rows)
    last_week = _metrics_of_zero(samples)
    for task in TASKS:
        bayes, observable = (cells[floor, "overall", task] for floor in ("bayes", "observable"))
        noise = 3 * math.hypot(bayes.nmae_se, observable.nmae_se)  # few particles here: Monte Carlo error counts
        assert 0 < bayes.nmae < observable.nmae + noise + 0.05, task
        noise = 3 * math.hypot(bayes.smape_se, observable.smape_se)
        assert 0 < bayes.smape < observable.smape + noise + 0.05, task
        search = cells["bayes", "sponsored_search", task]
        assert search.nmae < last_week[task]
        assert 0 < search.nmae_se < 0.05
    total: FloorRow = cells["bayes", "overall", "overall"]
    assert total.n == len(TASKS) * len(samples)


def _metrics_of_zero(samples: pa.Table) -> dict[str, float]:
    """NMAE of the best constant forecast per task in the head scenario."""
    chosen = samples.filter(pa.compute.equal(samples["scenario_id"], "sponsored_search"))
    labels = {task: chosen[f"label_{task}"].to_numpy() for task in TASKS}
    return {task: float(np.abs(y - np.median(y)).sum() / y.sum()) for task, y in labels.items()}


def test_labels_of_another_world_are_refused(spark: SparkSession, samples: pa.Table, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="must be what the synthetic world of this config brought about"):
        write_truth(spark, _config("synthetic.seed=99"), samples, folder=str(tmp_path))


def test_another_time_zone_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    config = _config("raw.timezone=UTC")
    with pytest.raises(UserError, match=r"raw\.timezone must be 'Asia/Shanghai'"):
        generate(spark, config, folder=str(tmp_path))

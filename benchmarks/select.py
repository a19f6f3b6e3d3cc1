"""Nine million prediction rows to a list, as jobs/select_rewarded.py does it: python -m benchmarks.select

Writes a day's features and predictions for 1.8 million advertisers in five scenarios, as far as a list needs them, then
selects from them in a process of its own, and prints seconds by the clock, processor seconds and the peak of its
memory.
"""

import argparse
import datetime
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from m2m_model.contracts.schema import QUANTILES
from m2m_model.contracts.spec import ActivitySpec, DatasetSpec, TaskSpec
from m2m_model.contracts.store import Folder, Manifest, data_path, new_generation, publish
from training.engagement.config import ListConfig, RewardConfig
from training.engagement.publish import described, publish_list
from training.scoring import write_parquet

DAY = datetime.date(2024, 5, 1)
SCENARIOS = ("search", "display", "shop", "feed", "brand")
TASK, WEEKS = "active_days", 5
RULE = ListConfig(
    at_most=2.0,
    budget=10_000,
    reward=RewardConfig(task=TASK),
    minimum_scale={TASK: 3.0},
    exclude=tuple(str(advertiser) for advertiser in range(0, 100_000, 100)),
    cool_down_days=7,
)
SPEC = DatasetSpec(
    timezone="UTC",
    sequence_length=40,
    horizon=7,
    availability_lag_days=0,
    history_weeks=WEEKS,
    advertiser_id_type="bigint",
    scenarios=SCENARIOS,
    behavior=(),
    performance=(),
    profile=(),
    scenario_attributes=(),
    tasks=(TaskSpec(name=TASK, unit="days", table="p", expr="1", scale=0, daily_max=1, mean_label=2.0, max_label=7.0),),
    activity=ActivitySpec(table="p", expr="count(*) > 0", min_active_days=1),
)


def write_day(root: Path, *, rows: int, files: int) -> None:
    """Publish features and predictions of the day below ``root``; all rows of an advertiser are in one file."""
    folders = {kind: Folder.at(root / kind / f"dt={DAY}") for kind in ("features", "predictions")}
    generations = {kind: new_generation() for kind in folders}
    spec = folders["features"].write_bytes(data_path(generations["features"], "spec.json"), SPEC.to_json().encode())
    entries = {"features": [spec.model_copy(update={"partition": {"role": "spec"}})], "predictions": []}
    advertisers = rows // files // len(SCENARIOS)
    for number in range(files):
        tables = _tables(advertisers, first=number * advertisers, random=np.random.default_rng(number))
        for kind, table in zip(entries, tables, strict=True):
            path = data_path(generations[kind], f"part-{number}.parquet")
            entries[kind].append(
                write_parquet(folders[kind], path, table.schema, iter([table]), partition={"dt": str(DAY)})
            )
    content = {"features_generation": generations["features"], "model_version": "generated"}
    for kind, folder in folders.items():
        manifest = Manifest(
            kind=kind, generation=generations[kind], created_at="", files=tuple(entries[kind]), content=content
        )
        publish(folder, manifest)


def _tables(advertisers: int, *, first: int, random: np.random.Generator) -> tuple[pa.Table, pa.Table]:
    rows = advertisers * len(SCENARIOS)
    active = random.binomial(40, random.beta(0.4, 0.8, rows)).astype(np.int16)
    mean = np.clip(active / 40 * 7 * random.lognormal(0, 0.3, rows), 0, 7)
    keys = {
        "advertiser_id": np.repeat(np.arange(first, first + advertisers), len(SCENARIOS)),
        "scenario_id": pa.array(list(SCENARIOS) * advertisers),
        "as_of": pa.array([DAY] * rows, pa.date32()),
    }
    history = np.repeat(active[:, None] / 6.0, WEEKS + 1, axis=1)
    history[:, -1] = active
    lists = pa.ListArray.from_arrays(np.arange(0, history.size + 1, WEEKS + 1, dtype=np.int32), history.ravel())
    features = keys | {"eligible": active > 0, "active_days": active, f"history_{TASK}": lists}
    quantiles = {f"{TASK}_{name}": np.clip(2 * level * mean, 0, 7) for name, level in QUANTILES.items()}
    version = pa.array(["generated"] * rows)
    return pa.table(features), pa.table(keys | {f"{TASK}_mean": mean} | quantiles | {"model_version": version})


def select(root: Path) -> None:
    """Select in this process and print what it took."""
    started = time.monotonic()
    manifest = publish_list(
        "rewarded",
        RULE,
        date=DAY,
        features=str(root / "features" / f"dt={DAY}"),
        predictions=str(root / "predictions" / f"dt={DAY}"),
        lists=str(root / "lists"),
        grace_seconds=0.0,
    )
    used = resource.getrusage(resource.RUSAGE_SELF)
    took = {
        "clock_s": round(time.monotonic() - started, 1),
        "processor_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_mib": used.ru_maxrss // 1024,
    }
    print(described(manifest))
    print(json.dumps(took))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=9_000_000)
    parser.add_argument("--files", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_day(Path(folder), rows=arguments.rows, files=arguments.files)
        process = multiprocessing.get_context("spawn").Process(target=select, args=(Path(folder),))
        process.start()
        process.join()


if __name__ == "__main__":
    main()

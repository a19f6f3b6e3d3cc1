"""Scores one file of a feature day with ``training.scoring.Predict``; prints one JSON object."""

import argparse
import json
import tempfile
import time
from dataclasses import replace

import numpy as np
import torch

from benchmarks.train.bmm_twin import BmmUnit, bmm_twin
from benchmarks.train.measure import FORWARD_BACKWARD, resident_bytes, useful_flops
from benchmarks.train.world import paper_config, paper_spec
from m2m_model.contracts.store import Folder, read_manifest
from m2m_model.zoo.m2m import M2M
from m2m_model.zoo.registry import build_model
from training.config import PredictConfig
from training.forecast import ForecastRules, PointRule, TaskRule
from training.published import parquet_files
from training.scoring import ROWS_AT_A_TIME, ModelForecaster, Predict, Source, knowledge_order


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--part", type=int, required=True)
    parser.add_argument("--form", choices=["fast", "bmm"], required=True)
    parser.add_argument("--shared", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--rate", type=float, required=True, help="of a large product here, operations per second")
    parser.add_argument("--limit", type=int, help="rows scored with the twin, which takes a minute for a few thousand")
    parser.add_argument("--window", type=int, default=PredictConfig().batch_size, help="rows in memory at a time")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    spec = paper_spec()
    fast = build_model(paper_config(shared=arguments.shared), spec)
    assert isinstance(fast.body, M2M)
    forecaster = ModelForecaster(fast, "bf16" if arguments.bf16 else "fp32")
    source = Source(location=arguments.folder, spec=spec, batch_size=arguments.window)
    manifest = read_manifest(Folder.at(arguments.folder), kind="features", build_hint="")
    entry = parquet_files(manifest)[arguments.part]
    some = source.batch(next(source.tables(entry)))
    sample = some.select(slice(0, 1024))
    change = np.abs(forecaster(sample).mean - ModelForecaster(fast)(sample).mean).max()
    flops = sum(
        useful_flops(fast.body, some.select(rows)) / FORWARD_BACKWARD
        for rows in torch.split(knowledge_order(some), ROWS_AT_A_TIME)
    )
    if arguments.form == "bmm":
        twin = bmm_twin(fast)
        for part in twin.modules():
            if arguments.bf16 and isinstance(part, BmmUnit):
                part.bfloat16()  # as ours: autocast would round them for every batch anew
        forecaster, source = ModelForecaster(twin, forecaster.precision), replace(source, batch_size=256)
    point = PointRule(tasks={task: TaskRule(threshold=0.5, scale=1.0) for task in spec.task_names})
    rules = ForecastRules(point=point, smape=point)
    start, cpu, rows = time.perf_counter(), time.process_time(), 0
    with tempfile.TemporaryDirectory() as out:
        predict = Predict(
            source=source,
            forecaster=forecaster,
            rules=rules,
            version="v",
            out=out,
            generation="generation",
        )
        if arguments.limit:
            tables = source.tables(entry)
            while rows < arguments.limit:
                table = next(tables)
                forecaster(source.batch(table))
                rows += len(table)
        else:
            rows = predict(entry).rows
    cpu = time.process_time() - cpu
    print(
        json.dumps(
            {
                "rows": rows,
                "cpu_s": cpu,
                "wall_s": time.perf_counter() - start,
                "peak_rss_mib": resident_bytes(peak=True) / 2**20,
                "roofline_fraction": flops / len(some) * rows / cpu / arguments.rate,
                "largest_change": float(change),
            }
        )
    )


if __name__ == "__main__":
    main()

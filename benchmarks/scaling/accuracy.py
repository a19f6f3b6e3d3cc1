"""Accuracy of the ways to synchronise on a real dataset: equal epochs, several seeds, every n-th as-of day.

Prints a line per run (in the order of seeds, then modes) and, last, one JSON object: per mode the validation losses and
the test NMAE of the mean forecast (macro over task x scenario cells, eligible pairs), by seed.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks.scaling.group import Group, run
from m2m_model.config import ModelConfig
from m2m_model.contracts.config import read_toml
from m2m_model.contracts.store import Folder, Manifest, publish, read_manifest
from m2m_model.zoo.registry import build_model
from training.config import TrainConfig
from training.metrics import HEADLINE, OVERALL, MetricSums
from training.published import parquet_files, read_spec
from training.scoring import ModelForecaster, Source, score_rows

MODES: dict[str, dict[str, Any]] = {
    "ddp": {},
    "ddp_bf16": {"all_reduce": "bf16"},
    "local_sgd_8": {"sync": "local_sgd", "sync_period": 8},
    "async_16": {"sync": "async", "staleness": 16},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--config", type=Path, default=Path("jobs/configs/complete_journey.toml"))
    parser.add_argument("--work", default="out/bench/accuracy")
    parser.add_argument("--every", type=int, default=4, help="as-of days: every n-th of each split")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    arguments = parser.parse_args()
    table = read_toml(arguments.config)
    model, base = ModelConfig.model_validate(table["model"]), table["train"]
    rows = thin(arguments.dataset, arguments.work, arguments.every)
    print(f"{rows} training rows, {arguments.workers} workers, {base['epochs']} epochs", flush=True)
    torch.set_num_threads(1)
    groups = [
        Group(
            name=name,
            dataset=arguments.work,
            model=model,
            train=TrainConfig.model_validate({**base, **MODES[name], "seed": seed}),
            workers=arguments.workers,
            shuffle_blocks=4,
        )
        for seed in arguments.seeds
        for name in arguments.modes
    ]
    results: dict[str, dict[str, list[float]]] = {name: {"validation": [], "nmae": []} for name in arguments.modes}
    for outcome in run(groups):
        result = results[outcome.name]
        losses = [epoch.validation for epoch in outcome.history if epoch.validation is not None]
        result["validation"].append(round(min(losses), 5))
        result["nmae"].append(round(test_nmae(arguments.work, model, outcome.weights), 5))
    print(json.dumps({"training_rows": rows, "workers": arguments.workers, "epochs": base["epochs"], **results}))


def thin(location: str, out: str, every: int) -> int:
    """Publish every n-th as-of day of a dataset at ``out``; returns the training rows that are left."""
    source, target = Folder.at(location), Folder.at(out)
    manifest = read_manifest(source, kind="dataset", build_hint="run jobs/build_dataset.py first")
    kept = [file for file in manifest.files if "split" not in file.partition]
    for split in ("train", "validation", "test"):
        files = manifest.select(split=split)
        days = sorted({file.partition["dt"] for file in files})[::every]
        kept += [file for file in files if file.partition["dt"] in days]
    for file in kept:
        target.write_bytes(file.path, source.read_bytes(file.path))
    thinned = Manifest(kind="dataset", generation=manifest.generation, created_at="", files=tuple(kept))
    publish(target, thinned)
    return sum(file.rows for file in thinned.select(split="train"))


def test_nmae(location: str, config: ModelConfig, weights: dict[str, torch.Tensor]) -> float:
    folder = Folder.at(location)
    manifest = read_manifest(folder, kind="dataset", build_hint="")
    spec = read_spec(folder, manifest)
    model = build_model(config, spec)
    model.load_state_dict(weights)
    source, sums = Source(location=location, spec=spec, batch_size=4096), MetricSums(tasks=spec.task_names)
    for file in parquet_files(manifest, split="test"):
        for table in source.tables(file):
            scored = score_rows(table, source, ModelForecaster(model))
            sums.add(scored.scenarios, scored.eligible, scored.active_days, scored.forecasts.mean, scored.labels)
    rows = sums.rows(model=config.name, forecast="mean")
    return next(r.nmae for r in rows if (r.segment, r.scenario, r.task) == (HEADLINE, OVERALL, OVERALL))


if __name__ == "__main__":
    main()

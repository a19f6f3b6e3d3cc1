"""Accuracy of the ways to synchronise on a real dataset: equal epochs, several seeds.

Every seed's results are kept in ``--results`` when it is done, and not measured again. Prints, per mode and metric, its
mean over seeds and the difference from the first mode, paired by seed, with a 95 % interval of Student; last, one JSON
object with the figures of every seed: best validation loss, test NMAE and SMAPE of the forecasts that are aimed at them
(macro over task x scenario cells, eligible pairs; forecast rules fitted on each run's own validation rows).
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student_t

from benchmarks.scaling.group import Group, run
from m2m_model.config import ModelConfig
from m2m_model.contracts.config import read_toml
from m2m_model.contracts.store import Folder, Manifest, publish, read_manifest
from m2m_model.zoo.registry import build_model
from training.config import TrainConfig
from training.metrics import AIMED, HEADLINE, OVERALL
from training.published import parquet_files, read_spec
from training.row_sums import RowSums
from training.scoring import Collect, ModelForecaster, Scored, Source

MODES: dict[str, dict[str, Any]] = {
    "ddp": {},
    "ddp_bf16": {"all_reduce": "bf16"},
    "local_sgd_8": {"sync": "local_sgd", "sync_period": 8},
    "async_16": {"sync": "async", "staleness": 16},
}
METRICS = ("validation", *AIMED)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--config", type=Path, default=Path("jobs/configs/best.toml"))
    parser.add_argument("--work", default="out/bench/accuracy")
    parser.add_argument("--every", type=int, default=1, help="as-of days: every n-th of each split")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["ddp", "local_sgd_8", "async_16"])
    parser.add_argument("--results", type=Path, default=Path("out/bench/accuracy.json"))
    arguments = parser.parse_args()
    table = read_toml(arguments.config)
    model, base = ModelConfig.model_validate(table["model"]), table["train"]
    rows = thin(arguments.dataset, arguments.work, arguments.every)
    print(f"{rows} training rows, {arguments.workers} workers, {base['epochs']} epochs", flush=True)
    torch.set_num_threads(1)
    kept: dict[str, dict[str, dict[str, float]]] = {}
    if arguments.results.exists():
        kept = json.loads(arguments.results.read_text())
    for seed in map(str, arguments.seeds):
        of_seed = kept.setdefault(seed, {})
        groups = [
            Group(
                name=name,
                dataset=arguments.work,
                model=model,
                train=TrainConfig.model_validate({**base, **MODES[name], "seed": int(seed)}),
                workers=arguments.workers,
                shuffle_blocks=4,
            )
            for name in arguments.modes
            if name not in of_seed
        ]
        for outcome in run(groups) if groups else ():
            losses = [epoch.validation for epoch in outcome.history if epoch.validation is not None]
            errors = test_errors(arguments.work, model, outcome.weights)
            of_seed[outcome.name] = {"validation": min(losses), **errors}
            print(f"{outcome.name}, seed {seed}: {of_seed[outcome.name]}", flush=True)
        arguments.results.parent.mkdir(parents=True, exist_ok=True)
        arguments.results.write_text(json.dumps(kept, indent=1))
    report([kept[str(seed)] for seed in arguments.seeds], arguments.modes)
    print(json.dumps({"training_rows": rows, "workers": arguments.workers, "epochs": base["epochs"], "seeds": kept}))


def report(seeds: list[dict[str, dict[str, float]]], modes: list[str]) -> None:
    for metric in METRICS:
        values = {mode: np.array([of_seed[mode][metric] for of_seed in seeds]) for mode in modes}
        for mode, of_mode in values.items():
            differences = of_mode - values[modes[0]]
            half = np.nan
            if len(seeds) > 1:
                half = student_t.ppf(0.975, len(seeds) - 1) * differences.std(ddof=1) / len(seeds) ** 0.5
            print(
                f"{metric:10s} {mode:12s} {of_mode.mean():.4f} ({of_mode.min():.4f} .. {of_mode.max():.4f}), minus "
                f"{modes[0]} {differences.mean():+.4f} ({differences.mean() - half:+.4f} .. "
                f"{differences.mean() + half:+.4f})"
            )


def thin(location: str, out: str, every: int) -> int:
    """Publish every n-th as-of day of a dataset at ``out``; returns the training rows that are left."""
    source, target = Folder.at(location), Folder.at(out)
    manifest = read_manifest(source, kind="dataset", build_hint="run m2m build first")
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


def test_errors(location: str, config: ModelConfig, weights: dict[str, torch.Tensor]) -> dict[str, float]:
    """Test NMAE and SMAPE, each of the forecast that is aimed at it."""
    folder = Folder.at(location)
    manifest = read_manifest(folder, kind="dataset", build_hint="")
    spec = read_spec(folder, manifest)
    model = build_model(config, spec)
    model.load_state_dict(weights)
    source = Source(location=location, spec=spec, batch_size=4096)
    collect = Collect(source=source, forecaster=ModelForecaster(model))
    rules = Scored.concatenate([collect(file) for file in parquet_files(manifest, split="validation")]).fit_rules(spec)
    sums = RowSums.empty(spec)
    for file in parquet_files(manifest, split="test"):
        sums.add(collect(file), rules, left_out=None)
    errors: dict[str, float] = {}
    for metric, forecast in AIMED.items():
        rows = sums.errors[forecast].rows(model=config.name, forecast=forecast)
        overall = next(row for row in rows if (row.segment, row.scenario, row.task) == (HEADLINE, OVERALL, OVERALL))
        errors[metric] = float(getattr(overall, metric))
    return errors


if __name__ == "__main__":
    main()

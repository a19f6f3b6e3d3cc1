"""Does drawing batches in which keys repeat, or bf16, cost accuracy? Paired runs over seeds on a published dataset.

    python -m benchmarks.train.accuracy --dataset out/demo/dataset --seeds 5 --epochs 2 --every 3

Prints one JSON line a run: variant, seed, validation loss, test loss, and test NMAE of mean forecasts over tasks.
Letters: N rows, M tasks.
"""

import argparse
import json
import os
import time
from dataclasses import replace

import numpy as np
import torch

from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Folder, read_manifest
from m2m_model.losses import JointLoss
from m2m_model.output import VALUE
from m2m_model.zoo.registry import build_model
from training.config import ReaderConfig, TrainConfig
from training.dataset import label_statistics, open_split
from training.loop import Loop, task_weights
from training.predict import read_spec
from training.readers.base import Reader
from training.readers.registry import open_reader

MODEL = ModelConfig(
    embedding_dim=8,
    view_dim=32,
    knowledge_dim=16,
    meta_layers=2,
    tower_layers=1,
    pool="mean",
    dense_inputs=True,
    offset="history",
)
"""The demo's, jobs/configs/complete_journey.toml, but for the pooling: a fifth of the work."""
VARIANTS = {
    "random": (ReaderConfig(shuffle_blocks=64), "fp32"),
    "grouped": (ReaderConfig(shuffle_blocks=64, group_rows=16), "fp32"),
    "bf16": (ReaderConfig(shuffle_blocks=64), "bf16"),
}


def run(dataset: str, spec: DatasetSpec, variant: str, seed: int, *, epochs: int, every: int) -> dict[str, object]:
    """Train and test one variant; ``every`` keeps one of so many files of each split."""
    reader_config, precision = VARIANTS[variant]
    config = TrainConfig(seed=seed, epochs=epochs, batch_size=512, early_stopping_patience=99, precision=precision)
    readers = {s: _reader(dataset, spec, reader_config, s, config, every) for s in ("train", "validation", "test")}
    torch.manual_seed(seed)
    model = build_model(MODEL, spec)
    statistics = label_statistics(open_split(dataset, "train"), spec)
    joint = JointLoss(model, config.loss, weights=task_weights(spec, config), statistics=statistics)
    loop = Loop(
        model=model,
        loss=joint,
        spec=spec,
        config=config,
        train=readers["train"],
        validation=readers["validation"],
        save=lambda snapshot: None,
        tell=lambda event: None,
    )
    start = time.process_time()
    snapshot = loop.run()
    assert snapshot.best is not None
    loop.model.load_state_dict(snapshot.best)
    loss, errors, totals, rows = 0.0, np.zeros(len(spec.tasks)), np.zeros(len(spec.tasks)), 0
    with torch.inference_mode():
        for batch, _ in readers["test"].epoch(0):
            parameters = model(batch)
            loss += joint(parameters, batch).item()
            errors += (parameters[..., VALUE].exp() - batch.labels).abs().sum(0).numpy()
            totals += batch.labels.sum(0).numpy()
            rows += len(batch)
    return {
        "variant": variant,
        "seed": seed,
        "validation": min(epoch.validation for epoch in snapshot.state.history),
        "test": loss / rows,
        "test_nmae": float((errors / totals).mean()),
        "cpu_s": round(time.process_time() - start, 1),
    }


def _reader(
    dataset: str, spec: DatasetSpec, config: ReaderConfig, split: str, train: TrainConfig, every: int
) -> Reader:
    reader = open_reader(dataset, spec, config, splits=[split], train=train, rank=0, world=1)
    return replace(reader, split=replace(reader.split, files=reader.split.files[::every]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS))
    arguments = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    folder = Folder.at(arguments.dataset)
    spec = read_spec(folder, read_manifest(folder, kind="dataset", build_hint="run jobs/build_dataset.py first"))
    for seed in range(arguments.seeds):
        for variant in arguments.variants:
            outcome = run(arguments.dataset, spec, variant, seed, epochs=arguments.epochs, every=arguments.every)
            print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()

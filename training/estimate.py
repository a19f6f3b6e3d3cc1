"""How fast this machine trains a model, from two steps of it on random rows."""

import time

import numpy as np

from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.model import parameter_count
from m2m_model.zoo.registry import build_model
from training.config import TrainConfig
from training.loop import blank_row
from training.optimizer import make_optimizer


def measure_step(model: ModelConfig, config: TrainConfig, spec: DatasetSpec) -> tuple[int, float]:
    """Parameters of the model, and seconds of a step on one batch in this process, reading and validation left out.

    ``spec`` may lack label statistics.
    """
    tasks = tuple(task.model_copy(update={"mean_label": 1.0, "max_label": 10.0}) for task in spec.tasks)
    spec = spec.model_copy(update={"tasks": tasks})
    module, random = build_model(model, spec), np.random.default_rng(0)
    blank, rows = blank_row(spec), config.batch_size
    sizes = {
        "profile": [feature.size for feature in spec.profile],
        "attributes": [feature.size for feature in spec.scenario_attributes],
    }
    batch = Batch.concatenate([blank] * rows)
    # Distinct knowledge keys are what a step costs; real batches have more of a kind than these.
    for name, limits in sizes.items():
        ids = getattr(batch, name)
        for position, size in enumerate(limits):
            ids[:, position] = ids.new_tensor(random.integers(0, size, rows))
    optimizer = make_optimizer(module, config)
    seconds = []
    for _ in range(2):
        started = time.monotonic()
        module(batch).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.monotonic() - started)
    return parameter_count(module), min(seconds)

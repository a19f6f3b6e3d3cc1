"""All ways to synchronise, by name."""

import importlib

from torch import nn

from training.config import TrainConfig
from training.sync.base import Synchronizer

SYNCHRONIZERS = {
    "ddp": ("training.sync.ddp", "Synchronous"),
    "local_sgd": ("training.sync.local_sgd", "LocalSgd"),
    "async": ("training.sync.asynchronous", "Asynchronous"),
}
"""Imported when chosen: the asynchronous one needs Ray, the others nothing but torch."""


def make_synchronizer(model: nn.Module, config: TrainConfig) -> Synchronizer:
    """What ``config.sync`` names, for the process group that this rank is in."""
    module, name = SYNCHRONIZERS[config.sync]
    synchronizer: Synchronizer = getattr(importlib.import_module(module), name)(model, config)
    return synchronizer

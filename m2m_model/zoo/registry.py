"""All models, by name. A new one is one file and one line here."""

from torch import nn

from m2m_model.config import ModelConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.zoo.m2m import M2M

MODELS: dict[str, type[nn.Module]] = {"m2m": M2M}


def build_model(config: ModelConfig, spec: DatasetSpec) -> nn.Module:
    """A freshly initialised model (the seed is the caller's); its ``forward(Batch)`` gives log-rates [B, M].

    Raises:
        UserError: there is no model of that name.
    """
    if config.name not in MODELS:
        raise UserError(f"model.name must be one of {sorted(MODELS)}, however: {config.name!r}")
    return MODELS[config.name](config, spec)

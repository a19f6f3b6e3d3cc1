"""Sizes and switches of models. The defaults are the paper's (5.1.3 and our reading notes)."""

from typing import Literal

from pydantic import Field

from m2m_model.contracts.config import StrictConfig


class ModelConfig(StrictConfig):
    name: str = "m2m"
    """A key of ``m2m_model.zoo.registry.MODELS``."""
    embedding_dim: int = Field(default=16, ge=1)
    heads: int = Field(default=2, ge=1)
    pool: Literal["flatten", "mean", "last"] = "flatten"
    experts: int = Field(default=4, ge=1)
    view_dim: int = Field(default=256, ge=1)
    """Dimension of expert views and of task views."""
    knowledge_dim: int = Field(default=64, ge=1)
    """d, dimension of the scenario knowledge S~."""
    meta_layers: int = Field(default=3, ge=1)
    """K"""
    tower_layers: int = Field(default=2, ge=1)
    """L"""
    share_meta_across_tasks: bool = False
    transformer: bool = True
    meta_attention: bool = True
    meta_tower: bool = True
    scenario_id_embedding: bool = True
    dense_inputs: bool = False
    """Concatenate the row's dense log1p values to F (4.1.3)."""
    offset: Literal["none", "history"] = "none"
    """``history``: forecasts are exp(z) times 0.1 + the mean of the 7-, 14-, 28- and T-day rates per horizon."""

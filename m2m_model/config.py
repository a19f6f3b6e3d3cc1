"""Sizes and switches of models and of the loss. The defaults are the paper's (5.1.3 and our reading notes)."""

from typing import Literal

from pydantic import Field

from m2m_model.contracts.config import StrictConfig


class ModelConfig(StrictConfig):
    name: str = "m2m"
    """A key of ``m2m_model.zoo.registry.MODELS``."""
    embedding_dim: int = Field(default=16, ge=1)
    sequence_days: int | None = Field(default=None, ge=1)
    """T, how many days of the dataset's sequences and their dense values the model sees, the last; default: all. The
    offset and the history keep the days of the dataset."""
    heads: int = Field(default=2, ge=1)
    pool: Literal["flatten", "mean", "last"] = "flatten"
    experts: int = Field(default=4, ge=1)
    """Expert views; in CGC and PLE those that the tasks share."""
    task_experts: int = Field(default=1, ge=1)
    """Experts of each task's own (CGC, PLE)."""
    extraction_layers: int = Field(default=2, ge=1)
    """Levels of experts (PLE)."""
    view_dim: int = Field(default=256, ge=1)
    """Dimension of expert views and of task views, hence of every tower."""
    knowledge_dim: int = Field(default=64, ge=1)
    """d, dimension of the scenario knowledge S~."""
    meta_layers: int = Field(default=3, ge=1)
    """K"""
    tower_layers: int = Field(default=2, ge=1)
    """L, layers of each task's tower; those of M2M have K generated layers each."""
    share_meta_across_tasks: bool = False
    transformer: bool = True
    meta_attention: Literal["generated", "learned", "none"] = "generated"
    """Its weights: the paper's; learned layers of the same shape with S~ as an input; neither, one layer without S~."""
    meta_tower: Literal["generated", "learned", "none"] = "generated"
    """The same; ``none``: no tower."""
    feature_norm: bool = False
    """LayerNorm of F, so that large advertisers' dense values are of one size with small ones'."""
    feature_gates: bool = False
    """Scale F by gates made from S~, as PEPNet does from its prior (M2M; not in the paper)."""
    scenario_id_embedding: bool = True
    dense_inputs: bool = False
    """Concatenate the row's dense log1p values to F (4.1.3)."""
    history_quartiles: bool = False
    """Concatenate log1p of the quartiles of each task's recent weekly sums to F."""
    offset: Literal["none", "history"] = "none"
    """``history``: forecasts are exp(z) times (0.1 + the mean of the 7-, 14-, 28- and T-day rates per horizon)."""
    distribution: bool = False
    """Further outputs for the predictive distribution and the mean of counts and spends; ``train.loss.distribution``
    trains them."""
    uncertainty_weights: bool = False
    """Learn how much each task's loss weighs (Kendall et al., 2018), beside the fixed lambda_t."""


class LossConfig(StrictConfig):
    """How much each part of a task's loss weighs. The paper's: the likelihood alone, Poisson for all tasks (eq. 20).

    The parts after the first are over counts and spends; rates and binary tasks always have their likelihood alone.
    """

    likelihood: float = Field(default=1.0, ge=0)
    """Poisson of a count, Tweedie of a spend, times lambda_t."""
    l1: float = Field(default=0.0, ge=0)
    """|forecast - label|, a row of a task x scenario cell weighted by (the cell's label sum)^-1/2."""
    l1_log: float = Field(default=0.0, ge=0)
    """|log1p forecast - log1p label|"""
    distribution: float = Field(default=0.0, ge=0)
    """Cross-entropy of the label's bin under the predictive distribution, and the likelihood of the mean beside it;
    needs ``model.distribution``."""

"""M2M: the paper's model, read top to bottom.

Letters: B rows, M tasks, X dimension of F, C id columns of the scenario knowledge.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec, SequenceName
from m2m_model.encoder import SequenceEmbedding
from m2m_model.generated import Runs, group_rows
from m2m_model.layers import ExpertViews, ScenarioKnowledge, TaskViews
from m2m_model.meta import MetaAttention, MetaTower, StaticAttention
from m2m_model.output import LogRate
from m2m_model.sequence import SequenceEncoder

SEQUENCES: tuple[SequenceName, ...] = ("behavior", "performance")


class MetaSizes(TypedDict):
    units: int
    view_dim: int
    knowledge_dim: int
    layers: int


class Trunk(NamedTuple):
    """What tasks have in common; rows in the order of their keys (see ``m2m_model.generated``)."""

    experts: Float[Tensor, "B k V"]
    tasks: Float[Tensor, "M V"]
    knowledge: Float[Tensor, "Q S"]
    history: Float[Tensor, "B M H"]
    runs: Runs
    position: Int[Tensor, "B"]
    """Where each row of the batch lies in that order."""


class M2M(nn.Module):
    """Log-rates of every task for a batch.

    Given the trunk, tasks with meta units of their own have nothing more in common: ``task_groups`` are those that can
    be computed, and trained, one after the other.

    Shape:
        Batch of B rows -> [B, M]

    Raises:
        UserError: ``heads`` does not divide a sequence's embedding, or the spec leaves the model without an input.
    """

    def __init__(self, config: ModelConfig, spec: DatasetSpec) -> None:
        super().__init__()
        self.config = config
        tasks, e = len(spec.tasks), config.embedding_dim
        alone = not config.share_meta_across_tasks and (config.meta_attention or config.meta_tower)
        self.task_groups = [slice(t, t + 1) for t in range(tasks)] if alone else [slice(0, tasks)]
        encoders: dict[str, SequenceEncoder] = {
            name: _sequence_encoder(name, config, spec) for name in SEQUENCES if spec.sequence(name)
        }
        self.sequences = nn.ModuleDict(encoders)
        feature_dim = sum(encoder.output_dim for encoder in encoders.values())
        feature_dim += spec.dense_size if config.dense_inputs else 0
        id_sizes = [feature.size for feature in (*spec.scenario_attributes, *spec.profile)]
        if config.scenario_id_embedding:
            id_sizes = [len(spec.scenarios) + 1, *id_sizes]
        _require_inputs(feature_dim, id_sizes)

        self.experts = ExpertViews(feature_dim, experts=config.experts, view_dim=config.view_dim)
        self.task_views = TaskViews(tasks=tasks, embedding_dim=e, view_dim=config.view_dim)
        self.knowledge = ScenarioKnowledge(id_sizes, embedding_dim=e, knowledge_dim=config.knowledge_dim)

        sizes = MetaSizes(
            units=len(self.task_groups),
            view_dim=config.view_dim,
            knowledge_dim=config.knowledge_dim,
            layers=config.meta_layers,
        )
        self.attention = MetaAttention(**sizes) if config.meta_attention else StaticAttention(view_dim=config.view_dim)
        self.tower = MetaTower(**sizes, tower_layers=config.tower_layers) if config.meta_tower else None
        self.output = LogRate(spec, config.view_dim, offset=config.offset == "history")

    def forward(self, batch: Batch) -> Float[Tensor, "B M"]:
        trunk = self.trunk(batch)
        return torch.cat([self.head(trunk, group) for group in range(len(self.task_groups))], dim=1)

    def trunk(self, batch: Batch) -> Trunk:
        """What all tasks have in common."""
        keys = group_rows(self.knowledge_ids(batch))
        batch = batch.select(keys.order)
        return Trunk(
            experts=self.experts(self.features(batch)),  # E_i, eq. 6
            tasks=self.task_views(),  # T_t, eq. 7
            knowledge=self.knowledge(keys.ids),  # S~, eq. 8
            history=batch.history,
            runs=keys.runs,
            position=keys.order.argsort(),
        )

    def head(self, trunk: Trunk, group: int) -> Float[Tensor, "B N"]:
        """Log-rates of the tasks of one group."""
        tasks = self.task_groups[group]
        x = self.attention(trunk.experts, trunk.tasks[tasks], trunk.knowledge, trunk.runs, unit=group)  # eq. 14-16
        if self.tower is not None:
            x = self.tower(x, trunk.knowledge, trunk.runs, unit=group)  # L_t, eq. 17-18
        log_rates: Tensor = self.output(x, trunk.history, tasks)
        return log_rates[trunk.position]

    def own_parameters(self, group: int) -> Iterator[nn.Parameter]:
        """The parameters of a task group's own meta units."""
        for part in (self.attention, self.tower):
            if isinstance(part, (MetaAttention, MetaTower)):
                yield from part.metas[group].parameters()

    def features(self, batch: Batch) -> Float[Tensor, "B X"]:
        """F = concat(MH(X_b), MH(X_p)), eq. 5, and the dense values of 4.1.3."""
        ids = {"behavior": batch.behavior, "performance": batch.performance}
        parts: list[Tensor] = [encoder(ids[name]) for name, encoder in self.sequences.items()]
        return torch.cat([*parts, batch.dense] if self.config.dense_inputs else parts, dim=-1)

    def knowledge_ids(self, batch: Batch) -> Int[Tensor, "B C"]:
        """S and A of eq. 8; the scenario's own id only if it has an embedding."""
        ids = [batch.attributes, batch.profile]
        if self.config.scenario_id_embedding:
            ids = [batch.scenario.unsqueeze(-1), *ids]
        return torch.cat(ids, dim=-1)


def _sequence_encoder(name: SequenceName, config: ModelConfig, spec: DatasetSpec) -> SequenceEncoder:
    sizes = [column.size for column in spec.sequence(name)]
    embedding = SequenceEmbedding(sizes, spec.sequence_length, config.embedding_dim)
    if config.transformer and embedding.output_dim % config.heads:
        raise UserError(
            f"model.heads must divide the {name} sequence's embedding of {embedding.output_dim} = "
            f"({len(sizes)} features + 1) x model.embedding_dim {config.embedding_dim}, however: {config.heads}; "
            "make model.embedding_dim a multiple of model.heads"
        )
    return SequenceEncoder(embedding, heads=config.heads if config.transformer else 0, how=config.pool)


def _require_inputs(feature_dim: int, id_sizes: list[int]) -> None:
    if not feature_dim:
        raise UserError("a model needs behavior or performance features, however: the spec has none; add one")
    if not id_sizes:
        raise UserError(
            "scenario knowledge needs scenario attributes, profile features or the scenario's id, however: the spec "
            "has none of the first two and model.scenario_id_embedding is false; set it to true"
        )

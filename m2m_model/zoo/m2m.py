"""M2M: the paper's model, read top to bottom.

Letters: B rows, M tasks, N of them, X dimension of F, V view dimension, k expert views, Q distinct keys of scenario
knowledge, S its dimension.
"""

from collections.abc import Iterator
from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from m2m_model.ablations import LearnedUnit, PlainAttention
from m2m_model.backbone import Backbone, knowledge_ids, knowledge_sizes
from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.generated import Runs, group_rows, per_row
from m2m_model.layers import ExpertViews, GateNU, ScenarioKnowledge, TaskViews
from m2m_model.meta import MetaAttention, MetaTower, MetaUnit, Unit


class MetaSizes(TypedDict):
    units: int
    view_dim: int
    knowledge_dim: int
    layers: int


UNITS: dict[str, Unit] = {"generated": MetaUnit, "learned": LearnedUnit}


class Trunk(NamedTuple):
    """What tasks have in common; rows in the order of their keys (see ``m2m_model.generated``)."""

    experts: Float[Tensor, "B k V"]
    tasks: Float[Tensor, "M V"]
    knowledge: Float[Tensor, "Q S"]
    runs: Runs
    position: Int[Tensor, "B"]
    """Where each row of the batch lies in that order."""


class M2M(nn.Module):
    """L_t of every task (eq. 18).

    Given the trunk, tasks with meta units of their own have nothing more in common: ``task_groups`` are those that can
    be computed, and trained, one after the other.

    Shape:
        Batch of B rows -> [B, M, V]

    Raises:
        UserError: the spec leaves the scenario knowledge without an input; see :class:`Backbone` too.
    """

    def __init__(self, config: ModelConfig, spec: DatasetSpec) -> None:
        super().__init__()
        self.config = config
        tasks, e, view_dim = len(spec.tasks), config.embedding_dim, config.view_dim
        attention, tower = (UNITS.get(choice) for choice in (config.meta_attention, config.meta_tower))
        own_units = not config.share_meta_across_tasks and (attention is not None or tower is not None)
        self.task_groups = [slice(t, t + 1) for t in range(tasks)] if own_units else [slice(0, tasks)]
        self.backbone = Backbone(config, spec)
        dim = self.backbone.output_dim
        self.gate = GateNU(config.knowledge_dim + dim, view_dim, dim) if config.feature_gates else None
        self.experts = ExpertViews(dim, experts=config.experts, view_dim=view_dim)
        self.task_views = TaskViews(tasks=tasks, embedding_dim=e, view_dim=view_dim)
        needed = attention is not None or tower is not None or self.gate is not None
        self.knowledge = _knowledge(config, spec) if needed else None

        sizes = MetaSizes(
            units=len(self.task_groups),
            view_dim=view_dim,
            knowledge_dim=config.knowledge_dim,
            layers=config.meta_layers,
        )
        self.attention = MetaAttention(**sizes, of=attention) if attention else PlainAttention(view_dim=view_dim)
        self.tower = MetaTower(**sizes, tower_layers=config.tower_layers, of=tower) if tower else None

    def forward(self, batch: Batch) -> Float[Tensor, "B M V"]:
        trunk = self.trunk(batch)
        return torch.cat([self.head(trunk, group) for group in range(len(self.task_groups))], dim=1)

    def trunk(self, batch: Batch) -> Trunk:
        """What all tasks have in common."""
        keys = group_rows(knowledge_ids(self.config, batch))
        features: Tensor = self.backbone(batch.select(keys.order))  # F, eq. 5
        if self.knowledge is not None:
            knowledge = self.knowledge(keys.ids)  # S~, eq. 8
        else:
            knowledge = features.new_zeros(len(keys.ids), 0)
        if self.gate is not None:
            features = self.gate(per_row(knowledge, keys.runs), features) * features
        return Trunk(
            experts=self.experts(features),  # E_i, eq. 6
            tasks=self.task_views(),  # T_t, eq. 7
            knowledge=knowledge,
            runs=keys.runs,
            position=keys.order.argsort(),
        )

    def head(self, trunk: Trunk, group: int) -> Float[Tensor, "B N V"]:
        """L_t of the tasks of one group."""
        tasks = trunk.tasks[self.task_groups[group]]
        x: Tensor = self.attention(trunk.experts, tasks, trunk.knowledge, trunk.runs, unit=group)  # R_t, eq. 14-16
        if self.tower is not None:
            x = self.tower(x, trunk.knowledge, trunk.runs, unit=group)  # eq. 17-18
        return x[trunk.position]

    def own_parameters(self, group: int) -> Iterator[nn.Parameter]:
        """The parameters of a task group's own meta units."""
        for part in (self.attention, self.tower):
            if isinstance(part, (MetaAttention, MetaTower)):
                yield from part.metas[group].parameters()


def _knowledge(config: ModelConfig, spec: DatasetSpec) -> ScenarioKnowledge:
    id_sizes = knowledge_sizes(config, spec)
    if not id_sizes:
        raise UserError(
            "scenario knowledge needs scenario attributes, profile features or the scenario's id, however: the "
            "spec has none of the first two and model.scenario_id_embedding is false; set it to true"
        )
    return ScenarioKnowledge(id_sizes, embedding_dim=config.embedding_dim, knowledge_dim=config.knowledge_dim)

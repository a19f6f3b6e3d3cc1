"""M2M: the paper's model, read top to bottom.

Letters: B rows, M tasks, V view dimension.
"""

from typing import TypedDict

from jaxtyping import Float
from torch import Tensor, nn

from m2m_model.backbone import Backbone, knowledge_ids, knowledge_sizes
from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.layers import ExpertViews, ScenarioKnowledge, TaskViews
from m2m_model.meta import MetaAttention, MetaTower, StaticAttention


class MetaSizes(TypedDict):
    tasks: int
    shared: bool
    view_dim: int
    knowledge_dim: int
    layers: int


class M2M(nn.Module):
    """L_t of every task (eq. 18).

    Shape:
        Batch of B rows -> [B, M, V]

    Raises:
        UserError: the spec leaves the scenario knowledge without an input; see :class:`Backbone` too.
    """

    def __init__(self, config: ModelConfig, spec: DatasetSpec) -> None:
        super().__init__()
        self.config = config
        tasks, e, view_dim = len(spec.tasks), config.embedding_dim, config.view_dim
        id_sizes = knowledge_sizes(config, spec)
        if not id_sizes:
            raise UserError(
                "scenario knowledge needs scenario attributes, profile features or the scenario's id, however: the "
                "spec has none of the first two and model.scenario_id_embedding is false; set it to true"
            )
        self.backbone = Backbone(config, spec)
        self.experts = ExpertViews(self.backbone.output_dim, experts=config.experts, view_dim=view_dim)
        self.task_views = TaskViews(tasks=tasks, embedding_dim=e, view_dim=view_dim)
        self.knowledge = ScenarioKnowledge(id_sizes, embedding_dim=e, knowledge_dim=config.knowledge_dim)

        sizes = MetaSizes(
            tasks=tasks,
            shared=config.share_meta_across_tasks,
            view_dim=view_dim,
            knowledge_dim=config.knowledge_dim,
            layers=config.meta_layers,
        )
        self.attention = MetaAttention(**sizes) if config.meta_attention else StaticAttention(view_dim=view_dim)
        self.tower = MetaTower(**sizes, tower_layers=config.tower_layers) if config.meta_tower else None

    def forward(self, batch: Batch) -> Float[Tensor, "B M V"]:
        experts = self.experts(self.backbone(batch))  # E_i, eq. 6
        tasks = self.task_views()  # T_t, eq. 7
        knowledge = self.knowledge(knowledge_ids(self.config, batch))  # S~, eq. 8
        x: Tensor = self.attention(experts, tasks, knowledge)  # R_t, eq. 14-16
        if self.tower is not None:
            x = self.tower(x, knowledge)  # L_t, eq. 17-18
        return x

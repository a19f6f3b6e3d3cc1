"""M2M: the paper's model, read top to bottom.

Letters: B rows, T days, M tasks, k expert views, V view dimension, S scenario knowledge dimension.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.encoder import FeatureEmbedding, SequenceEmbedding
from m2m_model.meta import MetaAttention, MetaTower, StaticAttention
from m2m_model.output import LogRate
from m2m_model.sequence import SelfAttention, pool, pooled_dim


class M2M(nn.Module):
    """Log-rates of every task for a batch.

    Shape:
        Batch of B rows -> [B, M]
    """

    def __init__(self, config: ModelConfig, spec: DatasetSpec) -> None:
        super().__init__()
        self.config = config
        e, tasks = config.embedding_dim, len(spec.tasks)
        meta: dict[str, Any] = {
            "tasks": tasks,
            "shared": config.share_meta_across_tasks,
            "view_dim": config.view_dim,
            "knowledge_dim": config.knowledge_dim,
            "layers": config.meta_layers,
        }
        self.embeddings, self.attentions = nn.ModuleDict(), nn.ModuleDict()
        feature_dim = spec.dense_size if config.dense_inputs else 0
        for name in ("behavior", "performance"):
            sizes = [column.size for column in spec.sequence("behavior" if name == "behavior" else "performance")]
            if not sizes:
                continue
            embedding = SequenceEmbedding(sizes, spec.sequence_length, e)
            self.embeddings[name] = embedding
            if config.transformer:
                self.attentions[name] = SelfAttention(embedding.output_dim, config.heads)
            feature_dim += pooled_dim(spec.sequence_length, embedding.output_dim, config.pool)

        self.experts = nn.Linear(feature_dim, config.experts * config.view_dim)  # eq. 6, all views in one product
        self.task_embedding = nn.Embedding(tasks, e)
        self.task_view = nn.Linear(e, config.view_dim)

        attribute_sizes = [feature.size for feature in (*spec.scenario_attributes, *spec.profile)]
        if config.scenario_id_embedding:
            attribute_sizes = [len(spec.scenarios) + 1, *attribute_sizes]
        self.attributes = FeatureEmbedding(attribute_sizes, e)
        self.knowledge = nn.Linear(self.attributes.output_dim, config.knowledge_dim)

        self.attention = MetaAttention(**meta) if config.meta_attention else StaticAttention(view_dim=config.view_dim)
        self.tower = MetaTower(**meta, tower_layers=config.tower_layers) if config.meta_tower else None
        self.output = LogRate(spec, config.view_dim, offset=config.offset == "history")

    def forward(self, batch: Batch) -> Float[Tensor, "B M"]:
        experts = self.expert_views(self.features(batch))
        knowledge = self.scenario_knowledge(batch)
        x = self.attention(experts, self.task_views(), knowledge)  # eq. 14-16
        if self.tower is not None:
            x = self.tower(x, knowledge)  # eq. 17-18
        log_rates: Tensor = self.output(x, batch.history)
        return log_rates

    def features(self, batch: Batch) -> Float[Tensor, "B X"]:
        """F = concat(MH(X_b), MH(X_p)), eq. 5, and the dense values of 4.1.3."""
        parts = [batch.dense] if self.config.dense_inputs else []
        for name, embedding in self.embeddings.items():
            days = embedding(batch.behavior if name == "behavior" else batch.performance)
            if name in self.attentions:
                days = self.attentions[name](days)
            parts.append(pool(days, self.config.pool))
        return torch.cat(parts, dim=-1)

    def expert_views(self, features: Float[Tensor, "B X"]) -> Float[Tensor, "B k V"]:
        """E_i = f(F), eq. 6."""
        views = functional.leaky_relu(self.experts(features))
        return views.view(len(views), self.config.experts, self.config.view_dim)

    def task_views(self) -> Float[Tensor, "M V"]:
        """T_t = f(Embedding(t)), eq. 7: the same for every row."""
        return functional.leaky_relu(self.task_view(self.task_embedding.weight))

    def scenario_knowledge(self, batch: Batch) -> Float[Tensor, "B S"]:
        """S~ = f(S, A), eq. 8, from scenario attributes and advertiser profile."""
        ids = [batch.attributes, batch.profile]
        if self.config.scenario_id_embedding:
            ids = [batch.scenario.unsqueeze(-1), *ids]
        return functional.leaky_relu(self.knowledge(self.attributes(torch.cat(ids, dim=-1))))

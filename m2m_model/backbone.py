"""The common encoder: what every model of the zoo makes of a batch before its own formulas begin (4.1.1-4.1.3, eq. 5).

Letters: B rows, X dimension of F, C id columns of the scenario knowledge, Y embedded scenario, Z embedded profile.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec, SequenceName
from m2m_model.encoder import FeatureEmbedding, SequenceEmbedding
from m2m_model.history import QUARTILES, weekly_quartiles
from m2m_model.sequence import SequenceEncoder

SEQUENCES: tuple[SequenceName, ...] = ("behavior", "performance")


class Backbone(nn.Module):
    """F = concat(MH(X_b), MH(X_p)), eq. 5, and the dense values of 4.1.3; normalised if ``feature_norm``.

    Shape:
        Batch of B rows -> [B, X]

    Raises:
        UserError: ``heads`` does not divide a sequence's embedding, the spec leaves no input, or its sequences are
            shorter than ``sequence_days``.
    """

    def __init__(self, config: ModelConfig, spec: DatasetSpec) -> None:
        super().__init__()
        self.config = config
        self.days = config.sequence_days or spec.sequence_length
        if self.days > spec.sequence_length:
            raise UserError(
                f"model.sequence_days must be at most the dataset's {spec.sequence_length}, however: {self.days}"
            )
        self.daily_shape = len(spec.dense_columns), spec.sequence_length
        encoders: dict[str, SequenceEncoder] = {
            name: _sequence_encoder(name, config, spec, self.days) for name in SEQUENCES if spec.sequence(name)
        }
        self.sequences = nn.ModuleDict(encoders)
        self.output_dim = sum(encoder.output_dim for encoder in encoders.values())
        unseen = len(spec.dense_columns) * (spec.sequence_length - self.days)
        self.output_dim += spec.dense_size - unseen if config.dense_inputs else 0
        self.output_dim += len(QUARTILES) * len(spec.tasks) if config.history_quartiles else 0
        if not self.output_dim:
            raise UserError("a model needs behavior or performance features, however: the spec has none; add one")
        self.norm = nn.LayerNorm(self.output_dim) if config.feature_norm else nn.Identity()

    def forward(self, batch: Batch) -> Float[Tensor, "B X"]:
        ids = {"behavior": batch.behavior, "performance": batch.performance}
        parts: list[Tensor] = [encoder(ids[name][:, -self.days :]) for name, encoder in self.sequences.items()]
        if self.config.dense_inputs:
            parts += self._dense(batch.dense)
        if self.config.history_quartiles:
            parts.append(weekly_quartiles(batch.history))
        features: Tensor = self.norm(torch.cat(parts, dim=-1))
        return features

    def _dense(self, dense: Float[Tensor, "B D"]) -> list[Float[Tensor, "B _"]]:
        """The last days of each dense column, and what is no day's."""
        columns, length = self.daily_shape
        if self.days == length:
            return [dense]
        daily, other = dense[:, : columns * length], dense[:, columns * length :]
        return [torch.unflatten(daily, 1, (columns, length))[..., -self.days :].flatten(1), other]


class Encoded(NamedTuple):
    """A batch as the models that know no scenario knowledge see it."""

    features: Float[Tensor, "B X"]
    """F of eq. 5."""
    scenario: Float[Tensor, "B Y"]
    """The scenario's id, if it has an embedding, and its attributes."""
    profile: Float[Tensor, "B Z"]

    def together(self) -> Float[Tensor, "B XYZ"]:
        """Scenario related information "added as the input features to base models" (5.1.3)."""
        return torch.cat(self, dim=-1)


class Encoder(nn.Module):
    """The backbone, and S and A of eq. 8 as embedded input features.

    Shape:
        Batch of B rows -> Encoded ([B, X], [B, Y], [B, Z])
    """

    def __init__(self, config: ModelConfig, spec: DatasetSpec) -> None:
        super().__init__()
        self.backbone = Backbone(config, spec)
        self.config = config
        sizes = knowledge_sizes(config, spec)
        self.embedding = FeatureEmbedding(sizes, config.embedding_dim) if sizes else None
        self.profile_dim = len(spec.profile) * config.embedding_dim
        self.scenario_dim = len(sizes) * config.embedding_dim - self.profile_dim
        self.output_dim = self.backbone.output_dim + self.scenario_dim + self.profile_dim

    def forward(self, batch: Batch) -> Encoded:
        features = self.backbone(batch)
        if self.embedding is None:
            return Encoded(features, features[:, :0], features[:, :0])
        embedded = self.embedding(knowledge_ids(self.config, batch))
        return Encoded(features, *embedded.split([self.scenario_dim, self.profile_dim], dim=-1))


def knowledge_sizes(config: ModelConfig, spec: DatasetSpec) -> Sequence[int]:
    """How many ids each of the C columns of :func:`knowledge_ids` has."""
    sizes = [feature.size for feature in (*spec.scenario_attributes, *spec.profile)]
    return [len(spec.scenarios) + 1, *sizes] if config.scenario_id_embedding else sizes


def knowledge_ids(config: ModelConfig, batch: Batch) -> Int[Tensor, "B C"]:
    """S and A of eq. 8: scenario id (only if it has an embedding), scenario attributes, profile."""
    ids = [batch.attributes, batch.profile]
    if config.scenario_id_embedding:
        ids = [batch.scenario.unsqueeze(-1), *ids]
    return torch.cat(ids, dim=-1)


def _sequence_encoder(name: SequenceName, config: ModelConfig, spec: DatasetSpec, days: int) -> SequenceEncoder:
    sizes = [column.size for column in spec.sequence(name)]
    embedding = SequenceEmbedding(sizes, days, config.embedding_dim)
    if config.transformer and embedding.output_dim % config.heads:
        raise UserError(
            f"model.heads must divide the {name} sequence's embedding of {embedding.output_dim} = "
            f"({len(sizes)} features + 1) x model.embedding_dim {config.embedding_dim}, however: {config.heads}; "
            "make model.embedding_dim a multiple of model.heads"
        )
    return SequenceEncoder(embedding, heads=config.heads if config.transformer else 0, how=config.pool)

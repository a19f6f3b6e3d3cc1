"""Single-task models: a network of its own for each task, nothing shared, trained side by side.

``single_task`` has the common encoder; ``embedding_mlp`` is the paper's plain Embedding & MLP, the same without
self-attention over the days. Letters: B rows, M tasks, V view dimension.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.zoo.shared_bottom import SharedBottom


class SingleTask(nn.Module):
    """One encoder, bottom layer and tower per task. A task's loss has no gradient in another's network.

    Shape:
        Batch of B rows -> [B, M, V]
    """

    def __init__(self, config: ModelConfig, spec: DatasetSpec) -> None:
        super().__init__()
        self.networks = nn.ModuleList(SharedBottom(config, spec, towers=1) for _ in spec.tasks)

    def forward(self, batch: Batch) -> Float[Tensor, "B M V"]:
        return torch.cat([network(batch) for network in self.networks], dim=1)


class EmbeddingMlp(SingleTask):
    """The paper's "Embedding&MLP architecture as the basis single-task deep learning model" (5.1.2)."""

    def __init__(self, config: ModelConfig, spec: DatasetSpec) -> None:
        super().__init__(config.model_copy(update={"transformer": False}), spec)

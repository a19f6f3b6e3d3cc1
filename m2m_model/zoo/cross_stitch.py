"""Cross-stitch networks (Misra et al., CVPR 2016): a network per task, mixed linearly before every layer.

Letters: B rows, M tasks, V view dimension.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from m2m_model.backbone import Encoder
from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.layers import GroupedLinear

OWN_SHARE = 0.9
"""Initial weight of a task's own activations; the others' share the rest. The original's choice."""


class CrossStitchUnit(nn.Module):
    """``x~_t = sum_s alpha_ts x_s``

    Shape:
        [B, M, V] -> [B, M, V]
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()
        others = (1 - OWN_SHARE) / max(tasks - 1, 1)
        own = OWN_SHARE if tasks > 1 else 1.0
        self.alpha = nn.Parameter(torch.full((tasks, tasks), others).fill_diagonal_(own))

    def forward(self, x: Float[Tensor, "B M V"]) -> Float[Tensor, "B M V"]:
        return self.alpha @ x


class CrossStitch(nn.Module):
    """A first layer per task on the common encoder, then L times a cross-stitch unit and a layer per task.

    Shape:
        Batch of B rows -> [B, M, V]
    """

    def __init__(self, config: ModelConfig, spec: DatasetSpec) -> None:
        super().__init__()
        tasks, view_dim = len(spec.tasks), config.view_dim
        self.encoder = Encoder(config, spec)
        self.first = GroupedLinear(tasks, self.encoder.output_dim, view_dim)
        self.stitches = nn.ModuleList(CrossStitchUnit(tasks) for _ in range(config.tower_layers))
        self.layers = nn.ModuleList(GroupedLinear(tasks, view_dim, view_dim) for _ in range(config.tower_layers))

    def forward(self, batch: Batch) -> Float[Tensor, "B M V"]:
        x = functional.leaky_relu(self.first(self.encoder(batch).together().unsqueeze(1)))
        for stitch, layer in zip(self.stitches, self.layers, strict=True):
            x = functional.leaky_relu(layer(stitch(x)))
        return x

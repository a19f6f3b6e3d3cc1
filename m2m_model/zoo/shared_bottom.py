"""Shared bottom (Caruana, 1997): one representation for all tasks, a tower for each.

Letters: B rows, M tasks, V view dimension.
"""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from m2m_model.backbone import Encoder
from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.layers import Towers


class SharedBottom(nn.Module):
    """``h = f(x)``, then ``tower_t(h)``; by default a tower for each task.

    Shape:
        Batch of B rows -> [B, M, V]
    """

    def __init__(self, config: ModelConfig, spec: DatasetSpec, *, towers: int | None = None) -> None:
        super().__init__()
        self.tasks = len(spec.tasks) if towers is None else towers
        self.encoder = Encoder(config, spec)
        self.bottom = nn.Linear(self.encoder.output_dim, config.view_dim)
        self.towers = Towers(tasks=self.tasks, view_dim=config.view_dim, layers=config.tower_layers)

    def forward(self, batch: Batch) -> Float[Tensor, "B M V"]:
        h = functional.leaky_relu(self.bottom(self.encoder(batch).together()))
        x: Tensor = self.towers(h.unsqueeze(1).expand(-1, self.tasks, -1))
        return x

"""PLE (Tang et al., RecSys 2020): levels of CGC, each task and what they share passed on from level to level.

Letters: B rows, M tasks, V view dimension.
"""

from jaxtyping import Float
from torch import Tensor, nn

from m2m_model.backbone import Encoder
from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.layers import Towers
from m2m_model.zoo.cgc import ExtractionLayer


class PLE(nn.Module):
    """``extraction_layers`` levels, the last without a shared gate, then a tower for each task.

    Shape:
        Batch of B rows -> [B, M, V]
    """

    def __init__(self, config: ModelConfig, spec: DatasetSpec) -> None:
        super().__init__()
        tasks, view_dim = len(spec.tasks), config.view_dim
        self.encoder = Encoder(config, spec)
        levels = config.extraction_layers
        self.levels = nn.ModuleList(
            ExtractionLayer(
                view_dim if level else self.encoder.output_dim,
                tasks=tasks,
                task_experts=config.task_experts,
                experts=config.experts,
                view_dim=view_dim,
                shared_gate=level < levels - 1,
            )
            for level in range(levels)
        )
        self.towers = Towers(tasks=tasks, view_dim=view_dim, layers=config.tower_layers)

    def forward(self, batch: Batch) -> Float[Tensor, "B M V"]:
        shared = self.encoder(batch).together()
        x = shared.unsqueeze(1)
        for level in self.levels:
            x, shared = level(x, shared)
        mixed: Tensor = self.towers(x)
        return mixed

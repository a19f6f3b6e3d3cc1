"""MMoE (Ma et al., KDD 2018): shared experts, a gate and a tower for each task.

Letters: B rows, M tasks, k experts, V view dimension.
"""

from jaxtyping import Float
from torch import Tensor, nn

from m2m_model.backbone import Encoder
from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.layers import ExpertViews, Towers


class MMoE(nn.Module):
    """``R_t = sum_i softmax(W_t x)_i E_i(x)``, then ``tower_t(R_t)``.

    Shape:
        Batch of B rows -> [B, M, V]
    """

    def __init__(self, config: ModelConfig, spec: DatasetSpec) -> None:
        super().__init__()
        self.tasks = len(spec.tasks)
        self.encoder = Encoder(config, spec)
        self.experts = ExpertViews(self.encoder.output_dim, experts=config.experts, view_dim=config.view_dim)
        self.gates = nn.Linear(self.encoder.output_dim, self.tasks * config.experts, bias=False)
        self.towers = Towers(tasks=self.tasks, view_dim=config.view_dim, layers=config.tower_layers)

    def forward(self, batch: Batch) -> Float[Tensor, "B M V"]:
        inputs = self.encoder(batch).together()
        gates = self.gates(inputs).unflatten(-1, (self.tasks, -1)).softmax(dim=-1)  # [B, M, k]
        x: Tensor = self.towers(gates @ self.experts(inputs))
        return x

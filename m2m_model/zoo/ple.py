"""PLE (Tang et al., RecSys 2020): levels of CGC, each task and what they share passed on from level to level.

Letters: B rows, M tasks, X input dimension, V view dimension, n experts of a task's own, k shared experts.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from m2m_model.backbone import Encoder
from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.layers import ExpertViews, GroupedLinear, Towers


class ExtractionLayer(nn.Module):
    """One level of customised gate control.

    ``R_t = sum_i softmax(W_t x_t + b_t)_i S_i``, S: the task's n experts of ``x_t``, then the k shared ones of
    ``shared``.
    ``shared_gate`` adds what the next level shares: all tasks' experts and the shared ones, gated by ``shared`` (PLE).

    Shape:
        x [B, M, X] (or [B, 1, X], the same for all tasks), shared [B, X] -> [B, M, V], [B, V]; without a shared gate
        the latter is [B, 0]
    """

    def __init__(
        self, dim: int, *, tasks: int, task_experts: int, experts: int, view_dim: int, shared_gate: bool
    ) -> None:
        super().__init__()
        self.tasks, self.task_experts = tasks, task_experts
        self.own = GroupedLinear(tasks, dim, task_experts * view_dim)
        self.shared = ExpertViews(dim, experts=experts, view_dim=view_dim)
        self.gates = GroupedLinear(tasks, dim, task_experts + experts)
        self.shared_gate = nn.Linear(dim, tasks * task_experts + experts) if shared_gate else None

    def forward(
        self, x: Float[Tensor, "B #M X"], shared: Float[Tensor, "B X"]
    ) -> tuple[Float[Tensor, "B M V"], Float[Tensor, "B W"]]:
        own = functional.leaky_relu(self.own(x))
        own = torch.unflatten(own, -1, (self.task_experts, -1))  # [B, M, n, V]
        common = self.shared(shared)  # [B, k, V]
        views = torch.cat([own, common.unsqueeze(1).expand(-1, self.tasks, -1, -1)], dim=2)
        mixed = (self.gates(x).softmax(dim=-1).unsqueeze(2) @ views).squeeze(2)
        if self.shared_gate is None:
            return mixed, shared[:, :0]
        everything = torch.cat([own.flatten(1, 2), common], dim=1)
        gate = self.shared_gate(shared).softmax(dim=-1)
        return mixed, (gate.unsqueeze(1) @ everything).squeeze(1)


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

"""What takes the place of the meta learning mechanism in the ablations (Table 5): see ``m2m_model.meta``.

Letters: B rows, Q distinct keys of rows, N tasks of a unit, R input vectors of a row, k expert views, V view dimension,
D dimension of a unit, S dimension of the scenario knowledge S~.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from m2m_model.generated import Runs, per_row
from m2m_model.layers import KNOWLEDGE_SHARE


class LearnedUnit(nn.Module):
    """A meta unit without generation: K layers ``h <- sigma(W [h || S~] + b)``, W and b learned, the same for all rows.

    Everything else is as in :class:`m2m_model.meta.MetaUnit`: sizes, inputs and their order, and the size of W, b and
    of what S~ adds at the start.

    Shape:
        h [B, R, D - tail_dim], knowledge [Q, S], tails [N, tail_dim] -> [B, N * R, D]; N = 1 without tails
    """

    def __init__(self, *, dim: int, knowledge_dim: int, layers: int, tail_dim: int = 0) -> None:
        super().__init__()
        linears = [nn.Linear(dim + knowledge_dim, dim) for _ in range(layers)]
        he = math.sqrt(2 / dim)
        for linear in linears:
            nn.init.normal_(linear.weight[:, :dim], std=he)
            nn.init.normal_(linear.weight[:, dim:], std=KNOWLEDGE_SHARE * he / math.sqrt(knowledge_dim))
            nn.init.zeros_(linear.bias)
        self.layers = nn.ModuleList(linears)

    def forward(
        self,
        h: Float[Tensor, "B R X"],
        knowledge: Float[Tensor, "Q S"],
        tails: Float[Tensor, "N Z"] | None = None,
        runs: Runs | None = None,
    ) -> Float[Tensor, "B NR D"]:
        if tails is not None:
            rows, vectors, _ = h.shape
            of_rows = h.unsqueeze(1).expand(-1, len(tails), -1, -1)
            of_tasks = tails[None, :, None].expand(rows, -1, vectors, -1)
            h = torch.cat([of_rows, of_tasks], dim=-1).flatten(1, 2)
        s = knowledge if runs is None else per_row(knowledge, runs)
        s = s.unsqueeze(1).expand(-1, h.shape[1], -1)
        for layer in self.layers:
            h = functional.leaky_relu(layer(torch.cat([h, s], dim=-1)))
        return h


class PlainAttention(nn.Module):
    """Eq. 14-16 without a meta unit: ``a_ti = v^T sigma(W [E_i || T_t] + b)``, one layer and no scenario knowledge.

    Shape:
        experts [B, k, V], tasks [N, V]; knowledge, runs and unit are not used -> [B, N, V]
    """

    def __init__(self, *, view_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * view_dim, 2 * view_dim)
        self.v = nn.Parameter(torch.randn(2 * view_dim) / math.sqrt(2 * view_dim))

    def forward(
        self,
        experts: Float[Tensor, "B k V"],
        tasks: Float[Tensor, "N V"],
        knowledge: Float[Tensor, "Q S"],
        runs: Runs | None = None,
        *,
        unit: int = 0,
    ) -> Float[Tensor, "B N V"]:
        of_expert, of_task = self.hidden.weight.chunk(2, dim=1)
        from_experts = experts @ of_expert.T
        from_tasks = functional.linear(tasks, of_task, self.hidden.bias)
        hidden = functional.leaky_relu(from_experts.unsqueeze(1) + from_tasks[None, :, None])
        alpha: Tensor = (hidden @ self.v).softmax(dim=-1)
        return alpha @ experts

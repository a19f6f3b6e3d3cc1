"""The meta learning mechanism (4.2): layers whose weights are generated from scenario knowledge.

Letters: B rows, M tasks, U meta units (M, or 1 when tasks share one), N tails of a unit (1, or M when shared),
R input vectors per unit and row, k expert views, V view dimension, D dimension of a meta unit, S dimension of the
scenario knowledge S~, S1 = S + 1: S~ followed by a one, so that a single product gives ``V S~ + v``.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

KNOWLEDGE_SHARE = 0.1
"""Initial size of what a unit-variance S~ adds to a generated weight, relative to the part that is always there."""


class MetaUnit(nn.Module):
    """Meta_u(h), eq. 9-13: K layers ``h <- sigma(W h + b)`` with ``W = V_w S~ + v_w`` and ``b = V_b S~ + v_b``.

    U units run side by side. Generation starts from a He-initialised ``v_w`` and a small ``V_w``: drawn the usual way,
    ``V_w`` makes first forecasts of e^139 at the paper's sizes. A generator holds V and v together, v as the last of
    its S1 maps.

    ``tails`` are the ends of input vectors that are the same for all rows (T_t in eq. 14). Each of a unit's N tails is
    put after each of its R vectors. Their part of W h is linear in S~ whatever the row, so it joins the generated
    bias, and that part of W is never made.

    Shape:
        h [U or 1, B, R, D - Z], knowledge [B, S], tails [U, N, Z] -> [U, B, N * R, D]; without tails Z = 0, N = 1
    """

    def __init__(self, *, units: int, dim: int, knowledge_dim: int, layers: int) -> None:
        super().__init__()
        he = math.sqrt(2 / dim)
        self.weight_generators = nn.ParameterList(
            _generator(units, knowledge_dim, dim, dim, always=he, by_scenario=KNOWLEDGE_SHARE * he)
            for _ in range(layers)
        )
        self.bias_generators = nn.ParameterList(
            _generator(units, knowledge_dim, 1, dim, always=0.0, by_scenario=KNOWLEDGE_SHARE * he)
            for _ in range(layers)
        )

    def forward(
        self,
        h: Float[Tensor, "#U B R X"],
        knowledge: Float[Tensor, "B S"],
        tails: Float[Tensor, "U N Z"] | None = None,
    ) -> Float[Tensor, "U B NR D"]:
        s = functional.pad(knowledge, (0, 1), value=1.0)
        for v_w, v_b in zip(self.weight_generators, self.bias_generators, strict=True):
            if tails is not None:
                v_w, v_tail = v_w.tensor_split([h.shape[-1]], dim=2)
                v_b, tails = v_b + tails.unsqueeze(1) @ v_tail, None
            wh, b = generated_product(h, s, v_w), generate(s, v_b)
            h = functional.leaky_relu(wh.unsqueeze(2) + b.unsqueeze(3)).flatten(2, 3)
        return h


def generate(s: Float[Tensor, "B S1"], generator: Float[Tensor, "U S1 X Y"]) -> Float[Tensor, "U B X Y"]:
    """Eq. 11-12: ``Reshape(V S~ + v)``."""
    made = s.expand(len(generator), -1, -1) @ generator.flatten(2)
    return made.view(len(generator), len(s), *generator.shape[2:])


def generated_product(
    h: Float[Tensor, "#U B R X"], s: Float[Tensor, "B S1"], generator: Float[Tensor, "U S1 X Y"]
) -> Float[Tensor, "U B R Y"]:
    """W h with a generated W. For one vector a row (S~ (x) h) is multiplied instead: the same sum, W never made."""
    if h.shape[2] > 1:
        return h @ generate(s, generator)
    outer = s.unsqueeze(-1) * h  # [U, B, S1, X]
    return (outer.flatten(2) @ generator.flatten(1, 2)).unsqueeze(2)


def _generator(units: int, knowledge_dim: int, rows: int, columns: int, *, always: float, by_scenario: float) -> Tensor:
    """[units, knowledge_dim + 1, rows, columns]: V for a unit-variance S~ of this dimension, then v."""
    generator = torch.randn(units, knowledge_dim + 1, rows, columns)
    generator[:, :-1] *= by_scenario / math.sqrt(knowledge_dim)
    generator[:, -1] *= always
    return generator


class MetaAttention(nn.Module):
    """Eq. 14-16: ``a_ti = v^T Meta_t([E_i || T_t])``, softmax over expert views, ``R_t = sum_i alpha_ti E_i``.

    Shape:
        experts [B, k, V], tasks [M, V], knowledge [B, S] -> [B, M, V]
    """

    def __init__(self, *, tasks: int, shared: bool, view_dim: int, knowledge_dim: int, layers: int) -> None:
        super().__init__()
        self.shared = shared
        self.meta = MetaUnit(units=1 if shared else tasks, dim=2 * view_dim, knowledge_dim=knowledge_dim, layers=layers)
        self.v = nn.Parameter(torch.randn(2 * view_dim) / math.sqrt(2 * view_dim))

    def forward(
        self, experts: Float[Tensor, "B k V"], tasks: Float[Tensor, "M V"], knowledge: Float[Tensor, "B S"]
    ) -> Float[Tensor, "B M V"]:
        tails = tasks.unsqueeze(0 if self.shared else 1)
        hidden = self.meta(experts.unsqueeze(0), knowledge, tails)
        a = (hidden @ self.v).unflatten(2, (-1, experts.shape[1]))  # [U, B, N, k] with U * N = M
        alpha: Tensor = a.transpose(0, 1).flatten(1, 2).softmax(dim=-1)
        return alpha @ experts


class StaticAttention(nn.Module):
    """Eq. 14-16 without generated weights (the ablation): ``a_ti = v^T sigma(W [E_i || T_t] + b)``, W the same for all.

    Shape:
        experts [B, k, V], tasks [M, V], knowledge [B, S] (not used) -> [B, M, V]
    """

    def __init__(self, *, view_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(2 * view_dim, 2 * view_dim)
        self.v = nn.Parameter(torch.randn(2 * view_dim) / math.sqrt(2 * view_dim))

    def forward(
        self, experts: Float[Tensor, "B k V"], tasks: Float[Tensor, "M V"], knowledge: Float[Tensor, "B S"]
    ) -> Float[Tensor, "B M V"]:
        of_expert, of_task = self.hidden.weight.chunk(2, dim=1)
        from_experts = experts @ of_expert.T
        from_tasks = functional.linear(tasks, of_task, self.hidden.bias)
        hidden = functional.leaky_relu(from_experts.unsqueeze(1) + from_tasks[None, :, None])
        alpha: Tensor = (hidden @ self.v).softmax(dim=-1)
        return alpha @ experts


class MetaTower(nn.Module):
    """Eq. 17-18: ``L <- sigma(Meta_j(L) + L)``, j = 1 .. L, each layer with a meta unit of its own.

    Shape:
        [B, M, V], knowledge [B, S] -> [B, M, V]
    """

    def __init__(
        self, *, tasks: int, shared: bool, view_dim: int, knowledge_dim: int, layers: int, tower_layers: int
    ) -> None:
        super().__init__()
        self.shared = shared
        self.metas = nn.ModuleList(
            MetaUnit(units=1 if shared else tasks, dim=view_dim, knowledge_dim=knowledge_dim, layers=layers)
            for _ in range(tower_layers)
        )

    def forward(self, x: Float[Tensor, "B M V"], knowledge: Float[Tensor, "B S"]) -> Float[Tensor, "B M V"]:
        # All tasks are vectors of the one unit, or each task is the one vector of its own.
        h = x.unsqueeze(0) if self.shared else x.transpose(0, 1).unsqueeze(2)
        for meta in self.metas:
            h = functional.leaky_relu(meta(h, knowledge) + h)
        return h.squeeze(0) if self.shared else h.squeeze(2).transpose(0, 1)

"""The meta learning mechanism (4.2): layers whose weights are generated from scenario knowledge.

Letters: B rows, M tasks, U meta units (M, or 1 when tasks share one), R input rows per unit, k expert views,
V view dimension, D input dimension of a meta unit, S dimension of the scenario knowledge.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

KNOWLEDGE_SHARE = 0.1
"""Initial size of the part of a generated weight that depends on the scenario, relative to the part that does not."""


class MetaUnit(nn.Module):
    """Meta_u(h), eq. 9-13: K layers ``h <- sigma(W h + b)`` with ``W = V_w S~ + v_w`` and ``b = V_b S~ + v_b``.

    U units run side by side. Generation starts from a He-initialised ``v_w`` and a small ``V_w``: drawn the usual way,
    ``V_w`` makes first forecasts of e^139 at the paper's sizes.

    Shape:
        h [B, U, R, D], knowledge [B, S] -> [B, U, R, D]
    """

    def __init__(self, *, units: int, dim: int, knowledge_dim: int, layers: int) -> None:
        super().__init__()
        self.units, self.dim = units, dim
        he = math.sqrt(2 / dim)
        small = KNOWLEDGE_SHARE * he / math.sqrt(knowledge_dim)
        self.weight_maps = nn.ParameterList(
            torch.randn(knowledge_dim, units * dim * dim) * small for _ in range(layers)
        )
        self.weights = nn.ParameterList(torch.randn(units * dim * dim) * he for _ in range(layers))
        self.bias_maps = nn.ParameterList(torch.randn(knowledge_dim, units * dim) * small for _ in range(layers))
        self.biases = nn.ParameterList(torch.zeros(units * dim) for _ in range(layers))

    def forward(self, h: Float[Tensor, "B U R D"], knowledge: Float[Tensor, "B S"]) -> Float[Tensor, "B U R D"]:
        rows = len(knowledge)
        for v_w, w, v_b, b in zip(self.weight_maps, self.weights, self.bias_maps, self.biases, strict=True):
            weight = torch.addmm(w, knowledge, v_w).view(rows, self.units, self.dim, self.dim)
            bias = torch.addmm(b, knowledge, v_b).view(rows, self.units, 1, self.dim)
            h = functional.leaky_relu(h @ weight + bias)
        return h


def _as_units(x: Float[Tensor, "B M R D"], units: int) -> Float[Tensor, "B U RU D"]:
    """Lay the rows of all tasks under the one unit that they share, or leave each task its own."""
    return x if units > 1 else x.flatten(1, 2).unsqueeze(1)


class MetaAttention(nn.Module):
    """Eq. 14-16: ``a_ti = v^T Meta_t([E_i || T_t])``, softmax over expert views, ``R_t = sum_i alpha_ti E_i``.

    Shape:
        experts [B, k, V], tasks [M, V], knowledge [B, S] -> [B, M, V]
    """

    def __init__(self, *, tasks: int, shared: bool, view_dim: int, knowledge_dim: int, layers: int) -> None:
        super().__init__()
        self.units = 1 if shared else tasks
        self.meta = MetaUnit(units=self.units, dim=2 * view_dim, knowledge_dim=knowledge_dim, layers=layers)
        self.v = nn.Parameter(torch.randn(2 * view_dim) / math.sqrt(2 * view_dim))

    def forward(
        self, experts: Float[Tensor, "B k V"], tasks: Float[Tensor, "M V"], knowledge: Float[Tensor, "B S"]
    ) -> Float[Tensor, "B M V"]:
        rows, k, _ = experts.shape
        pairs = torch.cat(
            [
                experts.unsqueeze(1).expand(-1, len(tasks), -1, -1),
                tasks[None, :, None].expand(rows, -1, k, -1),
            ],
            dim=-1,
        )
        hidden = self.meta(_as_units(pairs, self.units), knowledge).reshape(pairs.shape)
        alpha: Tensor = (hidden @ self.v).softmax(dim=-1)
        return alpha @ experts


class StaticAttention(nn.Module):
    """Attention over expert views without generated weights: a learned linear score of ``[E_i || T_t]``."""

    def __init__(self, *, view_dim: int) -> None:
        super().__init__()
        self.v = nn.Parameter(torch.randn(2, view_dim) / math.sqrt(2 * view_dim))

    def forward(
        self, experts: Float[Tensor, "B k V"], tasks: Float[Tensor, "M V"], knowledge: Float[Tensor, "B S"]
    ) -> Float[Tensor, "B M V"]:
        scores = torch.tanh((experts @ self.v[0])[:, None, :] + (tasks @ self.v[1])[None, :, None])
        alpha: Tensor = scores.softmax(dim=-1)
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
        self.units = 1 if shared else tasks
        self.metas = nn.ModuleList(
            MetaUnit(units=self.units, dim=view_dim, knowledge_dim=knowledge_dim, layers=layers)
            for _ in range(tower_layers)
        )

    def forward(self, x: Float[Tensor, "B M V"], knowledge: Float[Tensor, "B S"]) -> Float[Tensor, "B M V"]:
        for meta in self.metas:
            generated = meta(_as_units(x.unsqueeze(2), self.units), knowledge).reshape(x.shape)
            x = functional.leaky_relu(generated + x)
        return x

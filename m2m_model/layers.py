"""Feed-forward layers: expert views, task views, scenario knowledge (4.1.3-4.1.5), and other models' gates and towers.

Each f_MLP is one LeakyReLU layer. Letters: B rows, X dimension of F, k expert views, M tasks, V view dimension,
C id columns, S dimension of the scenario knowledge, G groups.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from m2m_model.encoder import EMBEDDING_STD, FeatureEmbedding

KNOWLEDGE_SHARE = 0.1
"""Initial size of what a unit-variance S~ adds to a weight, relative to the part that is always there."""

GAMMA = 2.0
"""The largest gate; 1 is the middle."""


class ExpertViews(nn.Module):
    """E_i = f_MLP(F), eq. 6; all k views in one product.

    Shape:
        [B, X] -> [B, k, V]
    """

    def __init__(self, dim: int, *, experts: int, view_dim: int) -> None:
        super().__init__()
        self.experts, self.view_dim = experts, view_dim
        self.linear = nn.Linear(dim, experts * view_dim)

    def forward(self, features: Float[Tensor, "B X"]) -> Float[Tensor, "B k V"]:
        return functional.leaky_relu(self.linear(features)).view(-1, self.experts, self.view_dim)


class TaskViews(nn.Module):
    """T_t = f_MLP(Embedding(t)), eq. 7: the same for every row.

    Shape:
        () -> [M, V]
    """

    def __init__(self, *, tasks: int, embedding_dim: int, view_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tasks, embedding_dim)
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD)
        self.linear = nn.Linear(embedding_dim, view_dim)

    def forward(self) -> Float[Tensor, "M V"]:
        return functional.leaky_relu(self.linear(self.embedding.weight))


class ScenarioKnowledge(nn.Module):
    """S~ = f_MLP(S, A), eq. 8, from the ids of scenario attributes and advertiser profile.

    Never in bf16, as all that is made once per key and not per row: batches have ever other numbers of keys, torch
    keeps a kernel for each that it has met in bf16, and a process would grow with every batch.

    Shape:
        [B, C] -> [B, S]
    """

    def __init__(self, sizes: Sequence[int], *, embedding_dim: int, knowledge_dim: int) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(sizes, embedding_dim)
        self.linear = nn.Linear(self.embedding.output_dim, knowledge_dim)

    def forward(self, ids: Int[Tensor, "B C"]) -> Float[Tensor, "B S"]:
        with torch.autocast("cpu", enabled=False):
            return functional.leaky_relu(self.linear(self.embedding(ids)))


class GateNU(nn.Module):
    """PEPNet's gate (Chang et al., KDD 2023): ``gamma sigmoid(W' relu(W [prior || stop-gradient(x)] + b) + b')``

    Shape:
        prior [B, Y], x [B, X] -> [B, Z]
    """

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)

    def forward(self, prior: Float[Tensor, "B Y"], x: Float[Tensor, "B X"]) -> Float[Tensor, "B Z"]:
        hidden = functional.relu(self.hidden(torch.cat([prior, x.detach()], dim=-1)))
        gate: Tensor = GAMMA * self.output(hidden).sigmoid()
        return gate


class GroupedLinear(nn.Module):
    """A linear layer for each of G groups: ``y_g = W_g x_g + b_g``; groups with the same input may share it (G = 1).

    Shape:
        [B, G or 1, X] -> [B, G, Y]
    """

    def __init__(self, groups: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(groups, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(groups, outputs).uniform_(-bound, bound))

    def forward(self, x: Float[Tensor, "B #G X"]) -> Float[Tensor, "B G Y"]:
        x = x.transpose(0, 1).expand(len(self.weight), -1, -1)
        return torch.baddbmm(self.bias.unsqueeze(1), x, self.weight).transpose(0, 1)


class Towers(nn.Module):
    """A tower for each task: L LeakyReLU layers of V units.

    Shape:
        [B, M, V] -> [B, M, V]
    """

    def __init__(self, *, tasks: int, view_dim: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GroupedLinear(tasks, view_dim, view_dim) for _ in range(layers))

    def forward(self, x: Float[Tensor, "B M V"]) -> Float[Tensor, "B M V"]:
        for layer in self.layers:
            x = functional.leaky_relu(layer(x))
        return x

"""STAR (Sheng et al., CIKM 2021): a shared network and one of each domain's, multiplied weight by weight.

The domains are the scenarios; index 0, unseen in training, keeps the shared network. The original has one task: here
its fully connected star network is a shared bottom with a star tower per task. Partitioned normalisation takes its
statistics from the row, not from the domain's mini-batch, so that a forecast does not depend on its batch; its scale
and shift are the original's. The auxiliary network's logit is added by way of the shared output unit, which is linear.

Letters: B rows, M tasks, G groups, X inputs, Y outputs, V view dimension.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from m2m_model.backbone import Encoder
from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.encoder import EMBEDDING_STD


class StarLinear(nn.Module):
    """``y_g = (W_g (x) W_gd) x_g + b_g + b_gd`` for a row of domain d, (x) element by element.

    W_gd is held as its deviation from 1, ``domain_weight``, so that L2 and an unseen domain mean W_g itself.

    Shape:
        x [B, G, X], domain [B] -> [B, G, Y]
    """

    def __init__(self, domains: int, groups: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(groups, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(groups, outputs).uniform_(-bound, bound))
        self.domain_weight = nn.Parameter(torch.zeros(domains, groups, inputs, outputs))
        self.domain_bias = nn.Parameter(torch.zeros(domains, groups, outputs))

    def forward(self, x: Float[Tensor, "B G X"], domain: Int[Tensor, "B"]) -> Float[Tensor, "B G Y"]:
        domain = domain.long()
        if torch.compiler.is_exporting():
            # An exported program is the same for all batches and cannot follow how many rows a domain has.
            y = torch.einsum("bgx,bgxy->bgy", x, self.weight * (1 + self.domain_weight[domain]))
            return y + self.bias + self.domain_bias[domain]
        order = domain.argsort()
        counts = domain.bincount(minlength=len(self.domain_weight)).tolist()
        pieces = torch.split(x[order].transpose(0, 1), counts, dim=1)  # of each domain [G, B_d, X]
        products = [piece @ (self.weight * (1 + own)) for piece, own in zip(pieces, self.domain_weight, strict=True)]
        y = torch.cat(products, dim=1).transpose(0, 1)[order.argsort()]
        return y + self.bias + self.domain_bias[domain]


class PartitionedNorm(nn.Module):
    """``gamma gamma_d (x - mean) / std + beta + beta_d``

    Shape:
        x [B, X], domain [B] -> [B, X]
    """

    def __init__(self, domains: int, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.gamma, self.beta = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.domain_gamma = nn.Parameter(torch.ones(domains, dim))
        self.domain_beta = nn.Parameter(torch.zeros(domains, dim))

    def forward(self, x: Float[Tensor, "B X"], domain: Int[Tensor, "B"]) -> Float[Tensor, "B X"]:
        scale, shift = self.gamma * self.domain_gamma[domain.long()], self.beta + self.domain_beta[domain.long()]
        y: Tensor = self.norm(x) * scale + shift
        return y


class STAR(nn.Module):
    """See the module docstring.

    Shape:
        Batch of B rows -> [B, M, V]
    """

    def __init__(self, config: ModelConfig, spec: DatasetSpec) -> None:
        super().__init__()
        domains, self.tasks, view_dim = len(spec.scenarios) + 1, len(spec.tasks), config.view_dim
        self.encoder = Encoder(config, spec)
        dim = self.encoder.output_dim
        self.norm = PartitionedNorm(domains, dim)
        self.bottom = StarLinear(domains, 1, dim, view_dim)
        self.towers = nn.ModuleList(
            StarLinear(domains, self.tasks, view_dim, view_dim) for _ in range(config.tower_layers)
        )
        self.domain_embedding = nn.Embedding(domains, config.embedding_dim)
        nn.init.normal_(self.domain_embedding.weight, std=EMBEDDING_STD)
        nn.init.zeros_(self.domain_embedding.weight[0])
        self.auxiliary = nn.Linear(dim + config.embedding_dim, view_dim)

    def forward(self, batch: Batch) -> Float[Tensor, "B M V"]:
        inputs, domain = self.encoder(batch).together(), batch.scenario
        h = self.norm(inputs, domain).unsqueeze(1)
        x = functional.leaky_relu(self.bottom(h, domain)).expand(-1, self.tasks, -1)
        for layer in self.towers:
            x = functional.leaky_relu(layer(x, domain))
        auxiliary = self.auxiliary(torch.cat([self.domain_embedding(domain), inputs], dim=-1))
        return x + functional.leaky_relu(auxiliary).unsqueeze(1)

"""PEPNet (Chang et al., KDD 2023): gates made from prior knowledge scale embeddings (EPNet) and hidden units (PPNet).

EPNet's prior is the scenario's id and attributes; PPNet's is the advertiser profile, where the original has the ids of
user, item and author. Letters: B rows, M tasks, X inputs, Y prior's dimension, Z outputs, V view dimension.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from m2m_model.backbone import Encoder
from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.layers import GateNU, GroupedLinear


class PEPNet(nn.Module):
    """``e = gate(scenario) (x) E``; per task ``h = f(W_0 e)``, then L times ``h = f(W (gate(profile) (x) h))``.

    Shape:
        Batch of B rows -> [B, M, V]
    """

    def __init__(self, config: ModelConfig, spec: DatasetSpec) -> None:
        super().__init__()
        self.tasks, view_dim, layers = len(spec.tasks), config.view_dim, config.tower_layers
        self.encoder = Encoder(config, spec)
        scenario, profile = self.encoder.scenario_dim, self.encoder.profile_dim
        dim = self.encoder.output_dim - scenario
        self.epnet = GateNU(scenario + dim, view_dim, dim)
        self.ppnet = nn.ModuleList(GateNU(profile + dim, view_dim, self.tasks * view_dim) for _ in range(layers))
        self.first = GroupedLinear(self.tasks, dim, view_dim)
        self.layers = nn.ModuleList(GroupedLinear(self.tasks, view_dim, view_dim) for _ in range(layers))

    def forward(self, batch: Batch) -> Float[Tensor, "B M V"]:
        features, scenario, profile = self.encoder(batch)
        inputs = torch.cat([features, profile], dim=-1)
        embedded = self.epnet(scenario, inputs) * inputs
        h = functional.leaky_relu(self.first(embedded.unsqueeze(1)))
        for gate, layer in zip(self.ppnet, self.layers, strict=True):
            gates = gate(profile, embedded).unflatten(-1, (self.tasks, -1))
            h = functional.leaky_relu(layer(gates * h))
        return h

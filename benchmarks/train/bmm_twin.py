"""M2M as one batched product per meta layer, a weight matrix for every row: what the fast form is held against.

Frozen. Only the meta units are written anew, from eq. 9-18; encoder, views and output unit are the model's own.

Letters: B rows, M tasks, N tasks of a unit, R vectors of a row, k expert views, V view dimension, D meta dimension,
S knowledge.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from m2m_model.backbone import knowledge_ids
from m2m_model.batch import Batch
from m2m_model.meta import Generator, MetaAttention, MetaTower, MetaUnit
from m2m_model.model import Model
from m2m_model.zoo.m2m import M2M


class BmmUnit(nn.Module):
    """Eq. 9-13; ``weights`` and ``biases`` are V_w, v_w and V_b, v_b of each layer."""

    def __init__(self, unit: MetaUnit) -> None:
        super().__init__()
        layers = [_linear(weight) for weight in unit.weight_generators]
        if unit.tail_generator is not None:
            layers[0] = _linear(unit.weight_generators[0], unit.tail_generator)
        self.weights = nn.ModuleList(layers)
        self.biases = nn.ModuleList(_linear(bias) for bias in unit.bias_generators)

    def forward(self, h: Float[Tensor, "B R D"], s: Float[Tensor, "B S"]) -> Float[Tensor, "B R D"]:
        for weight, bias in zip(self.weights, self.biases, strict=True):
            w = weight(s).view(len(s), h.shape[2], -1)
            h = functional.leaky_relu(torch.baddbmm(bias(s).unsqueeze(1), h, w))
        return h


def bmm_twin(model: Model) -> Model:
    """The same model as an M2M, with a copy of its meta units' weights and all else shared with it."""
    assert isinstance(model.body, M2M)
    return Model(BmmBody(model.body), model.output, uncertainty_weights=False)


class BmmBody(nn.Module):
    """The body of the twin.

    Shape:
        Batch of B rows -> [B, M, V]
    """

    def __init__(self, body: M2M) -> None:
        super().__init__()
        assert isinstance(body.attention, MetaAttention)
        assert isinstance(body.tower, MetaTower)
        self.backbone, self.experts, self.task_views = body.backbone, body.experts, body.task_views
        self.config, self.groups = body.config, body.task_groups
        self.knowledge, self.v = body.knowledge, body.attention.v
        self.attention = nn.ModuleList(BmmUnit(unit) for unit in body.attention.metas)
        self.tower = nn.ModuleList(nn.ModuleList(map(BmmUnit, units)) for units in body.tower.metas)

    def forward(self, batch: Batch) -> Float[Tensor, "B M V"]:
        experts, knowledge = self.experts(self.backbone(batch)), self.knowledge(knowledge_ids(self.config, batch))
        views = self.task_views()
        parts = []
        for tasks, attention, tower in zip(self.groups, self.attention, self.tower, strict=True):
            x = self._attended(experts, views[tasks], knowledge, attention)
            assert isinstance(tower, nn.ModuleList)
            for unit in tower:
                x = functional.leaky_relu(unit(x, knowledge) + x)
            parts.append(x)
        return torch.cat(parts, dim=1)

    def _attended(
        self,
        experts: Float[Tensor, "B k V"],
        tasks: Float[Tensor, "N V"],
        knowledge: Float[Tensor, "B S"],
        unit: BmmUnit,
    ) -> Float[Tensor, "B N V"]:
        (rows, views, _), n = experts.shape, len(tasks)
        pairs = torch.cat(
            [experts.unsqueeze(1).expand(-1, n, -1, -1), tasks[:, None].expand(rows, -1, views, -1)], dim=-1
        )
        hidden = unit(pairs.flatten(1, 2), knowledge)
        alpha = (hidden @ self.v).unflatten(1, (n, views)).softmax(dim=-1)
        return alpha @ experts


def _linear(*parts: Generator) -> nn.Linear:
    """``V S~ + v`` of generators whose matrices lie one below the other, flattened."""
    with torch.no_grad():
        by_scenario = torch.cat([part.by_scenario for part in parts]).flatten(0, 1)
        always = torch.cat([part.always for part in parts]).flatten()
    linear = nn.Linear(by_scenario.shape[1], len(always), device="meta")
    linear.weight, linear.bias = nn.Parameter(by_scenario), nn.Parameter(always)
    return linear

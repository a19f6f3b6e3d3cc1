"""The defining equation of every other model of the zoo against a slow twin, gradients included."""

import math
from typing import TypeVar

import pytest
import torch
from hypothesis import given
from torch import Tensor, nn

from m2m_model.backbone import Encoder
from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.layers import ExpertViews, GroupedLinear, Towers
from m2m_model.zoo.cgc import CGC
from m2m_model.zoo.cross_stitch import CrossStitch, CrossStitchUnit
from m2m_model.zoo.mmoe import MMoE
from m2m_model.zoo.mran import MRAN, Relation
from m2m_model.zoo.pepnet import PEPNet
from m2m_model.zoo.ple import PLE, ExtractionLayer
from m2m_model.zoo.shared_bottom import SharedBottom
from m2m_model.zoo.single_task import EmbeddingMlp, SingleTask
from m2m_model.zoo.star import STAR, PartitionedNorm, StarLinear
from tests.model.factories import SMALL, make_batch, make_spec, shaken
from tests.model.slow import (
    assert_same_with_gradients,
    dims,
    double,
    few,
    leaky,
    random_sizes,
    sequence_embedding,
    slow_linear,
)

Body = TypeVar("Body", bound=nn.Module)
SIZES = SMALL.model_copy(update={"task_experts": 2, "extraction_layers": 3})


def slow_group(x: Tensor, layer: GroupedLinear, group: int) -> Tensor:
    """One output of one group at a time."""
    weight, bias = layer.weight[group], layer.bias[group]
    return torch.stack([(x * weight[:, o]).sum() + bias[o] for o in range(len(bias))])


def slow_tower(x: Tensor, towers: Towers, task: int) -> Tensor:
    for layer in towers.layers:
        x = leaky(slow_group(x, layer, task))
    return x


def slow_views(x: Tensor, views: ExpertViews) -> list[Tensor]:
    return list(leaky(slow_linear(x, views.linear)).reshape(views.experts, views.view_dim))


def softmax(scores: Tensor) -> Tensor:
    return scores.exp() / scores.exp().sum()


def mix(weights: Tensor, items: list[Tensor]) -> Tensor:
    return sum((w * item for w, item in zip(weights, items, strict=True)), start=torch.zeros_like(items[0]))


def made(kind: type[Body], config: ModelConfig = SIZES, rows: int = 3) -> tuple[Body, Batch, DatasetSpec]:
    spec = make_spec()
    return shaken(kind(config, spec)), make_batch(spec, rows, dtype=torch.float64), spec


@given(rows=few, groups=few, inputs=dims, outputs=dims)
@random_sizes
def test_grouped_linear(rows: int, groups: int, inputs: int, outputs: int) -> None:
    layer = shaken(GroupedLinear(groups, inputs, outputs))
    own, common = double(rows, groups, inputs), double(rows, 1, inputs)
    for x in (own, common):
        slow = [slow_group(x[b, g if x is own else 0], layer, g) for b in range(rows) for g in range(groups)]
        assert_same_with_gradients(layer(x), torch.stack(slow).view(rows, groups, outputs), layer, x)


def test_shared_bottom() -> None:
    model, batch, _ = made(SharedBottom)
    inputs = model.encoder(batch).together()
    slow = []
    for row in inputs:
        h = leaky(slow_linear(row, model.bottom))
        slow.append(torch.stack([slow_tower(h, model.towers, t) for t in range(3)]))
    assert_same_with_gradients(model(batch), torch.stack(slow), model)


def slow_inputs(encoder: Encoder, spec: DatasetSpec, batch: Batch) -> list[Tensor]:
    """Of an encoder without self-attention that flattens days: one look-up after the other."""
    inputs = []
    embedding = encoder.embedding
    assert embedding is not None
    tables = embedding.table.weight.split(
        [len(spec.scenarios) + 1, *(f.size for f in spec.scenario_attributes + spec.profile)]
    )
    days = [
        sequence_embedding(encoder.backbone.sequences[name], [c.size for c in spec.sequence(name)], ids).flatten(1)
        for name, ids in (("behavior", batch.behavior), ("performance", batch.performance))
    ]
    for row in range(len(batch)):
        ids = [batch.scenario[row], *batch.attributes[row], *batch.profile[row]]
        inputs.append(torch.cat([*(of[row] for of in days), *(table[i] for table, i in zip(tables, ids, strict=True))]))
    return inputs


def test_the_encoder_looks_up_features_scenario_and_profile() -> None:
    config = SIZES.model_copy(update={"transformer": False, "pool": "flatten"})
    spec = make_spec()
    encoder, batch = shaken(Encoder(config, spec)), make_batch(spec, 3, dtype=torch.float64)
    features, scenario, profile = encoder(batch)
    slow = torch.stack(slow_inputs(encoder, spec, batch))
    assert (scenario.shape[1], profile.shape[1]) == (2 * config.embedding_dim, config.embedding_dim)
    assert_same_with_gradients(torch.cat([features, scenario, profile], dim=1), slow, encoder)


def test_single_task() -> None:
    model, batch, _ = made(SingleTask)
    slow = []
    for network in model.networks:
        rows = network.encoder(batch).together()
        slow.append(
            torch.stack([slow_tower(leaky(slow_linear(row, network.bottom)), network.towers, 0) for row in rows])
        )
    assert_same_with_gradients(model(batch), torch.stack(slow, dim=1), model)


def test_embedding_mlp() -> None:
    model, batch, spec = made(EmbeddingMlp, SIZES.model_copy(update={"pool": "flatten"}))
    slow = []
    for network in model.networks:
        rows = slow_inputs(network.encoder, spec, batch)
        slow.append(
            torch.stack([slow_tower(leaky(slow_linear(row, network.bottom)), network.towers, 0) for row in rows])
        )
    assert_same_with_gradients(model(batch), torch.stack(slow, dim=1), model)


@given(rows=few, tasks=few, view=dims)
@random_sizes
def test_cross_stitch_unit(rows: int, tasks: int, view: int) -> None:
    unit, x = shaken(CrossStitchUnit(tasks)), double(rows, tasks, view)
    slow = torch.stack([mix(unit.alpha[t], list(x[b])) for b in range(rows) for t in range(tasks)])
    assert_same_with_gradients(unit(x), slow.view(rows, tasks, view), unit, x)


def test_cross_stitch() -> None:
    model, batch, _ = made(CrossStitch)
    slow = []
    for row in model.encoder(batch).together():
        x = [leaky(slow_group(row, model.first, t)) for t in range(3)]
        for stitch, layer in zip(model.stitches, model.layers, strict=True):
            x = [leaky(slow_group(mix(stitch.alpha[t], x), layer, t)) for t in range(3)]
        slow.append(torch.stack(x))
    assert_same_with_gradients(model(batch), torch.stack(slow), model)


def test_cross_stitch_starts_with_mostly_the_own_task() -> None:
    assert CrossStitchUnit(3).alpha.tolist()[0] == pytest.approx([0.9, 0.05, 0.05])
    assert CrossStitchUnit(1).alpha.tolist() == [[1.0]]


def test_mmoe() -> None:
    model, batch, _ = made(MMoE)
    slow = []
    for row in model.encoder(batch).together():
        experts = slow_views(row, model.experts)
        for task, weight in enumerate(model.gates.weight.split(len(experts))):
            gate = softmax(torch.stack([(row * w).sum() for w in weight]))
            slow.append(slow_tower(mix(gate, experts), model.towers, task))
    assert_same_with_gradients(model(batch), torch.stack(slow).view(3, 3, -1), model)


def slow_extraction(layer: ExtractionLayer, x: list[Tensor], shared: Tensor) -> tuple[list[Tensor], Tensor | None]:
    """One level of one row: what each task gets, and what the next level shares."""
    common = slow_views(shared, layer.shared)
    own = [list(leaky(slow_group(x[t], layer.own, t)).split(len(common[0]))) for t in range(layer.tasks)]
    gates = [softmax(slow_group(x[t], layer.gates, t)) for t in range(layer.tasks)]
    mixed = [mix(gates[t], [*own[t], *common]) for t in range(layer.tasks)]
    if layer.shared_gate is None:
        return mixed, None
    everything = [expert for experts in own for expert in experts] + common
    return mixed, mix(softmax(slow_linear(shared, layer.shared_gate)), everything)


@pytest.mark.parametrize("shared_gate", [False, True])
@given(rows=few, tasks=few, own=few, experts=few, dim=dims, view=dims)
@random_sizes
def test_extraction_layer(
    shared_gate: bool, rows: int, tasks: int, own: int, experts: int, dim: int, view: int
) -> None:
    layer = shaken(
        ExtractionLayer(dim, tasks=tasks, task_experts=own, experts=experts, view_dim=view, shared_gate=shared_gate)
    )
    x, shared = double(rows, tasks, dim), double(rows, dim)
    slow = [slow_extraction(layer, list(x[b]), shared[b]) for b in range(rows)]
    mixed, passed_on = layer(x, shared)
    fast = torch.cat([mixed.flatten(1), passed_on], dim=1)
    wanted = [torch.cat([*m, *([] if p is None else [p])]) for m, p in slow]
    assert_same_with_gradients(fast, torch.stack(wanted), layer, x, shared)


def test_cgc() -> None:
    model, batch, _ = made(CGC)
    slow = []
    for row in model.encoder(batch).together():
        mixed, _ = slow_extraction(model.levels[0], [row] * 3, row)
        slow.append(torch.stack([slow_tower(mixed[t], model.towers, t) for t in range(3)]))
    assert_same_with_gradients(model(batch), torch.stack(slow), model)


def test_ple() -> None:
    model, batch, _ = made(PLE)
    slow = []
    for row in model.encoder(batch).together():
        x, shared = [row] * 3, row
        for level in model.levels:
            x, passed_on = slow_extraction(level, x, shared)
            shared = shared if passed_on is None else passed_on
        slow.append(torch.stack([slow_tower(x[t], model.towers, t) for t in range(3)]))
    assert_same_with_gradients(model(batch), torch.stack(slow), model)


def slow_relation(relation: Relation, x: list[Tensor], z: list[Tensor]) -> list[Tensor]:
    query, key, value = (
        [linear.weight @ item for item in items]
        for linear, items in ((relation.query, x), (relation.key, z), (relation.value, z))
    )
    scores = [torch.stack([(q * k).sum() / math.sqrt(len(q)) for k in key]) for q in query]
    return [mix(softmax(score), value) for score in scores]


@given(rows=few, items=few, others=few, dim=dims)
@random_sizes
def test_relation(rows: int, items: int, others: int, dim: int) -> None:
    relation = shaken(Relation(dim))
    x, z = double(rows, items, dim), double(rows, others, dim)
    slow = torch.stack([torch.stack(slow_relation(relation, list(x[b]), list(z[b]))) for b in range(rows)])
    assert_same_with_gradients(relation(x, z), slow, relation, x, z)


def test_mran() -> None:
    model, batch, _ = made(MRAN)
    tasks = list(model.task_views())
    tasks = [t + r for t, r in zip(tasks, slow_relation(model.among_tasks, tasks, tasks), strict=True)]
    slow = []
    for row in model.encoder(batch).together():
        views = slow_views(row, model.views)
        views = [v + r for v, r in zip(views, slow_relation(model.among_features, views, views), strict=True)]
        attended = slow_relation(model.of_tasks_to_features, tasks, views)
        for t in range(3):
            joint = leaky(slow_group(torch.cat([attended[t], tasks[t]]), model.joint, t))
            slow.append(slow_tower(joint, model.towers, t))
    assert_same_with_gradients(model(batch), torch.stack(slow).view(3, 3, -1), model)


def slow_star(layer: StarLinear, x: Tensor, group: int, domain: int) -> Tensor:
    weight = layer.weight[group] * (1 + layer.domain_weight[domain, group])
    bias = layer.bias[group] + layer.domain_bias[domain, group]
    return torch.stack([(x * weight[:, o]).sum() + bias[o] for o in range(len(bias))])


@given(rows=few, domains=few, groups=few, inputs=dims, outputs=dims)
@random_sizes
def test_star_linear(rows: int, domains: int, groups: int, inputs: int, outputs: int) -> None:
    layer = shaken(StarLinear(domains, groups, inputs, outputs))
    x, domain = double(rows, groups, inputs), torch.randint(0, domains, (rows,), dtype=torch.int32)
    slow = [slow_star(layer, x[b, g], g, int(domain[b])) for b in range(rows) for g in range(groups)]
    assert_same_with_gradients(layer(x, domain), torch.stack(slow).view(rows, groups, outputs), layer, x)


def slow_norm(norm: PartitionedNorm, x: Tensor, domain: int) -> Tensor:
    middle = x.sum() / len(x)
    std = (((x - middle) ** 2).sum() / len(x) + norm.norm.eps).sqrt()
    scale, shift = norm.gamma * norm.domain_gamma[domain], norm.beta + norm.domain_beta[domain]
    return (x - middle) / std * scale + shift


def test_star() -> None:
    model, batch, _ = made(STAR, rows=5)
    slow = []
    for row, domain in zip(model.encoder(batch).together(), batch.scenario.tolist(), strict=True):
        bottom = leaky(slow_star(model.bottom, slow_norm(model.norm, row, domain), 0, domain))
        auxiliary = leaky(slow_linear(torch.cat([model.domain_embedding.weight[domain], row]), model.auxiliary))
        for t in range(3):
            x = bottom
            for layer in model.towers:
                x = leaky(slow_star(layer, x, t, domain))
            slow.append(x + auxiliary)
    assert_same_with_gradients(model(batch), torch.stack(slow).view(5, 3, -1), model)


def test_star_gives_a_scenario_unseen_in_training_the_shared_network() -> None:
    layer = StarLinear(3, 1, 4, 2)
    x = torch.randn(2, 1, 4)
    plain = (x @ layer.weight).squeeze(1) + layer.bias
    torch.testing.assert_close(layer(x, torch.tensor([0, 2], dtype=torch.int32)).squeeze(1), plain)


def test_star_s_unseen_scenario_has_no_embedding_of_its_own() -> None:
    embedding = STAR(SIZES, make_spec()).domain_embedding.weight.detach()
    assert not embedding[0].any()
    assert embedding[1:].std() == pytest.approx(0.1, rel=0.5)


def test_pepnet() -> None:
    model, batch, _ = made(PEPNet)
    slow = []
    for features, scenario, profile in zip(*model.encoder(batch), strict=True):

        def gate(unit: nn.Module, prior: Tensor, x: Tensor) -> Tensor:
            hidden = slow_linear(torch.cat([prior, x.detach()]), unit.hidden).clamp(min=0)
            return 2 / (1 + (-slow_linear(hidden, unit.output)).exp())

        inputs = torch.cat([features, profile])
        embedded = gate(model.epnet, scenario, inputs) * inputs
        for t in range(3):
            h = leaky(slow_group(embedded, model.first, t))
            for unit, layer in zip(model.ppnet, model.layers, strict=True):
                own = gate(unit, profile, embedded).reshape(3, -1)[t]
                h = leaky(slow_group(own * h, layer, t))
            slow.append(h)
    assert_same_with_gradients(model(batch), torch.stack(slow).view(3, 3, -1), model)

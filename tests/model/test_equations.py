"""Every equation of the paper against a slow twin written as loops, in double precision, gradients included."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from m2m_model.ablations import LearnedUnit, PlainAttention
from m2m_model.backbone import Backbone
from m2m_model.encoder import SequenceEmbedding
from m2m_model.layers import ExpertViews, ScenarioKnowledge, TaskViews
from m2m_model.meta import Generator, MetaAttention, MetaTower, MetaUnit
from m2m_model.sequence import SelfAttention, SequenceEncoder, pool
from m2m_model.zoo.m2m import M2M
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


def generated(generator: Generator, s: Tensor) -> list[list[Tensor]]:
    """Eq. 11-12, one element at a time."""
    return [
        [always + sum(s[j] * by[j] for j in range(len(s))) for by, always in zip(row, always_row, strict=True)]
        for row, always_row in zip(generator.by_scenario, generator.always, strict=True)
    ]


def slow_meta(unit: MetaUnit, h: Tensor, s: Tensor) -> Tensor:
    """Eq. 9-13 for one row: W h + b with every element of W and b generated from s."""
    for layer, (weight, bias) in enumerate(zip(unit.weight_generators, unit.bias_generators, strict=True)):
        w, (b,) = generated(weight, s), generated(bias, s)
        if layer == 0 and unit.tail_generator is not None:
            w += generated(unit.tail_generator, s)
        h = leaky(torch.stack([b[o] + sum(h[i] * w[i][o] for i in range(len(h))) for o in range(len(b))]))
    return h


@pytest.mark.parametrize("heads", [1, 2, 3])
@given(rows=few, length=st.integers(1, 5), size=few)
@random_sizes
def test_eq_2_to_4_self_attention(heads: int, rows: int, length: int, size: int) -> None:
    dim = heads * size
    module = shaken(SelfAttention(dim, heads))
    x = double(rows, length, dim)
    q_all, k_all, v_all = module.query_key_value.weight.split(dim)
    slow = []
    for b in range(rows):
        parts = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            q, k, v = (x[b] @ w[own].T for w in (q_all, k_all, v_all))
            days = []
            for i in range(length):
                weights = [torch.exp((q[i] * k[j]).sum() / math.sqrt(size)) for j in range(length)]
                days.append(sum(weights[j] * v[j] for j in range(length)) / sum(weights))
            parts.append(torch.stack(days))
        slow.append(torch.cat(parts, dim=-1) @ module.output.weight.T)
    assert_same_with_gradients(module(x), torch.stack(slow), module, x)


def test_eq_6_expert_views() -> None:
    module = shaken(ExpertViews(5, experts=3, view_dim=2))
    x = double(4, 5)
    slow = torch.stack([leaky(slow_linear(row, module.linear)).reshape(3, 2) for row in x])
    assert_same_with_gradients(module(x), slow, module, x)


def test_eq_7_task_views() -> None:
    module = shaken(TaskViews(tasks=3, embedding_dim=2, view_dim=4))
    slow = torch.stack([leaky(slow_linear(module.embedding.weight[t], module.linear)) for t in range(3)])
    assert_same_with_gradients(module(), slow, module)


def test_eq_8_scenario_knowledge() -> None:
    module = shaken(ScenarioKnowledge([2, 4], embedding_dim=3, knowledge_dim=5))
    ids = torch.tensor([[0, 3], [1, 0], [1, 3]], dtype=torch.int32)
    table = module.embedding.table.weight
    slow = torch.stack([leaky(slow_linear(torch.cat([table[a], table[2 + b]]), module.linear)) for a, b in ids])
    assert_same_with_gradients(module(ids), slow, module)


@given(rows=few, vectors=few, dim=dims, knowledge=dims, layers=few)
@random_sizes
def test_eq_9_to_13_meta_unit(rows: int, vectors: int, dim: int, knowledge: int, layers: int) -> None:
    module = shaken(MetaUnit(dim=dim, knowledge_dim=knowledge, layers=layers))
    h, s = double(rows, vectors, dim), double(rows, knowledge)
    slow = torch.stack([slow_meta(module, h[b, r], s[b]) for b in range(rows) for r in range(vectors)])
    assert_same_with_gradients(module(h, s), slow.view(rows, vectors, dim), module, h, s)


@pytest.mark.parametrize("shared", [False, True])
@given(rows=few, tasks=few, experts=few, view=dims, knowledge=dims, layers=few)
@random_sizes
def test_eq_14_to_16_meta_attention(
    shared: bool, rows: int, tasks: int, experts: int, view: int, knowledge: int, layers: int
) -> None:
    units = 1 if shared else tasks
    module = shaken(MetaAttention(units=units, view_dim=view, knowledge_dim=knowledge, layers=layers))
    e, t, s = double(rows, experts, view), double(tasks, view), double(rows, knowledge)
    slow = []
    for b in range(rows):
        for task in range(tasks):
            unit = module.metas[0 if shared else task]
            a = [module.v @ slow_meta(unit, torch.cat([e[b, i], t[task]]), s[b]) for i in range(experts)]
            total = sum(torch.exp(score) for score in a)
            slow.append(sum(torch.exp(score) / total * e[b, i] for i, score in enumerate(a)))
    fast = torch.cat([module(e, part, s, unit=u) for u, part in enumerate(t.chunk(units))], dim=1)
    assert_same_with_gradients(fast, torch.stack(slow).view(rows, tasks, view), module, e, t, s)


@pytest.mark.parametrize("shared", [False, True])
@given(rows=few, tasks=few, view=dims, knowledge=dims, layers=few, tower_layers=few)
@random_sizes
def test_eq_17_to_18_meta_tower(
    shared: bool, rows: int, tasks: int, view: int, knowledge: int, layers: int, tower_layers: int
) -> None:
    units = 1 if shared else tasks
    module = shaken(
        MetaTower(units=units, view_dim=view, knowledge_dim=knowledge, layers=layers, tower_layers=tower_layers)
    )
    r, s = double(rows, tasks, view), double(rows, knowledge)
    slow = []
    for b in range(rows):
        for task in range(tasks):
            x = r[b, task]
            for meta in module.metas[0 if shared else task]:
                x = leaky(slow_meta(meta, x, s[b]) + x)
            slow.append(x)
    fast = torch.cat([module(part, s, unit=u) for u, part in enumerate(r.chunk(units, dim=1))], dim=1)
    assert_same_with_gradients(fast, torch.stack(slow).view(rows, tasks, view), module, r, s)


def test_a_learned_unit_has_the_knowledge_as_an_input() -> None:
    module = shaken(LearnedUnit(dim=5, knowledge_dim=3, layers=2, tail_dim=2))
    h, s, tails = double(4, 2, 3), double(3, 3), double(2, 2)
    runs = ((2, 1), (1, 2))  # rows 2 and 3 have the third key
    slow = []
    for b in range(4):
        for tail in tails:
            for vector in h[b]:
                x = torch.cat([vector, tail])
                for layer in module.layers:
                    x = leaky(slow_linear(torch.cat([x, s[min(b, 2)]]), layer))
                slow.append(x)
    assert_same_with_gradients(module(h, s, tails, runs), torch.stack(slow).view(4, 4, 5), module, h, s, tails)


def test_attention_without_a_meta_unit() -> None:
    module = shaken(PlainAttention(view_dim=3))
    e, t, s = double(2, 4, 3), double(5, 3), double(2, 6)
    slow = []
    for b in range(2):
        for task in range(5):
            a = [module.v @ leaky(slow_linear(torch.cat([e[b, i], t[task]]), module.hidden)) for i in range(4)]
            total = sum(torch.exp(score) for score in a)
            slow.append(sum(torch.exp(score) / total * e[b, i] for i, score in enumerate(a)))
    assert_same_with_gradients(module(e, t, s), torch.stack(slow).view(2, 5, 3), module, e, t)


def test_a_mean_over_days_is_of_the_days_vectors() -> None:
    sizes = [2, 4, 3]
    encoder = shaken(SequenceEncoder(SequenceEmbedding(sizes, length=5, dim=2), heads=0, how="mean"))
    ids = torch.stack([torch.randint(size, (4, 5)) for size in sizes], dim=-1)
    slow = sequence_embedding(encoder, sizes, ids).mean(dim=1)
    assert_same_with_gradients(encoder(ids), slow, encoder)


@pytest.mark.parametrize("gated", [False, True])
def test_the_whole_model_is_the_equations_in_order(gated: bool) -> None:
    """Embedding (4.1.1), eq. 5 and gates by hand; the other parts each have their own twin above."""
    spec = make_spec()
    model = shaken(M2M(SMALL.model_copy(update={"feature_gates": gated}), spec))
    batch = make_batch(spec, 4, dtype=torch.float64)
    parts = []
    for name, ids in (("behavior", batch.behavior), ("performance", batch.performance)):
        encoder = model.backbone.sequences[name]
        days = sequence_embedding(encoder, [c.size for c in spec.sequence(name)], ids)
        parts.append(torch.stack([torch.cat(list(encoder.attention(row[None])[0])) for row in days]))
    knowledge = model.knowledge(torch.cat([batch.scenario[:, None], batch.attributes, batch.profile], dim=1))
    features = torch.cat(parts, dim=1)
    if model.gate is not None:
        prior = torch.cat([knowledge, features.detach()], dim=1)
        hidden = [slow_linear(row, model.gate.hidden).clamp(min=0) for row in prior]
        features = features * torch.stack([2 / (1 + (-slow_linear(row, model.gate.output)).exp()) for row in hidden])
    experts = model.experts(features)
    views, parts = model.task_views(), []
    for t in range(len(spec.tasks)):
        x = model.attention(experts, views[[t]], knowledge, unit=t)
        parts.append(model.tower(x, knowledge, unit=t))
    slow = torch.cat(parts, dim=1)
    assert_same_with_gradients(model(batch), slow, model)


def test_dense_values_and_weekly_quartiles_follow_the_sequences() -> None:
    spec = make_spec(weeks=4, tasks=2)
    backbone = Backbone(SMALL.model_copy(update={"dense_inputs": True, "history_quartiles": True}), spec)
    batch = make_batch(spec, 3)
    features = backbone(batch)
    dense, quartiles = features[:, -spec.dense_size - 6 : -6], features[:, -6:]
    torch.testing.assert_close(dense, batch.dense, rtol=0, atol=0)
    weekly = batch.history[:, :, :4].double().numpy()
    slow = np.log1p(np.stack([np.quantile(weekly[:, t], q, axis=1) for t in range(2) for q in (0.25, 0.5, 0.75)], 1))
    np.testing.assert_allclose(quartiles.detach().numpy(), slow, rtol=1e-5, atol=1e-6)


def test_normalised_features_are_the_row_less_its_mean_over_its_deviation() -> None:
    spec = make_spec()
    backbone = Backbone(SMALL.model_copy(update={"dense_inputs": True, "feature_norm": True}), spec).double()
    batch = make_batch(spec, 3, dtype=torch.float64)
    normalised, backbone.norm = backbone.norm, torch.nn.Identity()
    slow = [(row - row.mean()) / ((row - row.mean()).square().mean() + 1e-5).sqrt() for row in backbone(batch)]
    backbone.norm = normalised
    torch.testing.assert_close(backbone(batch), torch.stack(slow))


@pytest.mark.parametrize(("how", "expected"), [("flatten", [1, 2, 3, 5]), ("mean", [2, 3.5]), ("last", [3, 5])])
def test_pool(how: str, expected: list[float]) -> None:
    assert pool(torch.tensor([[[1.0, 2.0], [3.0, 5.0]]]), how).tolist() == [expected]

"""Every equation of the paper against a slow twin written as loops, in double precision."""

import math

import pytest
import torch
from torch import Tensor, nn

from m2m_model.contracts.spec import DatasetSpec
from m2m_model.encoder import SequenceEmbedding
from m2m_model.losses import l2_penalty, poisson_loss
from m2m_model.meta import MetaAttention, MetaTower, MetaUnit
from m2m_model.output import LogRate, history_rate
from m2m_model.sequence import SelfAttention
from m2m_model.zoo.m2m import M2M
from tests.model.factories import SMALL, make_batch, make_spec

SIZES = [(1, 1, 1, 4, 3, 1), (3, 2, 4, 6, 5, 3), (5, 3, 2, 2, 1, 2)]
"""Rows, tasks, experts, view dimension, knowledge dimension, meta layers."""


@pytest.fixture(autouse=True)
def _double() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.01 * x)


def shaken(module: nn.Module) -> nn.Module:
    """In double precision, with every parameter random, so that nothing is hidden by a zero."""
    module = module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def slow_meta(unit: MetaUnit, u: int, h: Tensor, s: Tensor) -> Tensor:
    """Eq. 9-13 for one row and one unit: W h + b with W and b generated from s."""
    d = unit.dim
    for v_w, w, v_b, b in zip(unit.weight_maps, unit.weights, unit.bias_maps, unit.biases, strict=True):
        weight = torch.stack([s @ v_w[:, u * d * d + i] + w[u * d * d + i] for i in range(d * d)]).reshape(d, d)
        bias = torch.stack([s @ v_b[:, u * d + i] + b[u * d + i] for i in range(d)])
        h = leaky(torch.stack([sum(weight[i, o] * h[i] for i in range(d)) + bias[o] for o in range(d)]))
    return h


def assert_same_with_gradients(fast: Tensor, slow: Tensor, module: nn.Module) -> None:
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
    parameters = list(module.parameters())
    direction = torch.randn_like(fast)
    gradients = [torch.autograd.grad((y * direction).sum(), parameters, retain_graph=True) for y in (fast, slow)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("rows", "tasks", "experts", "view", "knowledge", "layers"), SIZES)
@pytest.mark.parametrize("shared", [False, True])
def test_meta_attention(
    rows: int, tasks: int, experts: int, view: int, knowledge: int, layers: int, shared: bool
) -> None:
    module = MetaAttention(tasks=tasks, shared=shared, view_dim=view, knowledge_dim=knowledge, layers=layers)
    shaken(module)
    e, t, s = (torch.randn(*n).double() for n in ((rows, experts, view), (tasks, view), (rows, knowledge)))
    slow = []
    for b in range(rows):
        for task in range(tasks):
            unit = 0 if shared else task
            scores = [
                module.v @ slow_meta(module.meta, unit, torch.cat([e[b, i], t[task]]), s[b]) for i in range(experts)
            ]
            total = sum(torch.exp(score) for score in scores)
            slow.append(sum(torch.exp(score) / total * e[b, i] for i, score in enumerate(scores)))
    assert_same_with_gradients(module(e, t, s), torch.stack(slow).view(rows, tasks, view), module)


@pytest.mark.parametrize(("rows", "tasks", "experts", "view", "knowledge", "layers"), SIZES)
@pytest.mark.parametrize("shared", [False, True])
def test_meta_tower(rows: int, tasks: int, experts: int, view: int, knowledge: int, layers: int, shared: bool) -> None:
    module = MetaTower(
        tasks=tasks, shared=shared, view_dim=view, knowledge_dim=knowledge, layers=layers, tower_layers=2
    )
    shaken(module)
    r, s = torch.randn(rows, tasks, view).double(), torch.randn(rows, knowledge).double()
    slow = []
    for b in range(rows):
        for task in range(tasks):
            x = r[b, task]
            for meta in module.metas:
                x = leaky(slow_meta(meta, 0 if shared else task, x, s[b]) + x)
            slow.append(x)
    assert_same_with_gradients(module(r, s), torch.stack(slow).view(rows, tasks, view), module)


@pytest.mark.parametrize(("length", "dim", "heads"), [(1, 2, 1), (5, 6, 2), (7, 8, 4)])
def test_self_attention(length: int, dim: int, heads: int) -> None:
    module = SelfAttention(dim, heads)
    shaken(module)
    x = torch.randn(2, length, dim).double()
    q_all, k_all, v_all = module.query_key_value.weight.split(dim)
    size = dim // heads
    slow = torch.zeros_like(x)
    for b in range(2):
        parts = []
        for h in range(heads):
            rows = slice(h * size, (h + 1) * size)
            q, k, v = (x[b] @ w[rows].T for w in (q_all, k_all, v_all))
            scores = torch.stack([torch.stack([q[i] @ k[j] for j in range(length)]) for i in range(length)])
            parts.append(torch.softmax(scores / math.sqrt(size), dim=-1) @ v)
        slow[b] = torch.cat(parts, dim=-1) @ module.output.weight.T
    torch.testing.assert_close(module(x), slow, rtol=1e-9, atol=1e-9)


def test_position_is_concatenated_and_columns_have_their_own_embeddings() -> None:
    module = SequenceEmbedding([3, 5], length=4, dim=2)
    ids = torch.tensor([[[0, 0], [1, 4], [2, 0], [0, 3]]], dtype=torch.int32)
    out = module(ids)
    table = module.features.table.weight
    for day in range(4):
        first, second = ids[0, day].tolist()
        expected = torch.cat([table[first], table[3 + second], module.position[day]])
        torch.testing.assert_close(out[0, day], expected)


def test_log_rate_offset_and_clamps() -> None:
    spec: DatasetSpec = make_spec(tasks=2)
    module = LogRate(spec, 3, offset=True)
    history = torch.tensor([[[7.0, 0.0, 14.0, 0.0, 20.0], [0.0, 0.0, 0.0, 0.0, 0.0]]])
    rates = [7 / 7, 7 / 14, 21 / 28, 20 / spec.sequence_length]
    torch.testing.assert_close(
        history_rate(history, spec), torch.tensor([[0.1 + 7 * sum(rates) / 4, 0.1]]), rtol=1e-6, atol=0
    )
    high = module(torch.full((1, 2, 3), 1e6) * module.weight.sign(), history)
    assert high[0, 0].item() == pytest.approx(math.log(7))  # at most every day of the horizon
    assert high[0, 1].item() == pytest.approx(math.log(100) + 3)
    low = module(torch.full((1, 2, 3), -1e3) * module.weight.sign(), history)
    assert (low < -5).all()  # no lower clamp


def test_poisson_loss_and_penalties() -> None:
    z, y, weights = torch.randn(4, 2), torch.rand(4, 2), torch.tensor([2.0, 0.5])
    slow = sum(weights[t] * (math.exp(z[i, t]) - y[i, t] * z[i, t]) for i in range(4) for t in range(2))
    torch.testing.assert_close(poisson_loss(z, y, weights), slow)
    model = M2M(SMALL, make_spec())
    names = {name for name, _ in model.named_parameters()}
    meta = {name for name in names if ".meta." in name or ".metas." in name}
    assert meta
    expected = sum(p.square().sum() for name, p in model.named_parameters() if name in meta)
    torch.testing.assert_close(l2_penalty(model, meta=1.0, network=0.0), expected)
    assert l2_penalty(model, meta=0.0, network=0.0) == 0
    assert l2_penalty(model, meta=0.0, network=1.0) > 0


def test_the_whole_model_is_the_equations_in_order() -> None:
    spec = make_spec()
    model = M2M(SMALL, spec)
    batch = make_batch(spec, 4)
    parts = [
        model.attentions[name](model.embeddings[name](ids)).flatten(1)
        for name, ids in (("behavior", batch.behavior), ("performance", batch.performance))
    ]
    features = torch.cat(parts, dim=1)
    experts = torch.stack(
        [
            leaky(features @ weight.T + bias)
            for weight, bias in zip(model.experts.weight.split(6), model.experts.bias.split(6), strict=True)
        ],
        dim=1,
    )
    views = leaky(model.task_embedding.weight @ model.task_view.weight.T + model.task_view.bias)
    ids = torch.cat([batch.scenario[:, None], batch.attributes, batch.profile], dim=1)
    knowledge = leaky(model.attributes(ids) @ model.knowledge.weight.T + model.knowledge.bias)
    expected = model.output(model.tower(model.attention(experts, views, knowledge), knowledge), batch.history)
    torch.testing.assert_close(model(batch), expected)

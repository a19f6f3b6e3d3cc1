"""The step's parts against their plain forms: one backward pass, torch's Adam, clip_grad_value_, the L2 terms."""

import pytest
import torch
from torch import Tensor, nn

from benchmarks.train.world import paper_loss
from m2m_model.losses import parameter_groups
from m2m_model.zoo.m2m import M2M
from m2m_model.zoo.registry import build_model
from tests.model.factories import SMALL, make_batch, make_spec
from training import optimizer
from training.config import TrainConfig
from training.optimizer import make_optimizer
from training.step import backward_by_task

SPEC = make_spec()
WEIGHTS = torch.tensor([1.0, 0.5, 0.2])


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"share_meta_across_tasks": True},
        {"meta_attention": "none"},
        {"meta_tower": "none"},
        {"meta_attention": "none", "meta_tower": "none"},
    ],
)
def test_task_by_task_gives_the_gradients_of_one_pass(fields: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = build_model(SMALL.model_copy(update=fields), SPEC).double()
    assert isinstance(model.body, M2M)
    batch = make_batch(SPEC, 30, dtype=torch.float64)
    joint = paper_loss(model, WEIGHTS.double())
    whole = joint(model(batch), batch)
    whole.backward()
    expected = gradients(model)
    model.zero_grad()
    own: dict[nn.Parameter, Tensor] = {}

    def keep(parameters: list[nn.Parameter]) -> None:
        own.update({parameter: parameter.grad.clone() for parameter in parameters})

    total = backward_by_task(
        model.body, batch, lambda x, tasks: joint(model.output(x, batch.history, tasks), batch, tasks), keep
    )
    assert total == pytest.approx(whole.item(), rel=1e-12)
    assert all(parameter.grad is None for parameter in own)
    for name, parameter in model.named_parameters():
        actual = own.get(parameter, parameter.grad)
        torch.testing.assert_close(actual, expected[name], rtol=1e-9, atol=1e-12, msg=name)


@pytest.mark.parametrize("shared", [False, True])
def test_gradients_in_bf16_are_fp32_numbers_near_the_exact_ones(shared: bool) -> None:
    torch.manual_seed(0)
    model = build_model(SMALL.model_copy(update={"share_meta_across_tasks": shared}), SPEC)
    assert isinstance(model.body, M2M)
    batch, joint = make_batch(SPEC, 60), paper_loss(model, WEIGHTS)
    joint(model(batch), batch).backward()
    exact = gradients(model)
    model.zero_grad()
    rounded: dict[nn.Parameter, Tensor] = {}

    def keep(parameters: list[nn.Parameter]) -> None:
        rounded.update({parameter: parameter.grad.clone() for parameter in parameters})

    def loss(views: Tensor, tasks: slice) -> Tensor:
        return joint(model.output(views, batch.history, tasks), batch, tasks)

    backward_by_task(model.body, batch, loss, keep, bf16=True)
    found = {name: rounded.get(parameter, parameter.grad) for name, parameter in model.named_parameters()}
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}
    difference, size = (
        torch.cat([part.flatten() for part in parts]).norm()
        for parts in ([found[name] - exact[name] for name in exact], exact.values())
    )
    assert 0 < difference < 0.2 * size


@pytest.mark.parametrize("chunk", [7, 1 << 16])
def test_the_optimizer_is_l2_then_clipping_then_adam(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizer, "CHUNK", chunk)
    config = TrainConfig(l2_meta=0.3, l2_network=0.1, clip_value=0.5, learning_rate=0.01, eps=1e-3)
    models = []
    for _ in range(2):
        torch.manual_seed(0)
        models.append(build_model(SMALL, SPEC).double())
    ours, plain = (
        make_optimizer(models[0], config),
        torch.optim.Adam(models[1].parameters(), lr=0.01, betas=config.betas, eps=config.eps),
    )
    for step in range(4):
        batch = make_batch(SPEC, 20, seed=step, dtype=torch.float64)
        for model in models:
            model.zero_grad()
            loss = paper_loss(model, WEIGHTS.double())(model(batch), batch)
            if model is models[1]:
                groups = parameter_groups(model)
                loss = loss + 0.3 * sum(p.square().sum() for p in groups.meta)
                loss = loss + 0.1 * sum(p.square().sum() for p in groups.network)
            loss.backward()
        nn.utils.clip_grad_value_(models[1].parameters(), 0.5)
        plain.step()
        ours.step()
    for (name, one), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11, msg=name)


def test_a_part_of_the_parameters_can_be_updated_alone() -> None:
    model = build_model(SMALL, SPEC)
    assert isinstance(model.body, M2M)
    batch = make_batch(SPEC, 5)
    paper_loss(model, WEIGHTS)(model(batch), batch).backward()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    adam = make_optimizer(model, TrainConfig())
    chosen = set(model.body.own_parameters(1))
    adam.step(chosen)
    for name, parameter in model.named_parameters():
        assert torch.equal(before[name], parameter) == (parameter not in chosen)
    restored = make_optimizer(model, TrainConfig())
    restored.load_state_dict(adam.state_dict())
    assert set(restored.state) == chosen

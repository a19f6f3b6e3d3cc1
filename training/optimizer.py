"""Adam with the L2 gradient and the clipping in the same pass over memory."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from m2m_model.losses import parameter_groups
from training.config import TrainConfig

CHUNK = 1 << 16
"""Elements of a parameter updated at a time: its weight, gradient and two moments fill a core's own cache, 1 MiB."""


def make_optimizer(model: nn.Module, config: TrainConfig) -> "ClippedAdam":
    """The optimizer of 5.1.3 over all parameters, with the two L2 terms of eq. 19."""
    return ClippedAdam(parameter_options(model, config), **adam_options(config))


def parameter_options(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """All parameters, in groups by their coefficient of eq. 19."""
    groups = parameter_groups(model)
    penalised = {*groups.meta, *groups.network}
    rest = [parameter for parameter in model.parameters() if parameter not in penalised]
    options = [
        {"params": list(groups.meta), "alpha": config.l2_meta},
        {"params": list(groups.network), "alpha": config.l2_network},
        {"params": rest, "alpha": 0.0},
    ]
    return [group for group in options if group["params"]]


def adam_options(config: TrainConfig) -> dict[str, Any]:
    return {
        "lr": config.learning_rate,
        "betas": config.betas,
        "eps": config.eps,
        "clip_value": config.clip_value,
    }


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


class ClippedAdam(torch.optim.Optimizer):
    """``g <- clip(dL/dw + 2 alpha w)`` to [-clip_value, clip_value], then Adam's update of w with g (5.1.3).

    One by one, the L2 gradient, the clipping and the update each read and write every parameter: at 384 M parameters
    that costs more than the update. Here all three run over a chunk while it is in cache. ``alpha`` is a parameter
    group's coefficient of eq. 19.

    ``step`` may be called for some of the parameters: a task's, as soon as they have their gradient.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        clip_value: float,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "clip_value": clip_value, "alpha": 0.0})

    @torch.no_grad()
    def step(self, only: Iterable[nn.Parameter] | None = None) -> None:  # type: ignore[override]
        """Update all parameters, or ``only`` these, that have a gradient."""
        wanted = None if only is None else set(only)
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and (wanted is None or parameter in wanted):
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        tensors = (parameter, gradient, state["exp_avg"], state["exp_avg_sq"])
        for w, g, first, second in zip(*(tensor.view(-1).split(CHUNK) for tensor in tensors), strict=True):
            if group["alpha"]:
                g.add_(w, alpha=2 * group["alpha"])
            g.clamp_(-group["clip_value"], group["clip_value"])
            # What torch.optim.Adam(fused=True) calls, without its 30 us of bookkeeping a call.
            torch._fused_adam_(
                [w],
                [g],
                [first],
                [second],
                [],
                [state["step"]],
                amsgrad=False,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=0.0,
                eps=group["eps"],
                maximize=False,
            )

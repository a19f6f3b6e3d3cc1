"""From a task's representation to the parameters of its forecast, and from those to the forecasts.

Letters: B rows, M tasks, N of them, V view dimension, H history values of a task, P parameters of a forecast,
Q quantiles, K1 outcomes.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from m2m_model.contracts.schema import QUANTILES
from m2m_model.contracts.spec import AMOUNTS, DatasetSpec, TaskSpec
from m2m_model.distribution import Bins, quantiles, smape_actions
from m2m_model.history import recent_level

HEADROOM = 3.0
"""How far above the largest training label a log-mean may go."""
OUTPUT_SHARE = 0.1
"""Initial size of the linear unit's weights relative to a unit-variance output."""
VALUE, POSITIVE, LOCATION, LOG_SCALE, MEAN = range(5)
"""The parameters: log-forecast (of a binary task log-odds), then, if there is a predictive distribution, its own and a
log-mean: an L1 loss makes medians of the first, and the tail of binned masses says little of a mean."""
SCALE_RANGE = (-4.0, 3.0)


class Forecasts(NamedTuple):
    """All that a model says about rows."""

    mean: Float[Tensor, "B M"]
    """Expectation; of a binary task the probability."""
    centre: Float[Tensor, "B M"]
    """What the loss of the point forecast fits: the expectation under a likelihood, a median under an L1 loss."""
    smape: Float[Tensor, "B M"]
    """What minimises expected SMAPE under the predictive distribution; without one the centre."""
    quantiles: Float[Tensor, "B M Q"]
    """Those of :data:`QUANTILES` under the predictive distribution, NaN of other kinds; Q = 0 without one."""


class Ceiling(torch.autograd.Function):
    """``min(value, ceiling)``; of the gradient what pulls down passes, so that no row is stuck above the ceiling."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, ceiling: Tensor) -> Tensor:
        ctx.save_for_backward(value > ceiling)
        return torch.minimum(value, ceiling)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (above,) = ctx.saved_tensors
        (gradient,) = gradients
        return gradient.masked_fill(above & (gradient < 0), 0.0), None


class Output(nn.Module):
    """Linear units on a task's representation: ``w_t . x_t + b_t`` for each of P parameters, plus the offset.

    The log-forecast and the log-mean are clamped above: at log(largest training label) + 3, and at what a task can be;
    there is no lower clamp. Without an offset their biases start at the log of the mean training label (binary:
    log-odds).

    Shape:
        x [B, N, V] of the N ``tasks`` (default: all M), history [B, M, H] -> [B, N, P]; P = 5 with a distribution,
        else 1
    """

    def __init__(self, spec: DatasetSpec, dim: int, *, offset: bool, distribution: bool) -> None:
        super().__init__()
        self.spec, self.offset = spec, offset
        self.bins = Bins(spec) if distribution else None
        tasks = len(spec.tasks)
        parameters = 5 if distribution else 1
        self.weight = nn.Parameter(torch.randn(parameters, tasks, dim) * OUTPUT_SHARE / math.sqrt(dim))
        self.bias = nn.Parameter(torch.zeros(parameters, tasks))
        if not offset:
            means = torch.tensor([max(task.mean_label, 1e-6) for task in spec.tasks])
            with torch.no_grad():
                self.bias[VALUE] = torch.where(self._of_kind("binary"), means.clamp(max=0.999).logit(), means.log())
                if distribution:
                    self.bias[LOCATION], self.bias[MEAN] = means.log1p(), means.log()
        self.register_buffer("binary", self._of_kind("binary"), persistent=False)
        self.register_buffer("amounts", self._of_kind(*AMOUNTS), persistent=False)
        self.register_buffer(
            "ceiling", torch.tensor([log_ceiling(task, spec) for task in spec.tasks]), persistent=False
        )
        self.binary: Tensor
        self.amounts: Tensor
        self.ceiling: Tensor

    def forward(
        self, x: Float[Tensor, "B N V"], history: Float[Tensor, "B M H"], tasks: slice = slice(None)
    ) -> Float[Tensor, "B N P"]:
        binary, units = self.binary[tasks], zip(self.weight[:, tasks], self.bias[:, tasks], strict=True)
        parameters = torch.stack([(x * weight).sum(dim=-1) + bias for weight, bias in units], dim=-1)
        level = recent_level(history, self.spec)[:, tasks] if self.offset else None
        ceiling = self.ceiling[tasks]
        value = parameters[..., VALUE]
        if level is not None:
            value = value + torch.where(binary, level.clamp(max=0.999).logit(), level.log())
        capped: Tensor = Ceiling.apply(value, ceiling)  # type: ignore[no-untyped-call]
        if self.bins is None:
            return capped.unsqueeze(-1)
        _, positive, location, log_scale, log_mean = parameters.unbind(dim=-1)
        if level is not None:
            # The odds of any label grow with the expected one.
            positive, location, log_mean = positive + level.log(), location + level.log1p(), log_mean + level.log()
        log_mean = Ceiling.apply(log_mean, ceiling)  # type: ignore[no-untyped-call]
        return torch.stack([capped, positive, location, log_scale.clamp(*SCALE_RANGE), log_mean], dim=-1)

    def forecasts(self, *members: Float[Tensor, "B M P"]) -> Forecasts:
        """Forecasts in the labels' units, in double precision, from a model's parameters, or from several models':
        then of the mixture of their predictive distributions, and the means of their means and centres.
        """
        parts = [self._predicted(parameters.double()) for parameters in members]
        mean, centre = (torch.stack(one).mean(dim=0) for one in zip(*(part[:2] for part in parts), strict=True))
        if self.bins is None:
            return Forecasts(mean, centre, centre, centre.new_zeros(*centre.shape, 0))
        masses, values = torch.stack([part[2] for part in parts]).mean(dim=0), self.bins.values.double()
        spread = quantiles(masses, values, list(QUANTILES.values()))
        return Forecasts(
            mean=mean,
            centre=centre,
            smape=torch.where(self.amounts, smape_actions(masses, values), centre),
            quantiles=torch.where(self.amounts.unsqueeze(-1), spread, torch.nan),
        )

    def _predicted(
        self, parameters: Float[Tensor, "B M P"]
    ) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B M"], Float[Tensor, "B M K1"]]:
        """One model's mean, centre and masses of outcomes, K1 = 0 without a predictive distribution."""
        value, *shape = parameters.unbind(dim=-1)
        centre = torch.where(self.binary, value.sigmoid(), value.exp())
        if self.bins is None:
            return centre, centre, centre.new_zeros(*centre.shape, 0)
        positive, location, log_scale, log_mean = shape
        masses = self.bins.log_masses(positive, location, log_scale).exp()
        return torch.where(self.amounts, log_mean.exp(), centre), centre, masses

    def _of_kind(self, *kinds: str) -> Tensor:
        return torch.tensor([task.kind in kinds for task in self.spec.tasks])


def log_ceiling(task: TaskSpec, spec: DatasetSpec) -> float:
    """The largest log-mean that any model may forecast; none of a binary task's log-odds."""
    if task.kind == "binary":
        return math.inf
    ceiling = math.log(max(task.max_label, 1e-6)) + HEADROOM
    return min(ceiling, math.log(task.largest_label(spec.horizon)))

"""From a task's representation to its log-rate: linear unit, head bias, offset, upper clamp.

Letters: B rows, M tasks, N of them, V view dimension, H history values of a task.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from m2m_model.contracts.spec import DatasetSpec

OFFSET_FLOOR = 0.1
"""Added to the offset's rate, in units of the label, so that an advertiser without history has a logarithm."""
HEADROOM = 3.0
"""How far above the largest training label a log-rate may go."""
OUTPUT_SHARE = 0.1
"""Initial size of the linear unit's weights relative to a unit-variance output."""


class LogRate(nn.Module):
    """z = w_t . x_t + b_t (+ log offset), clamped above: at log(largest training label) + 3, and at what a task can be.

    Without an offset b_t starts at the log of the mean training label. There is no lower clamp.

    Shape:
        x [B, N, V] of the N ``tasks`` (default: all M), history [B, M, H] -> log-rates [B, N]
    """

    def __init__(self, spec: DatasetSpec, dim: int, *, offset: bool) -> None:
        super().__init__()
        tasks = spec.tasks
        self.weight = nn.Parameter(torch.randn(len(tasks), dim) * OUTPUT_SHARE / math.sqrt(dim))
        means = torch.tensor([task.mean_label for task in tasks]).clamp(min=1e-6)
        self.bias = nn.Parameter(torch.zeros(len(tasks)) if offset else means.log())
        ceilings = [math.log(max(task.max_label, 1e-6)) + HEADROOM for task in tasks]
        for index, task in enumerate(tasks):
            if task.daily_max is not None:
                ceilings[index] = min(ceilings[index], math.log(task.daily_max * spec.horizon))
        self.register_buffer("ceiling", torch.tensor(ceilings), persistent=False)
        self.ceiling: Tensor
        self.spec, self.offset = spec, offset

    def forward(
        self, x: Float[Tensor, "B N V"], history: Float[Tensor, "B M H"], tasks: slice = slice(None)
    ) -> Float[Tensor, "B N"]:
        z = (x * self.weight[tasks]).sum(dim=-1) + self.bias[tasks]
        if self.offset:
            z = z + history_rate(history[:, tasks], self.spec).log()
        return torch.minimum(z, self.ceiling[tasks])


def history_rate(history: Float[Tensor, "B M H"], spec: DatasetSpec) -> Float[Tensor, "B M"]:
    """0.1 + the mean of the recent 7-, 14-, 28- and T-day rates, per horizon."""
    rates = [history[..., :weeks].sum(dim=-1) / (7 * weeks) for weeks in (1, 2, 4) if weeks <= spec.history_weeks]
    rates.append(history[..., -1] / spec.sequence_length)
    return OFFSET_FLOOR + spec.horizon * torch.stack(rates).mean(dim=0)

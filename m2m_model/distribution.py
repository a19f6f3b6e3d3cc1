"""The predictive distribution of a task: a mass at zero, and a discretised logistic of log1p(label) over bins.

Letters: B rows, M tasks, N some of them, K positive bins, K1 = K + 1 outcomes: zero, then the bins in order,
C forecasts to choose from, Q quantiles.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from m2m_model.contracts.spec import DatasetSpec, TaskSpec

BINS = 60
FAR = 1e3
"""Stands for infinity on the axis of log1p(label), where differences must stay finite."""


class Bins(nn.Module):
    """K bins of the positive labels of every task, fixed by the spec: the integers up to where they get too many, then
    (for decimals: from the smallest unit on) of equal width in the logarithm, up to the largest training label. A task
    with fewer is padded with bins that no label reaches.
    """

    def __init__(self, spec: DatasetSpec) -> None:
        super().__init__()
        starts = [bin_starts(task, spec.horizon) for task in spec.tasks]
        count = max(len(one) for one in starts)
        edges = np.full((len(starts), count + 1), FAR)
        values = np.zeros((len(starts), count + 1))
        for index, one in enumerate(starts):
            edges[index, 0] = -FAR
            edges[index, 1 : len(one)] = np.log1p(one[1:])
            edges[index, len(one) :] += np.arange(count + 1 - len(one))
            task = spec.tasks[index]
            middles = bin_values(one, whole=task.scale == 0)
            values[index, 1 : len(one) + 1] = np.minimum(middles, task.largest_label(spec.horizon))
            values[index, len(one) + 1 :] = values[index, len(one)]
        self.register_buffer("edges", torch.from_numpy(edges).float(), persistent=False)
        self.register_buffer("values", torch.from_numpy(values).float(), persistent=False)
        self.edges: Tensor
        """[M, K1] on the axis of log1p(label)"""
        self.values: Tensor
        """[M, K1], the label that stands for each outcome"""

    def outcomes(self, labels: Float[Tensor, "B N"], tasks: slice = slice(None)) -> Int[Tensor, "B N"]:
        """0 for a label of 0, else 1 + its bin; of the N ``tasks``, all by default."""
        positions = torch.searchsorted(self.edges[tasks].contiguous(), labels.log1p().T.contiguous(), right=True).T
        return torch.where(labels > 0, positions, 0)

    def log_masses(
        self,
        positive: Float[Tensor, "B N"],
        location: Float[Tensor, "B N"],
        log_scale: Float[Tensor, "B N"],
        tasks: slice = slice(None),
    ) -> Float[Tensor, "B N K1"]:
        """log p of every outcome, from the log-odds of a positive label and the logistic's location and log-scale."""
        scaled = (self.edges[tasks] - location.unsqueeze(-1)) * (-log_scale).exp().unsqueeze(-1)
        low, high = scaled[..., :-1], scaled[..., 1:]
        # sigma(b) - sigma(a) = sigma(b) sigma(-a) (1 - e^(a - b))
        inside = functional.logsigmoid(high) + functional.logsigmoid(-low) + torch.log(-torch.expm1(low - high))
        outcomes = [
            functional.logsigmoid(-positive).unsqueeze(-1),
            functional.logsigmoid(positive).unsqueeze(-1) + inside,
        ]
        return torch.cat(outcomes, dim=-1)


def bin_starts(task: TaskSpec, horizon: int) -> Float[np.ndarray, "K"]:
    """Ascending lower ends of a task's bins, the last one open."""
    largest = task.largest_label(horizon)
    if np.isinf(largest):
        largest = max(task.max_label, 1.0)
    if task.scale == 0:
        whole: Float[np.ndarray, K] = np.unique(np.geomspace(1.0, max(largest, 2.0), BINS).round()) - 0.5
        return whole
    smallest = min(10.0**-task.scale, largest / 2)
    starts: Float[np.ndarray, K] = np.geomspace(smallest, largest, BINS)
    return starts


def bin_values(starts: Float[np.ndarray, "K"], *, whole: bool) -> Float[np.ndarray, "K"]:
    """The middle of every bin; of the open one as if it had one whole number, or were as wide, in the logarithm, as the
    one before."""
    ends = np.append(starts[1:], starts[-1] + 1.0 if whole else starts[-1] ** 2 / starts[-2])
    return np.asarray((starts + ends) / 2, float)


def quantiles(
    masses: Float[Tensor, "B M K1"], values: Float[Tensor, "M K1"], levels: Sequence[float]
) -> Float[Tensor, "B M Q"]:
    """The smallest outcome whose cumulative probability reaches each level."""
    cumulative = masses.cumsum(dim=-1)
    wanted = torch.tensor(levels, dtype=masses.dtype).expand(*masses.shape[:-1], -1).contiguous()
    positions = torch.searchsorted(cumulative, wanted).clamp(max=masses.shape[-1] - 1)
    return values.expand_as(masses).gather(-1, positions)


def smape_costs(values: Float[Tensor, "M K1"]) -> Float[Tensor, "M K1 C"]:
    """The SMAPE term of every label against every forecast, both out of ``values``: 0/0 is 0."""
    labels, forecasts = values.unsqueeze(-1), values.unsqueeze(-2)
    middle = (labels + forecasts) / 2
    return torch.where(middle > 0, (labels - forecasts).abs() / middle.clamp(min=1e-30), 0.0)


def smape_actions(masses: Float[Tensor, "B M K1"], values: Float[Tensor, "M K1"]) -> Float[Tensor, "B M"]:
    """The outcome whose value, as a forecast, has the least expected SMAPE."""
    expected = torch.einsum("bmk,mkc->bmc", masses, smape_costs(values).to(masses.dtype))
    return values.expand_as(masses).gather(-1, expected.argmin(dim=-1, keepdim=True)).squeeze(-1)

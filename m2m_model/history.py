"""What the row's own recent sums say, for models and baselines alike.

Letters: B rows, M tasks, H history values of a task (weekly sums, most recent first, then the T-day sum; of a rate
its weekly rates and the T-day rate, of a binary task its weekly and T-day outcomes).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from m2m_model.contracts.spec import DatasetSpec

OFFSET_FLOOR = 0.1
"""Added to a recent sum, in units of the label (of a rate: of its mean), so that no history too has a logarithm."""
QUARTILES = (0.25, 0.5, 0.75)


def recent_level(history: Float[Tensor, "B M H"], spec: DatasetSpec) -> Float[Tensor, "B M"]:
    """0.1 + the mean of the recent 7-, 14-, 28- and T-day sums, each per horizon.

    Of a rate: 0.1 mean labels + the mean of the recent weekly and T-day rates. Of a binary task: the share of weeks
    with the outcome, after half a week with it and half a week without.
    """
    windows = [history[..., :weeks].sum(dim=-1) / (7 * weeks) for weeks in (1, 2, 4) if weeks <= spec.history_weeks]
    windows.append(history[..., -1] / spec.sequence_length)
    levels = OFFSET_FLOOR + spec.horizon * torch.stack(windows).mean(dim=0)
    for index, task in enumerate(spec.tasks):
        if task.kind == "rate":
            floor = OFFSET_FLOOR * max(task.mean_label, 1e-6)
            levels[:, index] = floor + history[:, index].mean(dim=-1)
        elif task.kind == "binary":
            weeks = history[:, index, :-1]
            levels[:, index] = (0.5 + weeks.sum(dim=-1)) / (1 + spec.history_weeks)
    return levels


def weekly_quartiles(history: Float[Tensor, "B M H"]) -> Float[Tensor, "B 3*M"]:
    """log1p of the lower quartile, the median and the upper quartile of the weekly values, task by task."""
    ordered = history[..., :-1].sort(dim=-1).values
    positions = [level * (ordered.shape[-1] - 1) for level in QUARTILES]
    quartiles = [ordered[..., int(p)].lerp(ordered[..., math.ceil(p)], p % 1) for p in positions]
    return torch.stack(quartiles, dim=-1).flatten(1).log1p()

"""What is known of the whole world from sums over blocks: totals by day, shares of scenarios, correlations.

All sums are integers, so that they are the same in whatever order blocks come.
"""

from dataclasses import dataclass

import numpy as np

from etl.sources.synthetic.simulate import Block
from etl.sources.synthetic.world import World

CORRELATIONS = {
    ("sponsored_search", "news_feed"): {"expenditure": 0.67, "clicks": 0.61},
    ("sponsored_search", "display"): {"expenditure": 0.57, "clicks": 0.53},
    ("news_feed", "display"): {"expenditure": 0.70, "clicks": 0.45},
}
"""The paper's Table 1."""
FIELDS = {"expenditure": "spend", "clicks": "clicks"}
LOG_UNIT = 1000
"""Logs are summed in thousandths."""
DAYS_PER_WEEK = 7


def block_sums(world: World, block: Block) -> dict[str, list[int]]:
    """The block's part of every sum, as flat lists of integers."""
    sums = {
        "active": (block.impressions > 0).sum(axis=1),
        **{name: getattr(block, name).sum(axis=1) for name in ("impressions", "clicks", "spend")},
    }
    flat = {name: values.reshape(-1).tolist() for name, values in sums.items()}
    for pair, tasks in CORRELATIONS.items():
        for task in tasks:
            flat[_key(pair, task)] = _moments(world, block, pair, FIELDS[task])
    return flat


def _key(pair: tuple[str, str], task: str) -> str:
    return f"{task}:{pair[0]}:{pair[1]}"


def _moments(world: World, block: Block, pair: tuple[str, str], field: str) -> list[int]:
    """n and sums of x, y, xx, yy, xy over advertisers and whole weeks in which both scenarios ran.

    x and y are log(1 + the week's value) in the two scenarios.
    """
    first, second = (world.parameters.names.index(name) for name in pair)
    values = getattr(block, field)
    weeks = values.shape[0] // DAYS_PER_WEEK
    weekly = _weekly(values[..., [first, second]], weeks)
    ran = (_weekly(block.impressions[..., [first, second]], weeks) > 0).all(axis=-1)
    logs = np.round(LOG_UNIT * np.log1p(weekly[ran] / (100 if field == "spend" else 1))).astype(np.int64)
    x, y = logs[:, 0], logs[:, 1]
    return [len(x), *(int(part.sum()) for part in (x, y, x * x, y * y, x * y))]


def _weekly(values: np.ndarray, weeks: int) -> np.ndarray:
    sums: np.ndarray = values[: weeks * DAYS_PER_WEEK].reshape(weeks, DAYS_PER_WEEK, *values.shape[1:]).sum(axis=1)
    return sums


@dataclass(frozen=True)
class Measured:
    """A number of the world beside the paper's."""

    name: str
    target: float
    measured: float | None
    """None where there is too little to measure it."""


def correlations(sums: dict[str, list[int]]) -> list[Measured]:
    """Pearson correlations beside the paper's Table 1."""
    rows = []
    for pair, tasks in CORRELATIONS.items():
        for task, target in tasks.items():
            n, x, y, xx, yy, xy = sums[_key(pair, task)]
            scale = (n * xx - x * x) * (n * yy - y * y)
            measured = (n * xy - x * y) / scale**0.5 if scale > 0 else None
            rows.append(Measured(f"{task} <{pair[0]}, {pair[1]}>", target, measured))
    return rows


def shares(world: World, sums: dict[str, list[int]]) -> list[Measured]:
    """Each scenario's part of the days on which an advertiser shows ads, beside its part of Table 3's samples."""
    names = world.parameters.names
    active = np.array(sums["active"]).reshape(-1, len(names)).sum(axis=0)
    samples = np.array(world.parameters.column("samples"))
    return [
        Measured(name, float(target), float(share))
        for name, target, share in zip(names, samples / samples.sum(), active / max(active.sum(), 1), strict=True)
    ]


def add_sums(one: dict[str, list[int]], other: dict[str, list[int]]) -> dict[str, list[int]]:
    return {name: [a + b for a, b in zip(values, other[name], strict=True)] for name, values in one.items()}

"""The plots of ``docs/synthetic_world.md``: what the frozen world of a config looks like, from its first blocks."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from etl.sources.synthetic.generate import make_world, synthetic_config
from etl.sources.synthetic.simulate import Block, block_sizes, simulate
from etl.sources.synthetic.world import GONE, PAUSED, RUNNING, World
from jobs.config import RunConfig, argument_parser, run_job

WEEK = 7
COLORS = ("#1b6ca8", "#d1495b", "#edae49", "#3c8d5a", "#7a5195")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/synthetic_world"))
    parser.add_argument("--blocks", type=int, default=12)
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    world, synthetic = make_world(config.raw), synthetic_config(config)
    sizes = block_sizes(synthetic.advertisers)[: arguments.blocks]
    blocks = [simulate(world, seed=synthetic.seed, block=number, count=count) for number, count in enumerate(sizes)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    figures = {
        "days": days(world, blocks),
        "lives": lives(world, blocks[0]),
        "labels": labels(world, blocks),
        "correlations": correlations(world, blocks),
    }
    for name, figure in figures.items():
        path = arguments.out / f"{name}.png"
        figure.savefig(path, dpi=80, bbox_inches="tight")
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    return 0


def days(world: World, blocks: Sequence[Block]) -> Figure:
    """Impressions and advertisers showing ads, by day and scenario."""
    figure: Figure = Figure(figsize=(9, 5.2), layout="constrained")
    (top, bottom) = figure.subplots(2, 1, sharex=True)
    dates = np.datetime64(world.first_day) + np.arange(world.days)
    for scenario, (name, color) in enumerate(zip(world.parameters.names, COLORS, strict=True)):
        seen = np.sum([block.impressions[..., scenario].sum(axis=1) for block in blocks], axis=0)
        active = np.sum([(block.impressions[..., scenario] > 0).sum(axis=1) for block in blocks], axis=0)
        for axes, values in ((top, seen), (bottom, active)):
            axes.plot(dates, np.where(values > 0, values, np.nan), color=color, lw=0.9, label=name)
    for festival in world.parameters.festivals:
        top.axvspan(festival.first, festival.last, color="#bbb" if festival.lift > 0 else "#cfe3f5", alpha=0.5, lw=2)
    for axes, title in ((top, "impressions a day"), (bottom, "advertisers that show ads")):
        axes.set_yscale("log")
        axes.set_ylabel(title)
    top.set_xlim(dates[0], dates[-1])
    bottom.legend(ncols=5, fontsize=8, frameon=False, loc="lower center")
    return figure


def lives(world: World, block: Block) -> Figure:
    """A year of three advertisers in search: impressions, what the budget buys, pauses and absences."""
    joined = block.population.joined == 0
    busy = (block.status[..., 0] == RUNNING).mean(axis=0)
    wanted = (0.85, 0.5, 0.3)
    chosen = [int(np.abs(np.where(joined, busy, 9) - part).argmin()) for part in wanted]
    figure: Figure = Figure(figsize=(9, 5.2), layout="constrained")
    rows = figure.subplots(len(chosen), 1, sharex=True)
    dates = np.datetime64(world.first_day) + np.arange(world.days)
    for axes, advertiser in zip(rows, chosen, strict=True):
        seen, status = block.impressions[:, advertiser, 0], block.status[:, advertiser, 0]
        cap = block.population.cap[advertiser, 0][block.budget[:, advertiser, 0]]
        gone = block.engagement[:, advertiser] == GONE
        axes.fill_between(dates, 0, 1, where=status == PAUSED, color="#eee", transform=axes.get_xaxis_transform())
        axes.fill_between(dates, 0, 1, where=gone, color="#f5c6c6", transform=axes.get_xaxis_transform())
        axes.step(dates, cap, color="#d1495b", lw=0.9, where="mid", label="what the budget buys")
        axes.plot(dates, np.where(seen > 0, seen, np.nan), ".", color=COLORS[0], ms=2.5, label="impressions")
        axes.set_yscale("log")
        axes.set_ylabel(f"advertiser {block.population.first_id + advertiser}")
    rows[0].set_title("grey: paused, red: gone", fontsize=9, loc="right")
    rows[0].legend(fontsize=8, frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    rows[0].set_xlim(dates[0], dates[-1])
    return figure


def labels(world: World, blocks: Sequence[Block]) -> Figure:
    """Weekly labels of pairs that ran in the week before: part of zeros, and the law of the others."""
    figure: Figure = Figure(figsize=(9, 3), layout="constrained")
    rows = figure.subplots(1, 3)
    for axes, (field, title, unit) in zip(
        rows, (("clicks", "clicks", 1), ("spend", "expenditure", 100), ("gmv", "GMV", 100)), strict=True
    ):
        for scenario, (name, color) in enumerate(zip(world.parameters.names, COLORS, strict=True)):
            values = np.concatenate([_after_a_week_of_ads(block, field, scenario) for block in blocks]) / unit
            zeros = (values == 0).mean()
            edges = np.linspace(-1.5, 5, 40)
            counts, _ = np.histogram(np.log10(values[values > 0]), edges)
            axes.plot(edges[:-1], counts / len(values), color=color, lw=1.2, label=f"{name}: {zeros:.0%} zeros")
        axes.set_title(f"{title} of a week, log10", fontsize=9)
        axes.legend(fontsize=7, frameon=False, loc="upper right")
        axes.set_ylim(0, 1.6 * axes.get_ylim()[1])
        axes.set_yticks([])
    return figure


def _after_a_week_of_ads(block: Block, field: str, scenario: int) -> np.ndarray:
    weekly = {name: _weekly(getattr(block, name)[..., scenario]) for name in (field, "impressions")}
    values: np.ndarray = weekly[field][1:][weekly["impressions"][:-1] > 0]
    return values


def _weekly(values: np.ndarray) -> np.ndarray:
    weeks = len(values) // WEEK
    sums: np.ndarray = values[: weeks * WEEK].reshape(weeks, WEEK, -1).sum(axis=1)
    return sums


def correlations(world: World, blocks: Sequence[Block]) -> Figure:
    """Weekly expenditure and clicks of advertisers in two scenarios at once."""
    names = world.parameters.names
    pairs = [("sponsored_search", "news_feed"), ("sponsored_search", "display"), ("news_feed", "display")]
    figure: Figure = Figure(figsize=(9, 5.4), layout="constrained")
    grid = figure.subplots(2, 3)
    for row, (field, title, unit) in zip(grid, (("spend", "expenditure", 100), ("clicks", "clicks", 1)), strict=True):
        for axes, pair in zip(row, pairs, strict=True):
            x, y = (np.concatenate(part) for part in zip(*(_both(b, field, names, pair) for b in blocks), strict=True))
            x, y = np.log1p(x / unit), np.log1p(y / unit)
            axes.hexbin(x, y, gridsize=28, cmap="Blues", mincnt=1, bins="log")
            axes.set_title(f"{title}: r = {np.corrcoef(x, y)[0, 1]:.2f}", fontsize=9)
            axes.set_xlabel(pair[0], fontsize=8)
            axes.set_ylabel(pair[1], fontsize=8)
    return figure


def _both(block: Block, field: str, names: Sequence[str], pair: tuple[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """Weekly values in both scenarios, of the weeks in which both ran."""
    first, second = (names.index(name) for name in pair)
    ran = (_weekly(block.impressions[..., first]) > 0) & (_weekly(block.impressions[..., second]) > 0)
    return _weekly(getattr(block, field)[..., first])[ran], _weekly(getattr(block, field)[..., second])[ran]


if __name__ == "__main__":
    sys.exit(run_job(main))

"""An incentive on the synthetic platform, whose effect on every pair is known: for trying out experiments.

Letters: N advertisers, S scenarios. A week is the 7 days after the as-of day. The incentive is part of the
experiment and not of the frozen world: a day of the week on which a pair shows nothing becomes an active one with a
chance that depends on the advertiser's hidden engagement, and then brings what the pair's active days brought before.
"""

import datetime
from dataclasses import dataclass

import numpy as np

from etl.sources.synthetic.parameters import Parameters
from etl.sources.synthetic.simulate import Block, block_sizes, simulate
from etl.sources.synthetic.world import World

HISTORY, WEEK, LEAST_ACTIVE = 40, 7, 2
AS_OF = 200
"""Day of the calendar, away from festivals and before the new scenario starts."""
WAKES = (0.04, 0.20, 0.02)
"""Chance that the incentive makes an idle day active, by engagement: attentive, drifting, gone."""
CENTS = 100.0
SPANS = (1, 3, 7, 14, 28, 40)


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What an experimenter sees by the as-of day, and what the week brings with and without the incentive."""

    scenarios: tuple[str, ...]
    advertiser: np.ndarray
    """[N]: ids."""
    scale: np.ndarray
    """[N]: scale class."""
    eligible: np.ndarray
    """[N, S]: active on two or more of the last 40 days."""
    seen: np.ndarray
    """[N, S, F]: what forecasts are made from, as of now."""
    seen_before: np.ndarray
    """[N, S, F]: the same, a week ago: with ``last_week`` what a model can be fitted on."""
    last_week: np.ndarray
    """[N, S]: active days of the week before."""
    spend_before: np.ndarray
    """[N, S]: yuan, in the week before."""
    active: np.ndarray
    """[N, S]: active days of the week without the incentive."""
    spend: np.ndarray
    """[N, S]: yuan, of the week without the incentive."""
    added_active: np.ndarray
    """[N, S]: active days that the incentive adds."""
    added_spend: np.ndarray
    """[N, S]: yuan that it adds."""


def make_platform(advertisers: int, *, seed: int) -> Platform:
    """Simulate the world up to a week after the as-of day."""
    world = World(Parameters(), datetime.date(2019, 12, 10), AS_OF + WEEK + 1)
    random = np.random.default_rng([seed, AS_OF])
    parts = [
        _part(simulate(world, seed=seed, block=number, count=count), random)
        for number, count in enumerate(block_sizes(advertisers))
    ]
    # Those who have not joined, or are nowhere eligible, are in no experiment.
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    here = joined["eligible"].any(axis=1)
    return Platform(scenarios=world.parameters.names, **{name: values[here] for name, values in joined.items()})


def _part(block: Block, random: np.random.Generator) -> dict[str, np.ndarray]:
    shown = block.impressions > 0
    past, week = slice(AS_OF + 1 - HISTORY, AS_OF + 1), slice(AS_OF + 1, AS_OF + 1 + WEEK)
    days, spent = shown[past].sum(axis=0), block.spend[past].sum(axis=0) / CENTS
    usual = spent / np.maximum(days, 1)
    idle = WEEK - shown[week].sum(axis=0)
    added = random.binomial(idle, np.array(WAKES)[block.engagement[AS_OF]][:, None])
    return {
        "advertiser": block.population.first_id + np.arange(len(block.population)),
        "scale": block.population.scale,
        "eligible": days >= LEAST_ACTIVE,
        "seen": _seen(block, AS_OF),
        "seen_before": _seen(block, AS_OF - WEEK),
        "last_week": shown[AS_OF + 1 - WEEK : AS_OF + 1].sum(axis=0),
        "spend_before": block.spend[AS_OF + 1 - WEEK : AS_OF + 1].sum(axis=0) / CENTS,
        "active": shown[week].sum(axis=0),
        "spend": block.spend[week].sum(axis=0) / CENTS,
        "added_active": added,
        "added_spend": added * usual,
    }


def _seen(block: Block, day: int) -> np.ndarray:
    """[A, S, F]: active days and log behavior over several spans that end on ``day``."""
    shown = (block.impressions > 0).astype(float)
    columns = [shown[day + 1 - span : day + 1].sum(axis=0) / span for span in SPANS]
    for counts in (block.bids, block.edits):
        columns += [np.log1p(counts[day + 1 - span : day + 1].sum(axis=0)) for span in (7, 28)]
    for span in (7, 28):
        logins = np.log1p(block.logins[day + 1 - span : day + 1].sum(axis=0))
        columns.append(np.broadcast_to(logins[:, None], shown.shape[1:]))
    return np.stack(columns, axis=-1)

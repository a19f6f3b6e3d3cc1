"""Written conditional means, medians and best SMAPE forecasts against brute force on the slow twin."""

import random
import statistics

import numpy as np
import pytest

from etl.sources.synthetic.simulate import Block, simulate
from etl.sources.synthetic.truth import TASKS, Samples, best_forecasts, draw_labels, expected_smape, true_states
from etl.sources.synthetic.world import ATTENTIVE, NEVER, PAUSED, RUNNING, World
from tests.etl.synthetic.twin import Pair, small_world, smape_terms

DAY, HORIZON, DRAWS, TWIN_DRAWS = 64, 7, 20_000, 800


@pytest.fixture(scope="module")
def world() -> World:
    return small_world(launch_at=0.1)


@pytest.fixture(scope="module")
def block(world: World) -> Block:
    return simulate(world, seed=3, block=0, count=300)


def _small_pairs(block: Block) -> list[tuple[int, int]]:
    """A running and a paused pair of scenarios priced either way and of the new one, small enough for the twin."""
    chosen = []
    for scenario, status in ((0, RUNNING), (0, PAUSED), (3, RUNNING), (2, RUNNING), (2, NEVER)):
        candidates = np.flatnonzero((block.status[DAY, :, scenario] == status) & (block.engagement[DAY] == ATTENTIVE))
        chosen.append((int(candidates[block.population.log_median[candidates, scenario].argmin()]), scenario))
    return chosen


def test_forecasts_are_those_of_brute_force(world: World, block: Block) -> None:
    pairs = _small_pairs(block)
    samples = Samples(DAY, *(np.array(column) for column in zip(*pairs, strict=True)))
    rng = np.random.default_rng(0)
    states = true_states(block, samples)
    labels = draw_labels(world, block.population, samples, states, draws=DRAWS, horizon=HORIZON, rng=rng)
    forecasts = best_forecasts(labels)
    twin_rng = random.Random(0)
    for row, pair in enumerate(pairs):
        twin = Pair(world, block, DAY, *pair)
        brute = list(zip(*(twin.draw(twin_rng, HORIZON) for _ in range(TWIN_DRAWS)), strict=True))
        for task, draws in enumerate(map(list, brute)):
            mean, median, best = forecasts[row, task]
            error = labels[row, :, task].std() / TWIN_DRAWS**0.5
            assert mean == pytest.approx(statistics.fmean(draws), abs=4.5 * error + 1e-9), (pair, TASKS[task])
            below, above = (sum(x < median for x in draws), sum(x > median for x in draws))
            assert max(below, above) <= TWIN_DRAWS * 0.5 + 4 * (TWIN_DRAWS / 4) ** 0.5, (pair, TASKS[task])
            others = [0.0, *statistics.quantiles(draws, n=60)]
            for other in others:
                pairs_of_terms = zip(smape_terms(float(best), draws), smape_terms(other, draws), strict=True)
                gains = [one - another for one, another in pairs_of_terms]
                error = statistics.stdev(gains) / TWIN_DRAWS**0.5
                assert statistics.fmean(gains) <= 4.5 * error + 1e-9, (pair, TASKS[task], other)


def test_days_that_a_lag_hides_are_drawn_and_not_counted(world: World, block: Block) -> None:
    chosen = np.flatnonzero(block.status[DAY, :, 0] == RUNNING)[:40]
    samples = Samples(DAY + 3, chosen, np.zeros(len(chosen), np.int64))
    states = true_states(block, Samples(DAY, *(samples.advertiser, samples.scenario)))
    rng = np.random.default_rng(0)
    labels = draw_labels(world, block.population, samples, states, draws=200, horizon=HORIZON, rng=rng)
    at_once = draw_labels(
        world, block.population, Samples(DAY, chosen, samples.scenario), states, draws=200, horizon=HORIZON, rng=rng
    )
    assert labels[..., 4].max() == at_once[..., 4].max() == HORIZON
    # Running pairs drift towards the mixture of running and paused ones.
    assert labels[..., 4].mean() < at_once[..., 4].mean()


def test_the_best_smape_forecast_beats_a_fine_grid() -> None:
    rng = np.random.default_rng(5)
    labels = np.floor(rng.lognormal(1.0, 1.0, (30, 400, 1)) * (rng.random((30, 400, 1)) < 0.8))
    best = best_forecasts(labels)[..., 2]
    grid = [expected_smape(labels, np.full((30, 1), value)) for value in np.linspace(0, 30, 301)]
    assert (expected_smape(labels, best) <= np.min(grid, axis=0) + 0.01).all()

"""How often 95 % intervals cover the known effect, over seeded experiments: python -m benchmarks.experiments

A synthetic platform is the population. Every experiment draws advertisers from it with replacement, deals them to arms
anew, and is read as a user would read it. The truth is of the population: what an experiment is asked about is not
those who happened to be in it. For the effect on just those (``sample``) the intervals are known to be too wide
where effects differ between units: Neyman's variance leaves out a term that no data can tell.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from jobs.experiment_market import FITTED, NAIVE, budgets_of, make_market
from training.experiments.designs import MEASURES, Experiment, Market, Reading, holdout, whole_arms
from training.experiments.effects import Effect

HEAD = "| design | measure | advertisers | plain | CUPED | plain, sample | CUPED, sample | width | truth |"


def designs(market: Market, salt: str) -> Mapping[str, Experiment]:
    budgets = budgets_of(market)
    return {
        "(a) incentive against holdout": holdout(market, FITTED, budgets=budgets, salt=salt),
        "(b) whole arms": whole_arms(market, (NAIVE, FITTED), budgets=budgets, salt=salt),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=4000)
    parser.add_argument("--advertisers", type=int, default=20_000, help="of the platform")
    parser.add_argument("--units", type=int, default=8000, help="advertisers drawn for each experiment")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    market = make_market(arguments.advertisers, seed=arguments.seed)
    population = designs(market, "population")
    names = [str(number) for number in range(arguments.units)]
    found: dict[str, list[Experiment]] = {design: [] for design in population}
    for number in range(arguments.experiments):
        random = np.random.default_rng([arguments.seed, number])
        part = market.part(random.integers(0, len(market.advertisers), arguments.units))
        # One that is drawn twice is two advertisers.
        for design, experiment in designs(replace(part, advertisers=names), f"{arguments.seed} {number}").items():
            found[design].append(experiment)
    print(f"{HEAD}\n{'|---' * 9}|")
    for design, experiments in found.items():
        units = np.mean([sum(experiment.counts.values()) for experiment in experiments])
        for measure in MEASURES:
            truth = population[design].readings[measure].truth
            cells = _cells([experiment.readings[measure] for experiment in experiments], truth)
            print(f"| {design} | {measure} | {units:,.0f} | {' | '.join(cells)} | {truth:+.4f} |")


def _cells(readings: list[Reading], truth: float) -> list[str]:
    """Coverage of the population's and of the samples' truths, then how wide the interval with CUPED is to without."""

    def covers(found: Effect, true: float) -> bool:
        return found.low <= true <= found.high

    shares = [
        np.mean([covers(reading.plain, truth) for reading in readings]),
        np.mean([covers(reading.adjusted, truth) for reading in readings]),
        np.mean([covers(reading.plain, reading.truth) for reading in readings]),
        np.mean([covers(reading.adjusted, reading.truth) for reading in readings]),
    ]
    width = np.mean([r.adjusted.standard_error / r.plain.standard_error for r in readings])
    return [*(f"{share:.1%}" for share in shares), f"{width:.2f}"]


if __name__ == "__main__":
    main()

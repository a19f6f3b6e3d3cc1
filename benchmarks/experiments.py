"""How often 95 % intervals cover the known effect, over seeded experiments: python -m benchmarks.experiments

Every experiment draws advertisers of one synthetic platform, deals them to arms anew and is read as a user would.
"""

import argparse

import numpy as np

from jobs.experiment_market import FITTED, NAIVE, budgets_of, make_market
from training.experiments.designs import MEASURES, Experiment, holdout, whole_arms

DESIGNS = ("(a) incentive against holdout", "(b) whole arms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--advertisers", type=int, default=20_000, help="of the platform")
    parser.add_argument("--units", type=int, default=8000, help="advertisers in each experiment")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    market = make_market(arguments.advertisers, seed=arguments.seed)
    found: dict[str, list[Experiment]] = {design: [] for design in DESIGNS}
    for number in range(arguments.experiments):
        random = np.random.default_rng([arguments.seed, number])
        part = market.part(random.choice(len(market.advertisers), arguments.units, replace=False))
        budgets, salt = budgets_of(part), f"{arguments.seed} {number}"
        found[DESIGNS[0]].append(holdout(part, FITTED, budgets=budgets, salt=salt))
        found[DESIGNS[1]].append(whole_arms(part, (NAIVE, FITTED), budgets=budgets, salt=salt))
    print("| design | measure | units | plain | CUPED | mean width with CUPED | mean truth |\n|---|---|---|---|---|---|---|")
    for design, experiments in found.items():
        units = np.mean([sum(experiment.counts.values()) for experiment in experiments])
        for measure in MEASURES:
            readings = [experiment.readings[measure] for experiment in experiments]
            plain, adjusted = (
                np.mean([found_.low <= truth <= found_.high for found_, truth in pairs])
                for pairs in (
                    [(reading.plain, reading.truth) for reading in readings],
                    [(reading.adjusted, reading.truth) for reading in readings],
                )
            )
            width = np.mean([(r.adjusted.high - r.adjusted.low) / (r.plain.high - r.plain.low) for r in readings])
            truth = np.mean([reading.truth for reading in readings])
            print(f"| {design} | {measure} | {units:,.0f} | {plain:.1%} | {adjusted:.1%} | {width:.2f} | {truth:+.4f} |")


if __name__ == "__main__":
    main()

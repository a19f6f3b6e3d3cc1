"""Two experiments on the synthetic platform, where the effect is known, and a comparison that misleads: one page."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.config import run_job
from jobs.experiment_market import FITTED, NAIVE, budgets_of, make_market
from m2m_model.contracts.errors import UserError
from training.experiments.report import write_exhibit

LEAST = 1000


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--advertisers", type=int, default=20_000, help="of the platform (default: 20000, half a minute)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/experiments"), help="folder of the page")
    arguments = parser.parse_args(argv)
    if arguments.advertisers < LEAST:
        raise UserError(
            f"--advertisers must be {LEAST} or more for the strata to hold, however: {arguments.advertisers}"
        )
    words = sys.argv[1:] if argv is None else argv
    market = make_market(arguments.advertisers, seed=arguments.seed)
    page = write_exhibit(
        market,
        (NAIVE, FITTED),
        budgets=budgets_of(market),
        salt=f"seed {arguments.seed}",
        command=shlex.join(["m2m", "experiments", *words]),
        folder=arguments.out,
    )
    print(f"wrote {page}")
    return 0


if __name__ == "__main__":
    sys.exit(run_job(main))

"""The dashboard: static pages in ``out/dashboard`` that open from a disk, of whatever the other jobs have published."""

import sys
from collections.abc import Sequence

from jobs.config import RunConfig, argument_parser, run_job
from jobs.exit_codes import ExitCode
from m2m_model.contracts.errors import UserError
from training.dashboard.build import Built, build_dashboard
from training.dashboard.read import Places


def main(argv: Sequence[str] | None = None) -> int:
    arguments = argument_parser(__doc__).parse_args(argv)
    built = build(RunConfig.read(arguments.config, arguments.overrides))
    print(f"dashboard: {built.page}, {built.advertisers:,} advertisers")
    for line in built.missing:
        print(f"  missing: {line}")
    return ExitCode.OK


def build(config: RunConfig) -> Built:
    """Write the dashboard of the run; the model on it is the one that forecasts."""
    try:
        model = config.forecasting_model().location
    except UserError:  # there is none yet, which the page says
        model = config.run.path("model")
    return build_dashboard(
        Places(
            features=config.run.path("features"),
            predictions=config.run.path("predictions"),
            daily=config.run.path("daily"),
            monitoring=config.run.path("monitoring"),
            model=model,
            evaluation=config.run.path("evaluation"),
        ),
        config.run.path("dashboard"),
        name=config.run.name,
        config=config.dashboard,
    )


if __name__ == "__main__":
    sys.exit(run_job(main))

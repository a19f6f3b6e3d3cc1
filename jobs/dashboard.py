"""The dashboard: static pages in ``out/dashboard`` that open from a disk, of whatever the other jobs have published."""

import sys
from collections.abc import Sequence

from jobs.config import RunConfig, argument_parser, run_job
from jobs.exit_codes import ExitCode
from training.dashboard.build import build_dashboard
from training.dashboard.read import Places


def main(argv: Sequence[str] | None = None) -> int:
    arguments = argument_parser(__doc__).parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    built = build_dashboard(
        Places(
            features=config.run.path("features"),
            predictions=config.run.path("predictions"),
            daily=config.run.path("daily"),
            monitoring=config.run.path("monitoring"),
            model=config.run.path("model"),
            evaluation=config.run.path("evaluation"),
        ),
        config.run.path("dashboard"),
        name=config.run.name,
        config=config.dashboard,
    )
    print(f"dashboard: {built.page}, {built.advertisers:,} advertisers")
    for line in built.missing:
        print(f"  missing: {line}")
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(run_job(main))

"""What an experiment found so far: its arms against each other, over the days whose labels have matured.

The sample ratio comes first: where an arm lost units, no effect is shown and the exit status is 4.
"""

import sys
from collections.abc import Sequence

from jobs.config import RunConfig, argument_parser, run_job
from jobs.exit_codes import ExitCode
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import below
from training.experiments.config import find_experiment
from training.experiments.enrolment import HINT, read_assignment
from training.experiments.publish import PAGE, interval, publish_reading
from training.experiments.reading import read_experiment


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--experiment", required=True, help="NAME of [experiments.NAME]")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    name = arguments.experiment
    experiment = find_experiment(config.experiments, name)
    folder = config.run.path("experiments", name)
    assignment = read_assignment(folder, name, experiment)
    if assignment is None:
        raise UserError(f"nobody is enrolled in experiments.{name}: {HINT}")
    reading = read_experiment(name, experiment, assignment, labels=config.run.path("labels"))
    out = below(folder, "reading")
    publish_reading(out, reading, grace_seconds=config.predict.grace_seconds)
    units = ", ".join(f"{arm} {number:,} of {reading.enrolled[arm]:,}" for arm, number in reading.read.items())
    print(f"{name}: {len(reading.days)} days matured, {len(reading.pending)} pending; with labels: {units}")
    print(f"sample ratio: p = {reading.ratio_p:.2g}; units lost by arm: p = {reading.lost_p:.2g}")
    if reading.refused:
        print(f"no effects: {reading.refused}")
    for line in reading.comparisons:
        print(
            f"{line.measure}, {line.arm} less {reading.control}: {interval(line.plain, line.measure)}, "
            f"with CUPED {interval(line.adjusted, line.measure)}"
        )
    if not reading.is_complete:
        print("a look before the end: the experiment's last day has not matured")
    print(f"published {below(out, PAGE)}")
    return ExitCode.ALERT if reading.refused else ExitCode.OK


if __name__ == "__main__":
    sys.exit(run_job(main))

"""One day of an experiment: its advertisers are dealt to arms, once and for good, and each arm gets its list.

Of design ``holdout`` the day's published list is dealt; of design ``arms`` everybody is, and then each arm's model
selects within its arm at equal budget. The same day again changes nothing. docs/experiments.md goes through both.
"""

import argparse
import datetime
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from jobs.config import RunConfig, argument_parser, run_job
from jobs.exit_codes import ExitCode
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Manifest, below
from training.engagement.day import PredictedDay
from training.experiments.arm_lists import deal_list, read_list, select_within_arms
from training.experiments.config import ExperimentConfig, find_experiment
from training.experiments.enrolment import check_day, counts, publish_assignment, read_assignment, with_newcomers
from training.experiments.planning import LEAST_RATIO_P, plans, ratio_p
from training.experiments.publish import DIGITS
from training.experiments.units import day_units
from training.nightly.lock import locked


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    day = Day(
        config=config,
        name=arguments.experiment,
        experiment=find_experiment(config.experiments, arguments.experiment),
        date=arguments.date,
    )
    if arguments.plan:
        return day.enrol(publish=False)
    with locked(day.folder):
        return day.enrol(publish=True)


def _parser() -> argparse.ArgumentParser:
    parser = argument_parser(__doc__)
    parser.add_argument("--experiment", required=True, help="NAME of [experiments.NAME]")
    parser.add_argument("--date", type=datetime.date.fromisoformat, required=True, help="the as-of day")
    parser.add_argument(
        "--plan", action="store_true", help="say whom the day would enrol and what that could find; publish nothing"
    )
    return parser


@dataclass(frozen=True, kw_only=True)
class Day:
    config: RunConfig
    name: str
    experiment: ExperimentConfig
    date: datetime.date

    @property
    def folder(self) -> str:
        return self.config.run.path("experiments", self.name)

    def enrol(self, *, publish: bool) -> ExitCode:
        """Deal the day's newcomers, say what the experiment could find, and publish assignment and lists."""
        if publish:
            check_day(self.date, self.name, self.experiment)
        known = read_assignment(self.folder, self.name, self.experiment)
        listed = self._listed() if self.experiment.design == "holdout" else None
        units = self._units(listed)
        assignment = with_newcomers(known, units, date=self.date, experiment=self.experiment)
        newcomers = len(assignment) - (0 if known is None else len(known))
        code = self._describe(assignment, newcomers)
        if not publish:
            return code
        grace = self.config.predict.grace_seconds
        if newcomers:
            made = publish_assignment(self.folder, assignment, experiment=self.experiment, grace_seconds=grace)
            print(f"published assignment {made.generation} in {below(self.folder, 'assignment')}")
        for arm, pairs in self._lists(assignment, listed, grace).items():
            print(f"list of {arm}: {pairs:,} pairs in {below(self.folder, 'lists', arm, f'dt={self.date}')}")
        return code

    def _listed(self) -> tuple[Manifest, pa.Table]:
        return read_list(below(self.config.run.path("lists"), self.experiment.list, f"dt={self.date}"))

    def _units(self, listed: tuple[Manifest, pa.Table] | None) -> pa.Table:
        day = PredictedDay.at(self._of_day("features"), self._of_day("predictions"))
        rule = self.config.engagement.lists[self.experiment.list]
        if listed is None:
            return day_units(self.experiment, day, audience=rule.audience)
        made, pairs = listed
        if made.content["predictions_generation"] != day.scored.generation:
            raise UserError(
                f"list {self.experiment.list} of {self.date} is of predictions "
                f"{made.content['predictions_generation']}, the day's are {day.scored.generation}: select the day again"
            )
        return day_units(self.experiment, day, audience=rule.audience, listed=pairs)

    def _lists(
        self, assignment: pa.Table, listed: tuple[Manifest, pa.Table] | None, grace_seconds: float
    ) -> dict[str, int]:
        if listed is not None:
            published, pairs = listed
            return deal_list(
                self.folder,
                self.experiment,
                assignment,
                date=self.date,
                published=published,
                listed=pairs,
                grace_seconds=grace_seconds,
            )
        return select_within_arms(
            self.folder,
            self.experiment,
            assignment,
            self.config.engagement.lists[self.experiment.list],
            date=self.date,
            features=self._of_day("features"),
            predictions=self.config.run.path("predictions"),
            grace_seconds=grace_seconds,
        )

    def _of_day(self, kind: str) -> str:
        return self.config.run.path(kind, f"dt={self.date}")

    def _describe(self, assignment: pa.Table, newcomers: int) -> ExitCode:
        units = counts(assignment, self.experiment)
        by_arm = ", ".join(f"{arm} {number:,}" for arm, number in units.items())
        print(f"{self.name} {self.date}: {newcomers:,} newcomers, {len(assignment):,} in all: {by_arm}")
        p = ratio_p(units, self.experiment)
        lost = p < LEAST_RATIO_P
        print(f"sample ratio: p = {p:.2g}, {'NOT as planned: find out why before going on' if lost else 'as dealt'}")
        for plan in plans(assignment, self.experiment):
            digits, last = DIGITS[plan.measure], plan.last_week
            cuped = "" if plan.detectable_adjusted is None else f", with CUPED {plan.detectable_adjusted:.{digits}f}"
            print(
                f"{plan.measure}, {plan.arm}: finds an effect of {plan.detectable:.{digits}f}{cuped} with a chance of "
                f"80 %; the week before they differed by {last.difference:+.{digits}f} "
                f"[{last.low:+.{digits}f}, {last.high:+.{digits}f}]"
            )
        return ExitCode.ALERT if lost else ExitCode.OK


if __name__ == "__main__":
    sys.exit(run_job(main))

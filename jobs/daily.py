"""One night: features, predictions, lists, checks and the report of an as-of day, the separate jobs they are.

What is complete for the same inputs is left as it is, so that the same command goes on after whatever happened. With
``--catch-up``, earlier nights that were missed or failed come first, in order. docs/operations.md has the exit codes.
"""

import datetime
import json
import sys
from collections.abc import Sequence

import pyarrow.fs as pafs

from jobs.config import RunConfig, argument_parser, run_job
from jobs.exit_codes import ExitCode
from jobs.night import Night
from jobs.processes import common_arguments
from m2m_model.contracts.store import Folder, below
from training.nightly.lock import LockedError, locked
from training.nightly.summary import ATTEMPT, night_folder, read_summary

DAY = datetime.timedelta(days=1)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--date", type=datetime.date.fromisoformat, required=True, help="the as-of day")
    parser.add_argument("--catch-up", action="store_true", help="first the missed nights of [keeper] catch_up_days")
    parser.add_argument("--features-published", action="store_true", help="a Spark cluster has published the features")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    dates = [*(missed_nights(config, arguments.date) if arguments.catch_up else ()), arguments.date]
    common = common_arguments(arguments.config, arguments.overrides)
    return max(_night(config, common, date, features_published=arguments.features_published) for date in dates)


def missed_nights(config: RunConfig, date: datetime.date) -> list[datetime.date]:
    """The days before ``date``, oldest first, that have no night which got through, since the first night there was."""
    daily = config.run.path("daily")
    first = _first_night(daily)
    if first is None:
        return []
    oldest = max(first, date - config.keeper.catch_up_days * DAY)
    days = [oldest + number * DAY for number in range((date - oldest).days)]
    return [day for day in days if not _got_through(night_folder(daily, day))]


def _got_through(folder: Folder) -> bool:
    summary = read_summary(folder)
    return summary is not None and summary.status != "failed" and not folder.exists(ATTEMPT)


def _first_night(daily: str) -> datetime.date | None:
    root = Folder.at(daily)
    found = root.filesystem.get_file_info(pafs.FileSelector(root.path, recursive=False, allow_not_found=True))
    days = [info.base_name.removeprefix("dt=") for info in found if info.base_name.startswith("dt=")]
    return min(map(datetime.date.fromisoformat, days), default=None)


def _night(config: RunConfig, common: Sequence[str], date: datetime.date, *, features_published: bool) -> ExitCode:
    location = below(config.run.path("daily"), f"dt={date}")
    folder = night_folder(config.run.path("daily"), date)
    try:
        with locked(location) as lock:
            if lock.left_by:
                print(f"{date}  taking over from {lock.left_by}", flush=True)
            started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            folder.replace_bytes(ATTEMPT, json.dumps({"started": started}).encode())
            summary = Night(
                config=config,
                arguments=common,
                date=date,
                features_published=features_published,
                keep=lock.descriptor,
            ).run()
            folder.filesystem.delete_file(folder.join(ATTEMPT))
    except LockedError as error:
        print(f"error: {error}; nothing was done", file=sys.stderr)
        return ExitCode.LOCKED
    failed = next((step for step in summary.steps if step.status == "failed"), None)
    if failed is not None:
        print(f"error: night of {date}: {failed.name} failed: {failed.detail}", file=sys.stderr)
    return ExitCode(summary.exit_code)


if __name__ == "__main__":
    sys.exit(run_job(main))

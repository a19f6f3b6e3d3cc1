"""One night of an as-of day: model, features, predictions, lists, checks, labels, monitor, report, then the dashboard.

Each step is the job of that name. Labels and monitor are of the day whose labels have matured by then.

What is complete for the same inputs is left as it is, so that the same command goes on after whatever happened. With
``--catch-up``, earlier nights that were missed or failed come first, in order; what fails in one does not stop the
next. docs/operations.md has the exit codes.
"""

import datetime
import json
import sys
import traceback
from collections.abc import Sequence

from jobs.config import RunConfig, argument_parser, run_job
from jobs.dashboard import build
from jobs.exit_codes import ExitCode, worst
from jobs.night import Night
from jobs.processes import common_arguments
from m2m_model.contracts.days import DAY, published_days
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder, below, first_line, read_manifest, remove_superseded
from training.engagement.inputs import KIND as LIST
from training.monitor.publish import KIND as MONITORED
from training.monitor.webhook import post, webhook_address
from training.nightly.lock import LockedError, locked
from training.nightly.summary import ATTEMPT, SUMMARY, night_folder, read_summary

SWEPT_DAYS = 31
LOOKED_BACK = 31
"""Days before tonight's that are looked at for nights which did not get through."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument(
        "--date", type=datetime.date.fromisoformat, help="the as-of day; default: the newest that is over and known"
    )
    parser.add_argument("--catch-up", action="store_true", help="first the missed nights of [keeper] catch_up_days")
    parser.add_argument(
        "--with-promoted", action="store_true", help="forecast anew what another model than the promoted one forecast"
    )
    parser.add_argument("--features-published", action="store_true", help="a Spark cluster has published the features")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    date = config.as_of_day(arguments.date, now=datetime.datetime.now(datetime.UTC))
    dates = [*(missed_nights(config, date) if arguments.catch_up else ()), date]
    common = common_arguments(arguments.config, arguments.overrides)
    address = webhook_address()
    how = {"features_published": arguments.features_published, "with_promoted": arguments.with_promoted}
    codes = [_night(config, common, date, address=address, **how) for date in dates]
    _sweep(config)
    return worst([*codes, _dashboard(config)])


def missed_nights(config: RunConfig, date: datetime.date) -> list[datetime.date]:
    """The days before ``date``, oldest first, that have no night which got through, since the first night there was.

    Those older than ``[keeper] catch_up_days`` are named, and left alone.
    """
    daily = config.run.path("daily")
    nights = {day for file in (SUMMARY, ATTEMPT) for day in published_days(daily, file)}
    if not nights:
        return []
    oldest = max(min(nights), date - LOOKED_BACK * DAY)
    days = [oldest + number * DAY for number in range((date - oldest).days)]
    missed = [day for day in days if not _got_through(night_folder(daily, day))]
    window = date - config.keeper.catch_up_days * DAY
    if left := [day for day in missed if day < window]:
        named = ", ".join(map(str, left))
        print(f"warning: older than [keeper] catch_up_days, run m2m daily for each: {named}", file=sys.stderr)
    return [day for day in missed if day >= window]


def _got_through(folder: Folder) -> bool:
    """Whether the day's night is over and published; a damaged summary says nothing."""
    try:
        summary = read_summary(folder)
    except UserError:
        return False
    return summary is not None and summary.status != "failed" and not folder.exists(ATTEMPT)


def _night(
    config: RunConfig,
    common: Sequence[str],
    date: datetime.date,
    *,
    features_published: bool,
    with_promoted: bool,
    address: str,
) -> ExitCode:
    location = below(config.run.path("daily"), f"dt={date}")
    try:
        folder = night_folder(config.run.path("daily"), date)
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
                with_promoted=with_promoted,
                keep=lock.descriptor,
            ).run()
            # Before the night counts as over: one that is killed here is run, and told of, again.
            if address and summary.exit_code and (problem := post(address, summary.model_dump_json())):
                print(f"warning: the webhook was not told: {problem}", file=sys.stderr)
            folder.filesystem.delete_file(folder.join(ATTEMPT))
    except LockedError as error:
        print(f"error: {error}; nothing was done", file=sys.stderr)
        return ExitCode.LOCKED
    except OSError as error:  # the next night may have more luck
        print(f"error: night of {date}: {first_line(error)}: run the same command again", file=sys.stderr)
        return ExitCode.STORE_FAILED
    failed = next((step for step in summary.steps if step.status == "failed"), None)
    if failed is not None:
        print(f"error: night of {date}: {failed.name} failed: {failed.detail}", file=sys.stderr)
    return ExitCode(summary.exit_code)


def _sweep(config: RunConfig) -> None:
    """What superseded generations the newest days have kept for their readers."""
    kinds = {"features": "features", "predictions": "predictions", "labels": "labels", "monitoring": MONITORED}
    places = {config.run.path(name): kind for name, kind in kinds.items()}
    places |= {config.run.path("lists", name): LIST for name in config.engagement.lists}
    days = [(below(location, f"dt={day}"), kind) for location, kind in places.items() for day in _newest(location)]
    for location, kind in days:
        folder = Folder.at(location)
        try:
            live = read_manifest(folder, kind=kind, build_hint="").generation
            remove_superseded(folder, live=live, grace_seconds=config.predict.grace_seconds)
        except (OSError, UserError) as error:
            print(f"warning: {location} could not be swept: {first_line(error)}", file=sys.stderr)


def _newest(location: str) -> list[datetime.date]:
    """The days to sweep; none where the store does not say."""
    try:
        return published_days(location)[-SWEPT_DAYS:]
    except OSError as error:
        print(f"warning: {location} could not be swept: {first_line(error)}", file=sys.stderr)
        return []


def _dashboard(config: RunConfig) -> ExitCode:
    """The pages of all nights; where another process is writing them, they are its."""
    try:
        with locked(config.run.path("dashboard")):
            print(f"dashboard: {build(config).page}", flush=True)
    except LockedError as error:
        print(f"dashboard: {error}", flush=True)
    except Exception as error:  # the nights are published, whatever happens to their pages
        traceback.print_exc()
        print(f"error: the dashboard failed: {first_line(error)}", file=sys.stderr)
        return ExitCode.DASHBOARD_FAILED
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(run_job(main))

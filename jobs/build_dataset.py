"""Raw tables to a published dataset, or with a frozen spec to daily features. Runs under spark-submit.

Without ``--spec`` the spec is fitted on training days. With it, the dataset is built as that spec says, or with
``--date`` the features of one as-of day, or with ``--backfill`` those of a range of days that are not complete, or
with ``--labels`` the rows of one as-of day with its labels, once these have matured (horizon + lag days later), or with
``--labels-of-night`` those of the day that this night scores.
"""

import datetime
import importlib.metadata
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Sequence

from pyspark.sql import SparkSession

from etl.build import build_dataset
from etl.days import DayStatus, FeatureDays
from etl.frozen import not_in_force
from etl.matured import build_labels, labels_complete
from etl.session import build_session
from jobs.config import RunConfig, argument_parser, run_job
from m2m_model.contracts.days import newest_known_day
from m2m_model.contracts.drift import LARGE, Histograms
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import MANIFEST, Folder, Manifest, below, read_manifest

day = datetime.date.fromisoformat

WORST = 5
"""Features whose drift is printed."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--date", type=day, help="build the features of this as-of day alone")
    what.add_argument("--backfill", type=day, nargs=2, metavar=("FROM", "TO"), help="build the days that need it")
    what.add_argument("--labels", type=day, help="build the rows of this as-of day, whose labels have matured")
    what.add_argument("--labels-of-night", type=day, help="build the rows of the day that this night scores")
    parser.add_argument(
        "--spec",
        help="the frozen spec: path or URI of a spec.json; default: of days the forecasting model's, of labels that of "
        "the day's features, of a dataset none",
    )
    parser.add_argument("--as-known-at", type=instant, help="leave out rows that arrived later (2017-12-31T06:00:00Z)")
    parser.add_argument("--force", action="store_true", help="with --backfill and --labels: complete days too")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    if arguments.labels_of_night:
        arguments.labels = DatasetSpec.read(config.nightly_spec()).matured_day(arguments.labels_of_night)
        if not Folder.at(config.run.path("features", f"dt={arguments.labels}")).exists(MANIFEST):
            print(f"{arguments.labels} has no features: nobody waits for its labels")
            return 0
    if arguments.labels and arguments.as_known_at:
        raise UserError("labels take all that is known now, however: --as-known-at is given; leave it out")
    if arguments.spec is None and arguments.labels:
        arguments.spec = _spec_of_features(config, arguments.labels)
    elif arguments.spec is None and (arguments.date or arguments.backfill):
        arguments.spec = config.nightly_spec()
    spec = None if arguments.spec is None else DatasetSpec.read(arguments.spec)
    if spec is not None and arguments.labels:
        check_matured(config, spec, arguments.labels)
    if spec is not None and (changed := not_in_force(spec, config)):
        print(
            f"warning: {', '.join(changed)}: spec {spec.feature_fingerprint} has it otherwise and decides; the change "
            "takes effect with the next dataset and the model that is trained on it",
            file=sys.stderr,
        )
    spark = build_session(config.spark, app_name=f"{config.run.name}: build dataset")
    try:
        _run(spark, config, spec, arguments)
    finally:
        spark.stop()
    return 0


def _spec_of_features(config: RunConfig, date: datetime.date) -> str:
    """Location of the spec that the features of a day are of."""
    location = config.run.path("features", f"dt={date}")
    manifest = read_manifest(Folder.at(location), kind="features", build_hint="build the day, or give --spec")
    (entry,) = manifest.select(role="spec")
    return below(location, entry.path)


def check_matured(config: RunConfig, spec: DatasetSpec, date: datetime.date) -> None:
    """Raises UserError while facts of the days that the labels sum over may still come."""
    raw, now = config.raw, datetime.datetime.now(datetime.UTC)
    newest = newest_known_day(now, timezone=raw.timezone, after_hours=raw.known_after_hours)
    last = newest - datetime.timedelta(days=spec.horizon + spec.availability_lag_days)
    if date > last:
        raise UserError(
            f"--labels must be a day whose labels have matured, {spec.horizon} + {spec.availability_lag_days} days "
            f"before the newest known day {newest}, however: {date} is later than {last}"
        )


def instant(text: str) -> datetime.datetime:
    """A moment with its UTC offset: without one it would be another moment on another machine."""
    moment = datetime.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ArgumentTypeError(f"must have a UTC offset, as in {text}+00:00, however: {text}")
    return moment


def _run(spark: SparkSession, config: RunConfig, spec: DatasetSpec | None, arguments: Namespace) -> None:
    run_info = {"run": config.run.name, "code_version": importlib.metadata.version("m2m-advertisers")}
    known, raw = arguments.as_known_at, config.run.path("raw")
    if spec is not None and arguments.labels:
        out = config.run.path("labels", f"dt={arguments.labels}")
        if not arguments.force and labels_complete(spark, config, spec, date=arguments.labels, raw=raw, out=out):
            print(f"labels of {arguments.labels} are complete, left as they are", flush=True)
            return
        _print(build_labels(spark, config, spec, date=arguments.labels, raw=raw, out=out, run_info=run_info), out)
        return
    if spec is None or not (arguments.date or arguments.backfill):
        out = config.run.path("dataset")
        manifest = build_dataset(
            spark,
            config,
            raw=raw,
            out=out,
            spec=spec,
            specs=config.run.path("specs"),
            as_known_at=known,
            run_info=run_info,
        )
        _print(manifest, out)
        return
    days = FeatureDays(
        location=config.run.path("features"),
        raw=raw,
        config=config,
        spec=spec,
        trained_on=Histograms.beside(arguments.spec, spec),
    )
    if arguments.date:
        manifest = days.build(spark, arguments.date, as_known_at=known, run_info=run_info)
        _print(manifest, days.folder(arguments.date).uri)
        return
    for status, made in days.backfill(
        spark, arguments.backfill, force=arguments.force, as_known_at=known, run_info=run_info, before=_announce
    ):
        if made is None:
            print(f"{status.date}  complete, left as it is", flush=True)
        else:
            _print(made, days.folder(status.date).uri)


def _announce(status: DayStatus) -> None:
    print(f"{status.date}  {status.state}{': ' if status.reason else ''}{status.reason}", flush=True)


def _print(manifest: Manifest, out: str) -> None:
    print(f"published {manifest.kind} {manifest.generation} in {out}: {manifest.rows:,} rows")
    for split, rows in manifest.content["rows_by_scenario"].items():
        print(f"  {split}: " + ", ".join(f"{scenario} {count:,}" for scenario, count in sorted(rows.items())))
    if manifest.content["dropped"]:
        print(f"  dropped by policy: {manifest.content['dropped']}", flush=True)
    for split, drift in manifest.content["drift"].items():
        worst = ", ".join(f"{feature} {psi:.3f}" for feature, psi in list(drift.items())[:WORST])
        print(f"  drift of {split} from training (PSI, above {LARGE} is large): {worst}", flush=True)


if __name__ == "__main__":
    sys.exit(run_job(main))

"""Raw tables to a published dataset, or with ``--date`` to the features of one as-of day. Runs under spark-submit."""

import datetime
import importlib.metadata
import sys
from collections.abc import Sequence
from pathlib import Path

from etl.build import build_dataset, build_day
from etl.session import build_session
from jobs.config import RunConfig, argument_parser, run_job
from m2m_model.contracts.drift import LARGE, Histograms
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec

WORST = 5
"""Features whose drift is printed."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--date", type=datetime.date.fromisoformat, help="build the features of this as-of day alone")
    parser.add_argument("--spec", type=Path, help="the frozen spec for --date (a dataset's spec.json)")
    parser.add_argument("--as-known-at", type=_moment, help="leave out rows that arrived later; UTC without an offset")
    arguments = parser.parse_args(argv)
    if (arguments.date is None) != (arguments.spec is None):
        raise UserError("--date and --spec go together: the features of a day are built with a frozen spec")
    config = RunConfig.read(arguments.config, arguments.overrides)
    run_info = {"run": config.run.name, "code_version": importlib.metadata.version("m2m-advertisers")}
    raw = config.run.path("raw")
    spec = DatasetSpec.read(arguments.spec) if arguments.spec else None
    trained_on = Histograms.beside(arguments.spec, spec) if spec else None
    spark = build_session(config.spark, app_name=f"{config.run.name}: build dataset")
    try:
        if spec is None:
            out = config.run.path("dataset")
            manifest = build_dataset(
                spark, config, raw=raw, out=out, as_known_at=arguments.as_known_at, run_info=run_info
            )
        else:
            out = f"{config.run.path('features')}/dt={arguments.date}"
            manifest = build_day(
                spark,
                config,
                spec,
                date=arguments.date,
                raw=raw,
                out=out,
                as_known_at=arguments.as_known_at,
                trained_on=trained_on,
                run_info=run_info,
            )
    finally:
        spark.stop()
    print(f"published {manifest.kind} {manifest.generation} in {out}: {manifest.rows:,} rows")
    for split, rows in manifest.content["rows_by_scenario"].items():
        print(f"  {split}: " + ", ".join(f"{scenario} {count:,}" for scenario, count in sorted(rows.items())))
    if manifest.content["dropped"]:
        print(f"  dropped by policy: {manifest.content['dropped']}")
    for split, drift in manifest.content["drift"].items():
        worst = ", ".join(f"{feature} {psi:.3f}" for feature, psi in list(drift.items())[:WORST])
        print(f"  drift of {split} from training (PSI, above {LARGE} is large): {worst}")
    return 0


def _moment(text: str) -> datetime.datetime:
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)


if __name__ == "__main__":
    sys.exit(run_job(main))

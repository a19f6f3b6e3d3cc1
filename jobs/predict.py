"""Predictions of one as-of day, from its published features and a published model. No Spark."""

import datetime
import sys
from collections.abc import Sequence

from jobs.config import RunConfig, argument_parser, run_job
from m2m_model.contracts.store import below
from training.checkpoint import load_model
from training.cluster import connected
from training.predict import predict_day
from training.preflight import warn_of_slow_precision


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--date", type=datetime.date.fromisoformat, required=True, help="the as-of day")
    parser.add_argument("--model", default="", help="published model; default: the promoted one, or the run's")
    parser.add_argument(
        "--out",
        default="",
        help="folder of the days' predictions; default: the run's (another one: docs/experiments.md)",
    )
    parser.add_argument("--address", default="", help="Ray cluster to join")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    cluster = config.cluster.model_copy(update={"address": arguments.address or config.cluster.address})
    model = load_model(arguments.model or config.forecasting_model().location)
    out = below(arguments.out or config.run.path("predictions"), f"dt={arguments.date}")
    warn_of_slow_precision(config.predict.precision, setting="predict.precision")
    with connected(cluster):
        manifest = predict_day(
            model,
            features=config.run.path("features", f"dt={arguments.date}"),
            out=out,
            config=config.predict,
            cluster=cluster,
        )
    print(f"published {manifest.kind} {manifest.generation} in {out}: {manifest.rows:,} rows by model {model.version}")
    return 0


if __name__ == "__main__":
    sys.exit(run_job(main))

"""The keeper of a night: scores the day whose labels matured, and looks at the night's features and inputs.

For night D that is as-of day D - horizon - lag, whose labels ``build_dataset.py --labels`` publishes. Exit status: 0 if
nothing is beyond the thresholds of ``[monitor]``, 4 if something is. Alerts are also POSTed to the address in
``M2M_ALERT_WEBHOOK``.
"""

import datetime
import sys
from collections.abc import Sequence

from jobs.config import RunConfig, argument_parser, run_job
from jobs.exit_codes import ExitCode
from training.monitor.publish import monitor_night
from training.monitor.report import MonitorReport
from training.monitor.webhook import post, webhook_address


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--date", type=datetime.date.fromisoformat, required=True, help="the night's as-of day")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    address, out = webhook_address(), config.run.path("monitoring")
    report = monitor_night(
        arguments.date,
        features=config.run.path("features"),
        predictions=config.run.path("predictions"),
        labels=config.run.path("labels"),
        trained_on=config.nightly_spec(),
        out=out,
        config=config.monitor,
        grace_seconds=config.predict.grace_seconds,
    )
    _show(report)
    print(f"published {out}/dt={report.date}: {len(report.alerts)} alerts")
    for alert in report.alerts:
        print(f"  alert {alert.check}: {alert.message} ({alert.value}, threshold {alert.threshold})")
    if report.alerts and address and (problem := post(address, report.model_dump_json())):
        print(f"warning: the webhook was not told: {problem}", file=sys.stderr)
    return ExitCode.ALERT if report.alerts else ExitCode.OK


def _show(report: MonitorReport) -> None:
    scored = report.scored
    if not scored.missing:
        print(f"{scored.as_of} matured: {scored.scored:,} of {scored.predicted:,} predictions scored")
    for row in scored.overall:
        values = [
            f"{n.upper()} {'-' if v is None else f'{v:.3f}'}" for n, v in (("nmae", row.nmae), ("smape", row.smape))
        ]
        print(f"  {row.forecaster:<18}{row.forecast:<8}{'  '.join(values)}")


if __name__ == "__main__":
    sys.exit(run_job(main))

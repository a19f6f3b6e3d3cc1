"""One day, every night: its features, its predictions, and the candidates for a rewarded task.

Features and predictions are the separate jobs they are, each in a process of its own.
"""

import datetime
import subprocess
import sys
from collections.abc import Sequence

from jobs.config import RunConfig, argument_parser, run_job
from training.candidates import CandidateRule, publish_candidates


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--date", type=datetime.date.fromisoformat, required=True, help="the as-of day")
    parser.add_argument("--features-published", action="store_true", help="a Spark cluster has published the features")
    parser.add_argument("--candidate-task", default="active_days", help="the task whose forecast selects candidates")
    parser.add_argument("--candidate-below", type=float, default=1.0, help="candidates are forecast less than this")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    common = ["--config", str(arguments.config), "--date", str(arguments.date)]
    common += [word for override in arguments.overrides for word in ("--set", override)]
    spec = config.run.path("dataset") + "/spec.json"
    commands = [["jobs.build_dataset", *common, "--spec", spec], ["jobs.predict", *common]]
    for command in commands[arguments.features_published :]:
        if status := subprocess.run([sys.executable, "-m", *command], check=False).returncode:
            print(f"error: {command[0]} failed with status {status}; nothing later was run", file=sys.stderr)
            return status
    day = f"dt={arguments.date}"
    manifest = publish_candidates(
        features=f"{config.run.path('features')}/{day}",
        predictions=f"{config.run.path('predictions')}/{day}",
        out=f"{config.run.path('candidates')}/{day}",
        rule=CandidateRule(task=arguments.candidate_task, below=arguments.candidate_below),
        grace_seconds=config.predict.grace_seconds,
    )
    print(f"published {manifest.kind} {manifest.generation}: {manifest.rows:,} pairs worth a rewarded task")
    return 0


if __name__ == "__main__":
    sys.exit(run_job(main))

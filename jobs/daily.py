"""One day, every night: its features, its predictions and its lists, the separate jobs they are."""

import datetime
import subprocess
import sys
from collections.abc import Sequence

from jobs.config import RunConfig, argument_parser, run_job


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--date", type=datetime.date.fromisoformat, required=True, help="the as-of day")
    parser.add_argument("--features-published", action="store_true", help="a Spark cluster has published the features")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    common = ["--config", str(arguments.config), "--date", str(arguments.date)]
    common += [word for override in arguments.overrides for word in ("--set", override)]
    spec = config.run.path("dataset") + "/spec.json"
    commands = [
        ["jobs.build_dataset", *common, "--spec", spec],
        ["jobs.predict", *common],
        ["jobs.select_rewarded", *common],
    ]
    for command in commands[arguments.features_published :]:
        if status := subprocess.run([sys.executable, "-m", *command], check=False).returncode:
            print(f"error: {command[0]} failed with status {status}; nothing later was run", file=sys.stderr)
            return status
    return 0


if __name__ == "__main__":
    sys.exit(run_job(main))

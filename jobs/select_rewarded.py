"""The lists of one as-of day, from its published predictions: who gets a rewarded task, who gets a message."""

import datetime
import sys
from collections.abc import Sequence

from jobs.config import RunConfig, argument_parser, run_job
from training.engagement.publish import described, publish_list


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--date", type=datetime.date.fromisoformat, required=True, help="the as-of day")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    for name, rule in config.engagement.lists.items():
        manifest = publish_list(
            name,
            rule,
            date=arguments.date,
            features=config.run.path("features", f"dt={arguments.date}"),
            predictions=config.run.path("predictions", f"dt={arguments.date}"),
            lists=config.run.path("lists"),
            grace_seconds=config.predict.grace_seconds,
        )
        print(described(manifest), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_job(main))

"""The lists of one as-of day, from its published predictions: who gets a rewarded task, who gets a message.

A list that is of these predictions, this rule and these lists before it is left as it is.
"""

import datetime
import sys
from collections.abc import Sequence

from jobs.config import RunConfig, argument_parser, run_job
from m2m_model.contracts.store import Folder, read_manifest
from training.engagement.inputs import is_current
from training.engagement.publish import described, publish_list


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--date", type=datetime.date.fromisoformat, required=True, help="the as-of day")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    predictions = config.run.path("predictions", f"dt={arguments.date}")
    made = read_manifest(Folder.at(predictions), kind="predictions", build_hint="run m2m predict for that day")
    for name, rule in config.engagement.lists.items():
        lists = config.run.path("lists")
        if is_current(name, rule, date=arguments.date, predictions_generation=made.generation, lists=lists):
            print(f"list {name} is complete")
            continue
        manifest = publish_list(
            name,
            rule,
            date=arguments.date,
            features=config.run.path("features", f"dt={arguments.date}"),
            predictions=predictions,
            lists=lists,
            grace_seconds=config.predict.grace_seconds,
        )
        print(described(manifest), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(run_job(main))

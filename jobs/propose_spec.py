"""A new spec version from daily increments: bucket edges from the sketches kept beside feature days, merged.

The new spec lies in ``<out>/specs/<version>.json`` and names its parent; nothing else changes: datasets, feature days
and models keep the spec they were made with. To use it: ``m2m build --spec <out>/specs/<version>.json``.
"""

import datetime
import sys
from collections.abc import Sequence

from etl.days import FeatureDays, each_day
from etl.session import build_session
from etl.sketches import EdgeShift, propose_edges
from etl.versions import register_spec
from jobs.config import RunConfig, argument_parser, run_job
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Folder


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--from", type=datetime.date.fromisoformat, required=True, dest="first", metavar="FROM")
    parser.add_argument("--to", type=datetime.date.fromisoformat, required=True, dest="last", metavar="TO")
    parser.add_argument("--spec", help="the parent; default: the dataset's spec")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    parent = DatasetSpec.read(arguments.spec or config.dataset_spec())
    days = FeatureDays(location=config.run.path("features"), raw=config.run.path("raw"), config=config, spec=parent)
    sketches = [days.sketches(date) for date in each_day(arguments.first, arguments.last)]
    spark = build_session(config.spark, app_name=f"{config.run.name}: propose spec")
    try:
        proposal, shifts = propose_edges(spark, config, parent, sketches)
    finally:
        spark.stop()
    folder = Folder.at(config.run.path("specs"))
    register_spec(folder, parent)
    spec = register_spec(folder, proposal)
    _print(shifts)
    if spec.feature_fingerprint == parent.feature_fingerprint:
        print("the sketches give the parent's own edges: no new version")
        return 0
    print(f"spec version {spec.version} ({spec.feature_fingerprint}), parent {spec.parent}: {folder.uri}")
    return 0


def _print(shifts: Sequence[EdgeShift]) -> None:
    width = max((len(shift.column) for shift in shifts), default=0)
    for shift in shifts:
        print(
            f"  {shift.sequence:<12}{shift.column:<{width}}  {shift.values:>12,} values  "
            f"{len(shift.parent_edges):>3} -> {len(shift.edges):>3} edges  {shift.moved:>6.1%} in another bucket"
        )


if __name__ == "__main__":
    sys.exit(run_job(main))

"""The tables and pictures of a study, from whatever cells of it are finished."""

import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.compare import check_settings
from jobs.config import argument_parser, run_job
from m2m_model.contracts.store import MANIFEST
from training.compare.data_exhibits import write_data_exhibits
from training.compare.exhibits import write_exhibits
from training.compare.results import CellKey, Results
from training.compare.study import Study


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__, config="the study's TOML file")
    parser.add_argument("--out", type=Path, help="default: the folder that holds the study's results")
    parser.add_argument("--if-any", action="store_true", help="pass over a study without cells in all periods")
    arguments = parser.parse_args(argv)
    study = Study.read(arguments.config, tuple(arguments.overrides))
    out = arguments.out or study.study.results.parent
    best = CellKey(model=study.study.best, period=study.study.design_period, seed=study.study.seeds[0])
    dataset = study.dataset_folder(best) / "dataset"
    if (dataset / MANIFEST).exists():
        write_data_exhibits(dataset, out)
    if arguments.if_any and study.study.best not in Results.load(study.study.results, study.planned()).models:
        print(f"exhibits: {study.study.name}: {study.study.best} has no seed yet that all periods have")
        return 0
    check_settings(study)
    print(f"exhibits: {write_exhibits(study, out)}")
    return 0


if __name__ == "__main__":
    sys.exit(run_job(main))

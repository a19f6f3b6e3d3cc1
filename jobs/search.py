"""The search of a study: every contender's missing trials, on validation rows; each trial saved when it is finished."""

import math
import os
import sys
import time
from collections.abc import Sequence

from jobs.compare import build_study_dataset, command_of
from jobs.config import RunConfig, argument_parser, run_job
from jobs.side_by_side import count, run_all
from m2m_model.contracts.errors import DivergedError, UserError
from training.compare.run_cell import CellJob, fit_cell
from training.compare.search import SearchSection, objective, overrides
from training.compare.study import Study
from training.metrics import AIMED


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__, config="the study's TOML file")
    parser.add_argument("--model", help="run the trials of this contender alone, in this process")
    parser.add_argument("--processes", type=count, default=os.cpu_count() or 1, help="contenders side by side")
    arguments = parser.parse_args(argv)
    study = Study.read(arguments.config, tuple(arguments.overrides))
    if (section := study.search) is None:
        raise UserError(f"{arguments.config} has no [search]: nothing to do")
    if other := study.study.search_of:
        raise UserError(f"{arguments.config} has the settings of the search of {other}: run that study's search")
    if arguments.model:
        _trials(study, section, arguments.model)
        return 0
    own = [name for name, contender in study.contenders.items() if not contender.like]
    missing = [name for name in own if (trials := study.trials(name)) and not trials.finished]
    print(f"search of study {study.study.name}: {len(missing)} contenders have trials to run", flush=True)
    for folder, build in dict(study.search_dataset(section, name) for name in missing).items():
        build_study_dataset(study, folder, build)
    command = command_of("jobs.search", arguments)
    commands = {name: [*command, "--model", name] for name in missing}
    return run_all(commands, processes=arguments.processes, what="contenders")


def _trials(study: Study, section: SearchSection, model: str) -> None:
    contender = study.contenders.get(model)
    if contender is None or contender.like or (trials := study.trials(model)) is None:
        known = [name for name in study.contenders if study.trials(name) and not study.contenders[name].like]
        raise UserError(f"--model must be among {known}, however: {model!r}")
    folder, build = study.search_dataset(section, model)
    while not trials.finished:
        settings, started = trials.propose(), time.monotonic()
        sets = [*study.study.set, *section.set, *overrides(settings), *contender.set, *build, "train.refit=false"]
        config = RunConfig.read(study.study.run, sets)
        job = CellJob(
            dataset=str(folder.absolute() / "dataset"),
            model=config.model,
            config=config,
            baseline=contender.baseline,
            members=1,
        )
        try:
            found = dict(fit_cell(job, tell=lambda text: None).validation)
        except DivergedError as error:  # kept all the same: else it would be proposed again
            print(f"{model}: trial {len(trials.rows) + 1} diverged: {error}", flush=True)
            found = dict.fromkeys(AIMED, math.inf)
        trials.add(settings, {**found, "seconds": round(time.monotonic() - started, 1)})
        best = min(map(objective, trials.rows))
        print(f"{model}: trial {len(trials.rows)}, {objective(found):.4f}, best {best:.4f}; {settings}", flush=True)


if __name__ == "__main__":
    sys.exit(run_job(main))

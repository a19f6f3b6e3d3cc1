"""A study: every missing cell is trained and scored, cells side by side, each saved when it is finished."""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from etl.config import EtlConfig
from jobs.config import RunConfig, argument_parser, run_job
from jobs.side_by_side import count, run_all
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import MANIFEST
from training.compare.floor import floor_sums
from training.compare.results import CellKey, load_cell, save_cell
from training.compare.run_cell import CellJob, run_cell
from training.compare.study import Study

FLOORS_CSV, TRUTH = "floors/floors.csv", "floors/truth"
"""What jobs/floors.py writes: the first when it is finished."""
DATASET_SETTINGS = "settings.json"
"""Beside a dataset: what it was built with."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__, config="the study's TOML file")
    parser.add_argument("--cell", metavar="MODEL/PERIOD/SEED", help="run this cell alone, in this process")
    parser.add_argument("--model", action="append", default=[], help="cells of these models alone")
    parser.add_argument("--period", action="append", default=[], help="cells of these periods alone")
    parser.add_argument("--seed", action="append", default=[], type=int, help="cells of these seeds alone")
    parser.add_argument("--processes", type=count, default=os.cpu_count() or 1, help="cells side by side")
    arguments = parser.parse_args(argv)
    study = Study.read(arguments.config, tuple(arguments.overrides))
    if arguments.cell:
        _cell(study, _key(study, arguments.cell))
        return 0
    planned = chosen(study, models=arguments.model, periods=arguments.period, seeds=arguments.seed)
    missing = [key for key in planned if not key.path(study.study.results).exists()]
    check_settings(study)
    _say_how_long(study, planned, missing, arguments.processes)
    for key in {study.dataset_folder(key): key for key in missing}.values():
        build_study_dataset(study, study.dataset_folder(key), study.dataset_overrides(key))
    for key in missing:
        if study.contenders[key.model].floor:
            _make_floors(study, key)
    commands = {_name(key): [*command_of("jobs.compare", arguments), "--cell", _name(key)] for key in missing}
    return run_all(commands, processes=arguments.processes, what="cells")


def chosen(
    study: Study, *, models: Collection[str] = (), periods: Collection[str] = (), seeds: Collection[int] = ()
) -> list[CellKey]:
    """The planned cells of these models, periods and seeds; of all where none are named.

    Raises:
        UserError: the study has no such model, period or seed.
    """
    options: dict[str, tuple[Collection[object], Collection[object]]] = {
        "--model": (models, [*study.contenders]),
        "--period": (periods, [*study.periods]),
        "--seed": (seeds, [*study.study.seeds]),
    }
    for option, (wanted, known) in options.items():
        if unknown := [value for value in wanted if value not in known]:
            raise UserError(f"{option} must be among {known}, however: {unknown[0]!r}")
    return [
        key
        for key in study.planned()
        if (not models or key.model in models)
        and (not periods or key.period in periods)
        and (not seeds or key.seed in seeds)
    ]


def command_of(module: str, arguments: argparse.Namespace) -> list[str]:
    """The same job in a process of its own, for a part of the work."""
    command = [sys.executable, "-m", module, "--config", str(arguments.config)]
    return command + [word for override in arguments.overrides for word in ("--set", override)]


def check_settings(study: Study) -> None:
    """The finished cells are those that the study's files now describe.

    Raises:
        UserError: one was made with other settings; seeds with different ones must not be averaged.
    """
    for key in study.planned():
        path = key.path(study.study.results)
        if not path.exists() or study.contenders[key.model].floor:
            continue
        about, job = load_cell(study.study.results, key)[1], cell_job(study, key)
        made, now = json.loads(about["settings"]), json.loads(job.settings)
        if "leave_out" in about:  # older cells do not say
            made["leave_out"], now["leave_out"] = json.loads(about["leave_out"]), list(job.config.evaluation.leave_out)
        if other := sorted(part for part in made.keys() | now.keys() if made.get(part) != now.get(part)):
            part = other[0]
            raise UserError(
                f"{path} must be made with the settings that the study has now, however: its {part} was "
                f"{made.get(part)} and is {now.get(part)}; remove it, or set them back"
            )


def cell_job(study: Study, key: CellKey) -> CellJob:
    """What runs a cell that no floor answers."""
    config, contender = RunConfig.read(study.study.run, study.overrides(key)), study.contenders[key.model]
    parts = (CellKey(model=part, period=key.period, seed=key.seed) for part in contender.parts)
    return CellJob(
        dataset=str(study.dataset_folder(key).absolute() / "dataset"),
        model=config.model,
        config=config,
        baseline=contender.baseline,
        members=contender.members,
        dataset_digest=_digest(dataset_settings(study, study.dataset_overrides(key))),
        keep=study.study.work / "members",
        parts=tuple(cell_job(study, part) for part in parts),
    )


def _cell(study: Study, key: CellKey) -> None:
    job, floor = cell_job(study, key), study.contenders[key.model].floor
    if floor:
        started = time.monotonic()
        sums = floor_sums(
            job.dataset,
            study.dataset_folder(key) / TRUTH,
            floor,
            batch_size=job.config.predict.batch_size,
            leave_out=job.config.evaluation.leave_out,
        )
        about = {"seconds": f"{time.monotonic() - started:.1f}"}
    else:
        sums, about = run_cell(job, tell=lambda text: print(f"{_name(key)}: {text}", flush=True))
    save_cell(study.study.results, key, sums, about)
    print(f"{_name(key)}: finished in {about['seconds']} s", flush=True)


def build_study_dataset(study: Study, out: Path, overrides: Sequence[str]) -> None:
    """Build a dataset of the study in ``out``, unless it is there; its raw tables are those of the run.

    Raises:
        UserError: the one that is there was built with other settings, or there are no raw tables.
    """
    settings, made_with = dataset_settings(study, overrides), out / DATASET_SETTINGS
    if (out / "dataset" / MANIFEST).exists():
        if not made_with.exists() or made_with.read_text() != settings:
            raise UserError(
                f"{out} must be a dataset of the settings that the study has now, which {made_with.name} there keeps, "
                "however: they differ; remove the folder, or set them back"
            )
        return
    raw = Path(RunConfig.read(study.study.run).run.path("raw"))
    if not raw.exists():
        raise UserError(f"the study's raw tables must be in {raw}: run m2m make-raw --config {study.study.run}")
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "raw").exists():
        (out / "raw").symlink_to(raw.absolute())
    made_with.write_text(settings)
    _run_job("jobs.build_dataset", study, out, overrides)


def dataset_settings(study: Study, overrides: Sequence[str]) -> str:
    """What decides a dataset of the study beside its raw tables, as JSON: the ETL's sections but for Spark's own."""
    config = RunConfig.read(study.study.run, overrides)
    return config.model_dump_json(include=set(EtlConfig.model_fields) - {"spark"}, indent=1)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _make_floors(study: Study, key: CellKey) -> None:
    """The best forecasts of all eligible test rows of the cell's dataset, beside it, unless they are there."""
    folder = study.dataset_folder(key)
    if not (folder / FLOORS_CSV).exists():
        _run_job("jobs.floors", study, folder, [*study.dataset_overrides(key), "synthetic.floors.blocks=0"])


def _run_job(module: str, study: Study, out: Path, overrides: Sequence[str]) -> None:
    command = [sys.executable, "-m", module, "--config", str(study.study.run)]
    command += [word for o in (f"run.out={out}", *overrides) for word in ("--set", o)]
    if status := subprocess.run(command, check=False).returncode:
        raise UserError(f"{module} failed in {out} (status {status}); see above")


def _say_how_long(study: Study, planned: Sequence[CellKey], missing: Sequence[CellKey], processes: int) -> None:
    """Minutes from the cells that are finished, per model; from the study's guess where there are none."""
    seconds: dict[str, list[float]] = {}
    for key in planned:
        if key not in missing:
            seconds.setdefault(key.model, []).append(float(load_cell(study.study.results, key)[1]["seconds"]))
    guess = 60 * study.study.minutes_per_cell
    expected = sum(sum(s) / len(s) if (s := seconds.get(key.model)) else guess for key in missing)
    print(
        f"study {study.study.name}: {len(planned) - len(missing)} of {len(planned)} cells are there, "
        f"{len(missing)} to run: about {expected / processes / 60:.0f} minutes on {processes} processes",
        flush=True,
    )


def _name(key: CellKey) -> str:
    return f"{key.model}/{key.period}/{key.seed}"


def _key(study: Study, text: str) -> CellKey:
    found = next((key for key in study.planned() if _name(key) == text), None)
    if found is None:
        raise UserError(f"--cell must be a planned cell such as {_name(study.planned()[0])}, however: {text!r}")
    return found


if __name__ == "__main__":
    sys.exit(run_job(main))

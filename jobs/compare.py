"""A study: every missing cell is trained and scored, cells side by side, each saved when it is finished."""

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from jobs.config import RunConfig, argument_parser, run_job
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import MANIFEST
from training.compare.results import CellKey, load_cell, save_cell
from training.compare.run_cell import CellJob, run_cell
from training.compare.study import Study


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__, config="the study's TOML file")
    parser.add_argument("--cell", metavar="MODEL/PERIOD/SEED", help="run this cell alone, in this process")
    parser.add_argument("--only", action="append", default=[], metavar="MODEL", help="cells of these models alone")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="cells side by side")
    arguments = parser.parse_args(argv)
    study = Study.read(arguments.config, tuple(arguments.overrides))
    if arguments.cell:
        _cell(study, _key(study, arguments.cell))
        return 0
    if unknown := sorted(set(arguments.only) - set(study.contenders)):
        raise UserError(f"--only must be among {sorted(study.contenders)}, however: {unknown[0]!r}")
    planned = [key for key in study.planned() if not arguments.only or key.model in arguments.only]
    missing = [key for key in planned if not key.path(study.study.results).exists()]
    _say_how_long(study, planned, missing, arguments.processes)
    for key in {study.dataset_folder(key): key for key in missing}.values():
        _build(study, key)
    command = [sys.executable, "-m", "jobs.compare", "--config", str(arguments.config)]
    command += [word for override in arguments.overrides for word in ("--set", override)]
    return _run_all(command, missing, arguments.processes)


def _run_all(command: Sequence[str], missing: Sequence[CellKey], processes: int) -> int:
    """Run cells as processes of one thread each; those that fail are named at the end and left missing."""
    waiting, running, failed = deque(missing), dict[CellKey, subprocess.Popen[bytes]](), []
    done, started = 0, time.monotonic()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    while waiting or running:
        while waiting and len(running) < processes:
            key = waiting.popleft()
            running[key] = subprocess.Popen([*command, "--cell", _name(key)], env=environment)
        time.sleep(0.2)
        for key, process in list(running.items()):
            if process.poll() is None:
                continue
            del running[key]
            done += 1
            if process.returncode:
                failed.append(_name(key))
            left = (time.monotonic() - started) / done * (len(missing) - done) / 60
            print(f"{done} of {len(missing)} cells, about {left:.0f} minutes left", flush=True)
    if failed:
        print(f"error: {len(failed)} cells failed ({', '.join(failed)}); the others are saved", file=sys.stderr)
    return 1 if failed else 0


def _cell(study: Study, key: CellKey) -> None:
    contender = study.contenders[key.model]
    config = RunConfig.read(study.study.run, study.overrides(key))
    job = CellJob(
        dataset=str(study.dataset_folder(key).absolute() / "dataset"),
        model=config.model,
        config=config,
        baseline=contender.baseline,
        members=contender.members,
    )
    sums, about = run_cell(job, tell=lambda text: print(f"{_name(key)}: {text}", flush=True))
    save_cell(study.study.results, key, sums, about)
    print(f"{_name(key)}: finished in {about['seconds']} s", flush=True)


def _build(study: Study, key: CellKey) -> None:
    """The cell's dataset, unless it is there; its raw tables are those of the run."""
    out = study.dataset_folder(key)
    if (out / "dataset" / MANIFEST).exists():
        return
    raw = Path(RunConfig.read(study.study.run).run.path("raw"))
    if not raw.exists():
        raise UserError(f"the study's raw tables must be in {raw}: run jobs/make_raw.py --config {study.study.run}")
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "raw").exists():
        (out / "raw").symlink_to(raw)
    command = [sys.executable, "-m", "jobs.build_dataset", "--config", str(study.study.run)]
    command += [word for o in (f"run.out={out}", *study.dataset_overrides(key)) for word in ("--set", o)]
    if status := subprocess.run(command, check=False).returncode:
        raise UserError(f"the dataset in {out} could not be built (status {status}); see above")


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

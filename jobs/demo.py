"""The main job, step by step: raw tables, dataset, training, evaluation, one day's prediction, report.

A step that is complete for the same config is not run again; a step that was cut off goes on or starts over.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jobs.config import RunConfig, argument_parser, run_job
from m2m_model.contracts.errors import UserError

FREE_BYTES = 2 << 30
STEPS = ".steps"
"""Folder of the stamps of complete steps; tells a run of the demo from any other folder."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argument_parser(__doc__)
    parser.add_argument("--clean", action="store_true", help="start over")
    arguments = parser.parse_args(argv)
    config = RunConfig.read(arguments.config, arguments.overrides)
    out = Path(config.run.out)
    if arguments.clean:
        _remove_run(out)
    (out / STEPS).mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(out).free < FREE_BYTES:
        raise UserError(f"about {FREE_BYTES >> 30} GB of free disk space are needed under {out}: free some, run again")
    common = ["--config", str(arguments.config), *(word for o in arguments.overrides for word in ("--set", o))]
    key = hashlib.sha256(config.model_dump_json().encode()).hexdigest()
    started = time.monotonic()
    steps = _steps(config)
    for number, (name, command) in enumerate(steps, start=1):
        stamp = out / STEPS / f"{number}-{name.replace(' ', '-')}.json"
        if stamp.exists() and json.loads(stamp.read_text())["config"] == key:
            print(f"[{number}/{len(steps)}] {name}: complete", flush=True)
            continue
        print(f"[{number}/{len(steps)}] {name}", flush=True)
        begun = time.monotonic()
        if status := _run([*command, *common]):
            print(f"error: {name} failed; mend what it says and run the same command to go on", file=sys.stderr)
            return status
        for later in stamp.parent.glob("*.json"):
            if int(later.name.partition("-")[0]) > number:
                later.unlink()
        stamp.write_text(json.dumps({"config": key, "seconds": round(time.monotonic() - begun, 1)}))
    _summary(config, time.monotonic() - started)
    return 0


def _remove_run(out: Path) -> None:
    if out.exists() and not (out / STEPS).is_dir() and any(out.iterdir()):
        raise UserError(f"--clean removes a run of the demo, however: {out} is none (no {STEPS}): remove it yourself")
    shutil.rmtree(out, ignore_errors=True)


def _steps(config: RunConfig) -> list[tuple[str, list[str]]]:
    day = str(config.raw.last_day)
    spec = config.run.path("dataset", "spec.json")
    return [
        ("raw tables", ["jobs.make_raw"]),
        ("dataset", ["jobs.build_dataset"]),
        ("training", ["jobs.train", "--resume"]),
        ("evaluation", ["jobs.evaluate"]),
        ("daily features", ["jobs.build_dataset", "--date", day, "--spec", spec]),
        ("daily prediction", ["jobs.predict", "--date", day]),
        ("report", ["jobs.report"]),
    ]


def _run(command: Sequence[str]) -> int:
    environment = os.environ | {"PYSPARK_PYTHON": sys.executable}
    return subprocess.run([sys.executable, "-m", *command], check=False, env=environment).returncode


def _summary(config: RunConfig, seconds: float) -> None:
    out = config.run.out
    rows = [line.split(",") for line in Path(out, "report", "metrics.csv").read_text().splitlines()[1:]]
    print(f"\nmacro average over task x scenario cells of the test period ({seconds / 60:.1f} minutes)\n")
    print(f"  {'model':<20}{'forecast':<10}{'NMAE':>8}{'SMAPE':>8}")
    for model, scenario, task, forecast, nmae, smape, _ in rows:
        if scenario == task == "overall":
            print(f"  {model:<20}{forecast:<10}{float(nmae):>8.3f}{float(smape):>8.3f}")
    print()
    for part in ("dataset", "model", "predictions", "report/index.html", "report/metrics.csv"):
        print(f"  {part:<20} {out}/{part}")


if __name__ == "__main__":
    sys.exit(run_job(main))

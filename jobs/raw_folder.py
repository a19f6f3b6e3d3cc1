"""The folder of raw tables that a job makes: whole or not at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobs.config import RunConfig
from m2m_model.contracts.errors import UserError

COMPLETE = "_complete.json"


def make_once(config: RunConfig, make: Callable[[Path], dict[str, Any]], *, force: bool) -> dict[str, Any] | None:
    """Let ``make`` write the raw tables into a staging folder, then put it in the place of ``<out>/raw``.

    What ``make`` returns lies in ``_complete.json`` and is returned; None if the tables were complete already.

    Raises:
        UserError: ``run.out`` is no folder of a file system.
    """
    target = _local_folder(config)
    if (target / COMPLETE).exists() and not force:
        print(f"raw tables in {target} are complete (--force makes them again)")
        return None
    staging, old = target.with_name("raw.staging"), target.with_name("raw.old")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    made = make(staging)
    (staging / COMPLETE).write_text(json.dumps(made, indent=1))
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    staging.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    print(f"raw tables are in {target}")
    return made


def _local_folder(config: RunConfig) -> Path:
    path = config.run.path("raw")
    if "://" in path:
        raise UserError(
            f"raw tables are made in a local folder, however: run.out is {config.run.out!r}; on a cluster take one "
            "that all its machines share, or copy them there and run jobs.build_dataset"
        )
    return Path(path)

"""A world's config as the TOML of a run, for jobs that are started as a user starts them."""

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl.config import EtlConfig


def write_run(config: EtlConfig, path: Path, *, out: str, raw: str, **spark_conf: str) -> Path:
    """Write the run's TOML to ``path``; returns it."""
    sections = config.model_dump() | {"run": {"name": "world", "out": out, "raw": raw}, "spark": {"conf": spark_conf}}
    lines = (f"{name} = {toml_value(section)}\n" for name, section in sections.items() if section is not None)
    path.write_text("".join(lines))
    return path


def toml_value(value: Any) -> str:
    """``value`` as TOML writes it on one line."""
    if isinstance(value, Mapping):
        items = (f"{json.dumps(key)} = {toml_value(item)}" for key, item in value.items() if item is not None)
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml_value, value)) + "]"
    return value.isoformat() if isinstance(value, datetime.date) else json.dumps(value)

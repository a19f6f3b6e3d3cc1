"""The TOML of a run whose data and model are :mod:`tests.training.tiny`'s."""

from pathlib import Path

RUN = """
[run]
name = "tiny"
out = "{out}"
[raw]
first_day = 2017-01-01
last_day = 2017-03-31
facts = {{performance = {{}}}}
[features]
[tasks.units]
expr = "sum(units)"
unit = "units"
"""
SMALL_MODEL = """
[model]
embedding_dim = 2
experts = 2
view_dim = 4
knowledge_dim = 4
meta_layers = 1
tower_layers = 1
"""
NO_GRACE = """
[predict]
grace_seconds = 0
"""


def write_run(path: Path, *, out: Path | str, more: str = "") -> Path:
    """Write the run's TOML, with further sections, to ``path``; returns it."""
    path.write_text(RUN.format(out=out) + more)
    return path

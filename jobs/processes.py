"""Other jobs as processes of their own."""

import subprocess
import sys
from collections import deque
from collections.abc import Sequence

from m2m_model.contracts.errors import UserError

KEPT = 20
"""Of the last lines that a process wrote to stderr."""


def run_module(name: str, arguments: Sequence[str], *, keep: int | None = None) -> None:
    """Run ``python -m name``; what it prints is printed.

    ``keep``: a file descriptor that the process inherits.

    Raises:
        UserError: it failed; the message ends with the error that it gave.
    """
    command = [sys.executable, "-m", name, *arguments]
    last: deque[str] = deque(maxlen=KEPT)
    pass_fds = () if keep is None else (keep,)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace", pass_fds=pass_fds) as process:
        assert process.stderr is not None
        for line in process.stderr:
            sys.stderr.write(line)
            last.append(line.strip())
    if process.returncode:
        said = next((line for line in reversed(last) if line.startswith("error: ")), last[-1] if last else "")
        raise UserError(f"{name} ended with status {process.returncode}: {said.removeprefix('error: ')}")


def common_arguments(config: object, overrides: Sequence[str]) -> list[str]:
    """The arguments that every job takes, as they were given to this one."""
    return ["--config", str(config), *(word for override in overrides for word in ("--set", override))]

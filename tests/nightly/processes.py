"""Jobs as processes of their own, as a scheduler starts them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def start_job(name: str, config: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"jobs.{name}", "--config", str(config), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable} | environment
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen[str], *, status: int = 0) -> str:
    """Wait for a job, which must end with ``status``; what it printed, errors included."""
    output, errors = process.communicate(timeout=1200)
    assert process.returncode == status, f"status {process.returncode}\n{output[-3000:]}{errors[-3000:]}"
    return output + errors

"""The API reference builds from the docstrings without a warning."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guides import ROOT


@pytest.mark.slow
def test_the_reference_builds_without_a_warning(tmp_path: Path) -> None:
    make = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "-m pdoc" in line)
    _, _, arguments = make.partition("-m pdoc -o out/docs ")
    command = f"{sys.executable} -W error::UserWarning -m pdoc -o {tmp_path} {arguments}"
    environment = os.environ | {"PDOC_ALLOW_EXEC": "1"}  # as the Makefile has it: a package asks for the processor
    done = subprocess.run(
        command, shell=True, cwd=ROOT, env=environment, check=False, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warn:" not in done.stderr
    assert (tmp_path / "index.html").exists()
    assert (tmp_path / "m2m_model" / "meta.html").exists()

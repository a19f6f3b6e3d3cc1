"""The README's ``console ci`` blocks run as they stand, from the repository's root."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_every_command_block_is_tagged() -> None:
    blocks = FENCE.findall((ROOT / "README.md").read_text())
    consoles = [tag for language, tag, _ in blocks if language == "console"]
    assert consoles
    assert set(consoles) <= {"ci", "manual"}


@pytest.mark.readme
@pytest.mark.timeout(1500)
def test_ci_blocks_run() -> None:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYSPARK_PYTHON": sys.executable,
    }
    for language, tag, block in FENCE.findall((ROOT / "README.md").read_text()):
        if (language, tag) == ("console", "ci"):
            for command in block.strip().splitlines():
                done = subprocess.run(
                    command, shell=True, cwd=ROOT, env=environment, check=False, capture_output=True, text=True
                )
                assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"

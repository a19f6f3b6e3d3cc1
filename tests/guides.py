"""Console blocks of Markdown pages, and running them as a reader would."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(\w+)(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A console block: its tag, its commands, and the text that the page says is printed."""

    tag: str
    commands: str
    shown: tuple[str, ...]


def console_blocks(page: Path) -> list[Block]:
    """The page's console blocks in order, each with the lines of the ``text`` blocks that follow it."""
    blocks: list[Block] = []
    for language, tag, content in FENCE.findall(page.read_text()):
        if language == "console":
            blocks.append(Block(tag=tag, commands=content, shown=()))
        elif language == "text" and blocks:
            last = blocks.pop()
            lines = tuple(line for line in content.splitlines() if line)
            blocks.append(Block(tag=last.tag, commands=last.commands, shown=(*last.shown, *lines)))
    return blocks


def run_block(commands: str, *, cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    """Run a block in bash, which stops at the first command that fails; ``path`` comes first on PATH."""
    environment = os.environ | {
        "PATH": ":".join(filter(None, [path, str(Path(sys.executable).parent), os.environ["PATH"]])),
        "PYSPARK_PYTHON": sys.executable,
    }
    return subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", commands],
        cwd=cwd,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )

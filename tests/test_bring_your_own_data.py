"""``docs/bring_your_own_data.md``, word for word, in an empty folder: what runs, what fails, and what both print."""

from pathlib import Path

import pytest

from tests.guides import ROOT, console_blocks, run_block

GUIDE = ROOT / "docs" / "bring_your_own_data.md"
USER_ERROR = 2


def test_every_block_is_run() -> None:
    assert {block.tag for block in console_blocks(GUIDE)} == {"ci", "fails"}


@pytest.mark.readme
@pytest.mark.timeout(2400)
def test_the_guide_holds_word_for_word(tmp_path: Path) -> None:
    m2m = tmp_path / "bin" / "m2m"
    m2m.parent.mkdir()
    m2m.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec python -m jobs.cli "$@"\n')  # this tree's, whatever is installed
    m2m.chmod(0o755)
    reader = tmp_path / "reader"
    reader.mkdir()
    for block in console_blocks(GUIDE):
        done = run_block(block.commands, cwd=reader, path=str(m2m.parent))
        said = f"{block.commands}\n{done.stdout[-3000:]}\n{done.stderr[-4000:]}"
        assert done.returncode == (USER_ERROR if block.tag == "fails" else 0), said
        for line in block.shown:
            assert line in done.stdout + done.stderr, f"{line!r} is not in the output of\n{said}"
        if block.tag == "fails":
            assert "Traceback" not in done.stderr, said

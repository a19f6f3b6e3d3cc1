"""The README's ``console ci`` blocks run as they stand, from the repository's root."""

import pytest

from tests.guides import ROOT, console_blocks, run_block


def test_every_command_block_is_tagged() -> None:
    blocks = console_blocks(ROOT / "README.md")
    assert blocks
    assert {block.tag for block in blocks} <= {"ci", "manual"}


@pytest.mark.readme
@pytest.mark.timeout(1500)
def test_ci_blocks_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARK_CONF_DIR")  # that of tests is for small data
    for block in console_blocks(ROOT / "README.md"):
        if block.tag == "ci":
            for command in block.commands.strip().splitlines():
                done = run_block(command, cwd=ROOT)
                assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"

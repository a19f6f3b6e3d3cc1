"""Publishers that die, at each step of a publication, and those whose disk is full."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from m2m_model.contracts.store import MANIFEST, Folder, Manifest
from tests.faults.disk import PAGE, fill, small_disk
from tests.faults.fault import Fault
from tests.faults.publisher import Publisher
from tests.faults.reader import check, live, watched

STEPS = ("write_bytes", "publish", "replace_bytes", "remove_superseded")
"""In their order; a repetition dies in one of them, the first in the first."""


@pytest.fixture(scope="module")
def publisher() -> Iterator[Publisher]:
    running = Publisher()
    yield running
    running.process.kill()
    running.process.wait()


def published(location: Path) -> Manifest:
    """What is in force, whole."""
    manifest = live(Folder.at(location))
    assert manifest is not None
    check(Folder.at(location), manifest)
    return manifest


def leftovers(location: Path, manifest: Manifest) -> list[str]:
    """What lies in a published folder and is no part of the generation in force."""
    known = {MANIFEST, *(file.path for file in manifest.files)}
    return sorted(
        str(path.relative_to(location))
        for path in location.rglob("*")
        if path.is_file() and str(path.relative_to(location)) not in known
    )


@pytest.fixture(scope="module")
def lines(publisher: Publisher, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Per publisher, the function of every line that a second publication executes."""
    found = {}
    for what in ("rows", "model"):
        folder = tmp_path_factory.mktemp(what)
        assert publisher(what, folder, 0).status == 0
        found[what] = publisher(what, folder, 1).lines
    return found


@pytest.mark.faults("kill -9 of a publisher at each of its steps")
@pytest.mark.parametrize("what", ["rows", "model"])
def test_killed_publisher(
    fault: Fault, what: str, publisher: Publisher, lines: dict[str, list[str]], tmp_path: Path
) -> None:
    step = STEPS[fault.repetition % len(STEPS)]
    die_at = fault.random.choice([number for number, name in enumerate(lines[what]) if name == step])
    assert publisher(what, tmp_path, 0).status == 0
    before = published(tmp_path)
    with watched(tmp_path) as seen:
        assert publisher(what, tmp_path, 1, die_at).status == -signal.SIGKILL
        after = published(tmp_path)
    assert seen[0].generations[0] == before.generation
    swapped = after.generation != before.generation
    fault.saw.append(f"died in {step}: {'new' if swapped else 'old'} generation whole")
    assert swapped <= (step in ("replace_bytes", "remove_superseded"))
    assert publisher(what, tmp_path, 2).status == 0
    again = published(tmp_path)
    assert again.generation not in (before.generation, after.generation)
    assert leftovers(tmp_path, again) == []


@pytest.mark.faults("disk full while publishing")
@pytest.mark.parametrize("what", ["rows", "model"])
def test_full_disk(fault: Fault, what: str, publisher: Publisher, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        location = disk / "published"
        assert publisher(what, location, 0).status == 0
        before = published(location)
        pages = sum(-(-file.bytes // PAGE) for file in before.files)
        # Every fourth time all files find room, and the manifest does not.
        free = pages if fault.repetition % 4 == 3 else fault.random.randrange(pages)
        with watched(location) as seen:
            ballast = fill(disk, free_pages=free)
            failed = publisher(what, location, 1)
            after = published(location)
            ballast.unlink()
        assert seen[0].generations[0] == before.generation
        assert "No space left on device" in failed.error
        assert after == before
        fault.saw.append("error says so, old generation whole")
        assert publisher(what, location, 2).status == 0
        assert leftovers(location, published(location)) == []

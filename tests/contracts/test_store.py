import datetime
import os
from pathlib import Path

import pytest

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import (
    MANIFEST,
    TEMPORARY,
    Folder,
    Manifest,
    data_path,
    new_generation,
    publish,
    read_manifest,
    remove_superseded,
)


def write(folder: Folder, content: bytes, *, hours_ago: float = 0, published_hours_ago: float = 0) -> Manifest:
    """A generation that was begun, and one that will say it was published, some time ago."""
    now, generation = datetime.datetime.now(datetime.UTC), new_generation()
    if hours_ago:
        began = now - datetime.timedelta(hours=hours_ago)
        generation = f"{began:%Y%m%dT%H%M%S}-{generation.partition('-')[2]}"
    published = (now - datetime.timedelta(hours=published_hours_ago)).isoformat(timespec="seconds")
    entry = folder.write_bytes(data_path(generation, "part.bin"), content)
    return Manifest(kind="dataset", generation=generation, created_at=published, files=(entry,))


def test_readers_see_a_generation_only_after_publish(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    with pytest.raises(UserError, match=r"holds no complete dataset .*: build it"):
        read_manifest(folder, kind="dataset", build_hint="build it")
    first = write(folder, b"first")
    publish(folder, first)
    second = write(folder, b"second")
    assert read_manifest(folder, kind="dataset", build_hint="") == first
    publish(folder, second)
    assert read_manifest(folder, kind="dataset", build_hint="") == second
    assert folder.read_bytes(first.files[0].path) == b"first"  # still there for readers that use it
    assert remove_superseded(folder, live=second.generation, grace_seconds=0) == [first.generation]
    assert folder.read_bytes(second.files[0].path) == b"second"


def test_a_truncated_file_cannot_be_published(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    good = write(folder, b"good")
    publish(folder, good)
    bad = write(folder, b"whole")
    (tmp_path / bad.files[0].path).write_bytes(b"who")
    with pytest.raises(UserError, match=r"must have 5 bytes, however: 3; nothing was published"):
        publish(folder, bad)
    assert read_manifest(folder, kind="dataset", build_hint="") == good


def test_a_damaged_or_foreign_manifest_is_refused(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    publish(folder, write(folder, b"x"))
    with pytest.raises(UserError, match="must hold a model, however: it holds a dataset"):
        read_manifest(folder, kind="model", build_hint="")
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(UserError, match="is damaged"):
        read_manifest(folder, kind="dataset", build_hint="rebuild")


def test_grace_keeps_young_generations(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    first, second = write(folder, b"1"), write(folder, b"2")
    publish(folder, second)
    assert remove_superseded(folder, live=second.generation, grace_seconds=3600) == []
    assert folder.exists(first.files[0].path)


def test_grace_counts_from_when_a_generation_was_superseded(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    oldest, before = (write(folder, b"x", hours_ago=hours) for hours in (90, 70))
    live = write(folder, b"y", hours_ago=2)
    publish(folder, live)
    assert remove_superseded(folder, live=live.generation, grace_seconds=3600) == [oldest.generation]
    assert folder.exists(before.files[0].path), "it was in force until now, though it is three days old"
    publish(folder, live.model_copy(update={"created_at": write(folder, b"z", published_hours_ago=1.5).created_at}))
    assert before.generation in remove_superseded(folder, live=live.generation, grace_seconds=3600)


def test_another_publishers_generations_stay(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    old, mine, theirs = (write(folder, content) for content in (b"old", b"mine", b"theirs"))
    in_work = folder.write_bytes(data_path("29990101T000000-00000000", "part.bin"), b"in work")
    publish(folder, mine)
    publish(folder, theirs)
    assert remove_superseded(folder, live=mine.generation, grace_seconds=0) == [old.generation]
    assert folder.read_file(theirs.files[0], hint="") == b"theirs"
    assert folder.exists(in_work.path)


def test_what_a_killed_publisher_was_about_to_swap_in_goes_after_the_grace_period(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    manifest = write(folder, b"x")
    publish(folder, manifest)
    young, old = (tmp_path / f"{MANIFEST}.{name}{TEMPORARY}" for name in ("young", "old"))
    young.touch()
    old.touch()
    os.utime(old, (0, 0))
    remove_superseded(folder, live=manifest.generation, grace_seconds=3600)
    assert (young.exists(), old.exists()) == (True, False)


def test_a_file_that_is_not_what_was_published_is_refused_by_name(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path)
    (entry,) = write(folder, b"content").files
    assert folder.read_file(entry, hint="") == b"content"
    (tmp_path / entry.path).write_bytes(b"c0ntent")
    for read in (lambda: folder.read_file(entry, hint="do it"), lambda: folder.check_content([entry], hint="do it")):
        with pytest.raises(UserError, match=r"part\.bin is missing or damaged \(its checksum is not .*\): do it"):
            read()
    (tmp_path / entry.path).unlink()
    with pytest.raises(UserError, match=r"part\.bin is missing or damaged .*: do it"):
        folder.read_file(entry, hint="do it")

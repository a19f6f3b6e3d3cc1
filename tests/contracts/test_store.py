from pathlib import Path

import pytest

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import (
    MANIFEST,
    Folder,
    Manifest,
    data_path,
    new_generation,
    publish,
    read_manifest,
    remove_superseded,
)


def write(folder: Folder, content: bytes) -> Manifest:
    generation = new_generation()
    entry = folder.write_bytes(data_path(generation, "part.bin"), content)
    return Manifest(kind="dataset", generation=generation, created_at="2020-01-01", files=(entry,))


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

"""Publishing to an object store: a real S3 server, the same promises as on a disk."""

import os
import signal
import subprocess
import sys

import pytest

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import (
    Folder,
    Manifest,
    below,
    data_path,
    new_generation,
    publish,
    read_manifest,
    remove_superseded,
)

TO_BE_KILLED = """
import os, signal, sys
from m2m_model.contracts import store
folder = store.Folder.at(sys.argv[1])
generation = store.new_generation()
entry = folder.write_bytes(store.data_path(generation, "part.bin"), b"half done")
os.kill(os.getpid(), signal.SIGKILL)
"""


def write(folder: Folder, content: bytes) -> Manifest:
    generation = new_generation()
    entry = folder.write_bytes(data_path(generation, "part.bin"), content)
    return Manifest(kind="dataset", generation=generation, created_at="2020-01-01", files=(entry,))


def test_readers_see_a_generation_only_after_publish(s3: str) -> None:
    folder = Folder.at(below(s3, "dataset"))
    with pytest.raises(UserError, match=r"holds no complete dataset .*: build it"):
        read_manifest(folder, kind="dataset", build_hint="build it")
    first, second = write(folder, b"first"), write(folder, b"second")
    publish(folder, first)
    assert read_manifest(folder, kind="dataset", build_hint="") == first
    publish(folder, second)
    assert read_manifest(folder, kind="dataset", build_hint="") == second
    assert folder.read_bytes(first.files[0].path) == b"first"
    assert remove_superseded(folder, live=second.generation, grace_seconds=0) == [first.generation]
    assert not folder.exists(first.files[0].path)
    assert folder.read_bytes(second.files[0].path) == b"second"


def test_a_crash_before_publishing_leaves_the_old_generation(s3: str) -> None:
    folder = Folder.at(s3)
    old = write(folder, b"old")
    publish(folder, old)
    killed = subprocess.run([sys.executable, "-c", TO_BE_KILLED, s3], check=False, env=os.environ, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert read_manifest(folder, kind="dataset", build_hint="") == old
    new = write(folder, b"new")
    publish(folder, new)
    removed = remove_superseded(folder, live=new.generation, grace_seconds=0)
    assert len(removed) == 2, "the killed writer's generation was there, and is gone with the old one"


def test_a_missing_file_cannot_be_published(s3: str) -> None:
    folder = Folder.at(s3)
    manifest = write(folder, b"whole")
    folder.filesystem.delete_file(folder.join(manifest.files[0].path))
    with pytest.raises(UserError, match="nothing was published"):
        publish(folder, manifest)


def test_wrong_credentials_are_said_to_be_that_and_not_a_missing_dataset(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(UserError, match=r"cannot be read: .*"):
        read_manifest(Folder.at(s3), kind="dataset", build_hint="")


@pytest.mark.parametrize("location", ["s3a://bucket/run", "hdfs://name/run", "ftp://host/run"])
def test_other_stores_are_refused_for_output(location: str) -> None:
    with pytest.raises(UserError, match=r"must be a local path or one of file://, s3://, gs://"):
        Folder.at(location)


def test_a_part_of_a_uri_keeps_its_query() -> None:
    assert below("s3://bucket/run/?region=x", "a", "b") == "s3://bucket/run/a/b?region=x"
    assert below("out/run/", "a") == "out/run/a"

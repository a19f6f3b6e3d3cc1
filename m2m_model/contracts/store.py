"""Publishing and reading generations: immutable files, and one manifest swapped in as the last, atomic step.

A published folder looks like this, on a local disk or an object store (any ``pyarrow.fs`` URI)::

    <folder>/manifest.json                    names the live generation and every one of its files
    <folder>/data/generation=<id>/...parquet  immutable; superseded generations go after a grace period

Writers put files under a new generation and call :func:`publish`; until then nobody sees them. Readers call
:func:`read_manifest` and open exactly the files it lists. A crash at any moment leaves the last manifest in force.
"""

import calendar
import contextlib
import datetime
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

import pyarrow.fs as pafs
from pydantic import ValidationError

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.locations import InnerPath, location_problem

MANIFEST = "manifest.json"
DATA = "data"
TEMPORARY = ".tmp"
"""How a file ends that is about to replace another on a local disk."""
STORES = ("file", "s3", "gs")
"""URI schemes of stores where replacing one object is atomic; a path without a scheme is a local disk."""
OTHER_CHECKSUM = "its checksum is not the manifest's"


class FileEntry(StrictConfig):
    """One immutable file of a generation. ``path`` is relative to the published folder."""

    path: InnerPath
    bytes: int
    sha256: str
    rows: int = 0
    row_groups: tuple[int, ...] = ()
    """Rows of each Parquet row group, so that readers can plan without opening files."""
    partition: dict[str, str] = {}
    """For instance ``{"split": "train", "dt": "2017-02-10"}``."""


class Manifest(StrictConfig):
    """What a published folder holds. ``content`` is the publisher's own: split dates, counts, config, code version."""

    kind: str
    generation: str
    created_at: str
    files: tuple[FileEntry, ...]
    content: dict[str, Any] = {}

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    def select(self, **partition: str) -> tuple[FileEntry, ...]:
        """Files of one partition, in manifest order."""
        return tuple(f for f in self.files if all(f.partition.get(k) == v for k, v in partition.items()))


class Folder:
    """A published folder on any file system.

    Example:
        >>> Folder.at("out/demo/dataset").join("manifest.json").endswith("out/demo/dataset/manifest.json")
        True
    """

    def __init__(self, filesystem: pafs.FileSystem, path: str, uri: str) -> None:
        self.filesystem, self.path, self.uri = filesystem, path.rstrip("/"), uri

    @classmethod
    def at(cls, location: str | Path) -> Self:
        """A folder at a local path or a URI (``s3://bucket/path?endpoint_override=...``).

        Raises:
            UserError: a store that results cannot be published in.
        """
        text = str(location)
        if problem := location_problem(text):
            raise UserError(problem)
        if not is_uri(text):
            return cls(pafs.LocalFileSystem(), str(Path(text).absolute()), text)
        if urlsplit(text).scheme not in STORES:
            raise UserError(
                f"{text} must be a local path or one of {', '.join(f'{store}://' for store in STORES)}, which are "
                "written through pyarrow; s3a:// and hdfs:// are for raw tables that Spark reads (docs/storage.md)"
            )
        try:
            filesystem, path = pafs.FileSystem.from_uri(text)
        except (OSError, ValueError) as error:
            raise UserError(f"{text} cannot be opened: {str(error).splitlines()[0]}") from None
        return cls(filesystem, path, text)

    def join(self, *parts: str) -> str:
        return "/".join((self.path, *parts))

    def read_bytes(self, relative: str) -> bytes:
        with self.filesystem.open_input_file(self.join(relative)) as stream:
            return bytes(stream.read())

    def read_file(self, file: FileEntry, *, hint: str) -> bytes:
        """One small file of a generation, whole and as it was published.

        Raises:
            UserError: it is missing or damaged; ``hint`` says what to do.
        """
        try:
            content = self.read_bytes(file.path)
        except OSError as error:
            raise _unread(self, file, error, hint=hint) from None
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise damaged_file(self, file, OTHER_CHECKSUM, hint=hint)
        return content

    def check_content(self, files: Sequence[FileEntry], *, hint: str) -> None:
        """Read ``files`` through in bounded memory.

        Raises:
            UserError: one is missing or not what was published; ``hint`` says what to do.
        """
        for file in files:
            digest = hashlib.sha256()
            try:
                with self.filesystem.open_input_stream(self.join(file.path)) as stream:
                    while block := stream.read(1 << 20):
                        digest.update(block)
            except OSError as error:
                raise _unread(self, file, error, hint=hint) from None
            if digest.hexdigest() != file.sha256:
                raise damaged_file(self, file, OTHER_CHECKSUM, hint=hint)

    def write_bytes(self, relative: str, content: bytes) -> FileEntry:
        """Write one file whole; returns its entry."""
        self.make_parents(relative)
        with self.filesystem.open_output_stream(self.join(relative)) as stream:
            stream.write(content)
        return FileEntry(path=relative, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    def replace_bytes(self, relative: str, content: bytes) -> None:
        """Replace one file atomically: an object store's put, or a rename on a local disk."""
        if not isinstance(self.filesystem, pafs.LocalFileSystem):
            self.write_bytes(relative, content)
            return
        temporary = f"{relative}.{uuid.uuid4().hex}{TEMPORARY}"
        try:
            self.write_bytes(temporary, content)
            self.filesystem.move(self.join(temporary), self.join(relative))
        except OSError:
            with contextlib.suppress(OSError):
                self.filesystem.delete_file(self.join(temporary))
            raise

    def make_parents(self, relative: str) -> None:
        """Create the folders above a file, where there are folders: an object store has none."""
        if isinstance(self.filesystem, pafs.LocalFileSystem):
            self.filesystem.create_dir(self.join(relative).rpartition("/")[0], recursive=True)

    def exists(self, relative: str) -> bool:
        return bool(self.filesystem.get_file_info(self.join(relative)).type == pafs.FileType.File)


def damaged_file(folder: Folder, file: FileEntry, reason: str, *, hint: str) -> UserError:
    return UserError(f"{folder.uri}/{file.path} is missing or damaged ({reason}): {hint}")


def _unread(folder: Folder, file: FileEntry, error: OSError, *, hint: str) -> UserError:
    """A file that is gone is to be made again; one that the disk or the store does not give now, is not."""
    if isinstance(error, FileNotFoundError):
        return damaged_file(folder, file, first_line(error), hint=hint)
    return UserError(f"{folder.uri}/{file.path} cannot be read ({first_line(error)}): run the same command again")


def store_failed(error: OSError) -> bool:
    """Whether an object store did not do what it was asked; pyarrow's errors of stores have no number."""
    return error.errno is None and any(words in str(error) for words in ("AWS Error", "google::cloud"))


def first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def is_uri(location: str) -> bool:
    return len(urlsplit(location).scheme) > 1


def below(location: str, *parts: str) -> str:
    """The location of ``parts`` below ``location``, a path or a URI; a URI's query stays at its end.

    Example:
        >>> below("s3://bucket/run?region=eu-west-1", "features", "dt=2017-03-01")
        's3://bucket/run/features/dt=2017-03-01?region=eu-west-1'
    """
    if not is_uri(location):
        return "/".join((location.rstrip("/"), *parts))
    uri = urlsplit(location)
    return urlunsplit(uri._replace(path="/".join((uri.path.rstrip("/"), *parts))))


def beside(location: str | Path, name: str) -> str:
    """The location of the file ``name`` in the folder of the file at ``location``.

    Example:
        >>> beside("s3://bucket/run/spec.json?region=eu-west-1", "histograms.json")
        's3://bucket/run/histograms.json?region=eu-west-1'
    """
    if not is_uri(str(location)):
        return str(Path(location).with_name(name))
    uri = urlsplit(str(location))
    return urlunsplit(uri._replace(path=uri.path.rpartition("/")[0] + "/" + name))


def read_text(location: str | Path, *, hint: str) -> str:
    """One file at a path or URI.

    Raises:
        UserError: it is not there (``hint`` says what to do) or cannot be read.
    """
    file = Folder.at(location)
    try:
        with file.filesystem.open_input_file(file.path) as stream:
            return bytes(stream.read()).decode()
    except FileNotFoundError:
        raise UserError(f"{location} does not exist: {hint}") from None
    except OSError as error:
        raise UserError(f"{location} cannot be read: {str(error).splitlines()[0]}") from None
    except UnicodeDecodeError:
        raise UserError(f"{location} is binary data, no text: {hint}") from None


def new_generation() -> str:
    """A generation id: sortable by time, unique between concurrent writers."""
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime()) + "-" + uuid.uuid4().hex[:8]


def data_path(generation: str, *parts: str) -> str:
    """Path, relative to the published folder, of a file of a generation."""
    return "/".join((DATA, f"generation={generation}", *parts))


def publish(folder: Folder, manifest: Manifest) -> None:
    """Swap in ``manifest``, after checking that every file it lists is there in full.

    Raises:
        UserError: a listed file is missing or has another size; the previous generation stays in force.
    """
    infos = folder.filesystem.get_file_info([folder.join(file.path) for file in manifest.files])
    for file, info in zip(manifest.files, infos, strict=True):
        if info.type != pafs.FileType.File or info.size != file.bytes:
            raise UserError(
                f"cannot publish {folder.uri}: {file.path} must have {file.bytes} bytes, however: {info.size}; "
                "nothing was published"
            )
    text = json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n"
    folder.replace_bytes(MANIFEST, text.encode())


def read_manifest(folder: Folder, *, kind: str, build_hint: str) -> Manifest:
    """Read the live manifest.

    Raises:
        UserError: there is none (``build_hint`` says what to run), it is damaged, of another kind, or a file of it is a
            link that leads out of the folder.
    """
    try:
        text = folder.read_bytes(MANIFEST)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{folder.uri} holds no complete {kind} (no {MANIFEST}): {build_hint}") from None
    except OSError as error:
        raise UserError(f"{folder.uri} cannot be read: {str(error).splitlines()[0]}") from None
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"{folder.uri}/{MANIFEST} is damaged ({error.error_count()} problems): {build_hint}") from None
    if manifest.kind != kind:
        raise UserError(f"{folder.uri} must hold a {kind}, however: it holds a {manifest.kind}")
    _refuse_links_out(folder, manifest)
    return manifest


def _refuse_links_out(folder: Folder, manifest: Manifest) -> None:
    if not isinstance(folder.filesystem, pafs.LocalFileSystem):
        return
    root = os.path.realpath(folder.path)
    for file in manifest.files:
        if not os.path.realpath(folder.join(file.path)).startswith(root + os.sep):
            raise UserError(f"{folder.uri}: {file.path} is a link that leads out of the published folder")


def remove_superseded(folder: Folder, *, live: str, grace_seconds: float) -> list[str]:
    """Delete generations that were superseded longer than the grace period ago; returns their ids.

    ``live`` was just published. What another publisher has swapped in since, or began after ``live``, stays. A
    generation is superseded when the next younger one began; the one before the live one, when that was published, so
    that who reads it has the whole period. What killed publishers left behind goes.
    """
    _remove_temporaries(folder, grace_seconds)
    root = pafs.FileSelector(folder.join(DATA), recursive=False, allow_not_found=True)
    infos = folder.filesystem.get_file_info(root)
    manifest = json.loads(folder.read_bytes(MANIFEST))
    published = _instant(manifest["created_at"])
    in_force, removed = manifest["generation"], []
    begun = {info.base_name.removeprefix("generation="): info for info in infos}
    for generation, info in begun.items():
        if generation in (live, in_force) or _began(generation) > _began(live):
            continue
        after = [other for other in begun if _began(generation) < _began(other) <= _began(live)]
        younger = min(after, key=_began, default=in_force)
        superseded = published if younger == in_force else _began(younger)
        if time.time() - superseded < grace_seconds:
            continue
        if isinstance(folder.filesystem, pafs.LocalFileSystem):
            shutil.rmtree(info.path, ignore_errors=True)
        else:
            folder.filesystem.delete_dir(info.path)
        removed.append(generation)
    return removed


def _remove_temporaries(folder: Folder, grace_seconds: float) -> None:
    """What publishers that were killed while they replaced a file of a local disk left beside it."""
    if not isinstance(folder.filesystem, pafs.LocalFileSystem):
        return
    for path in Path(folder.path).glob(f"*{TEMPORARY}"):
        with contextlib.suppress(FileNotFoundError):  # its publisher lives, or another one removes it too
            if time.time() - path.stat().st_mtime >= grace_seconds:
                path.unlink()


def _instant(text: str) -> float:
    """Seconds since 1970 of an ISO moment; 0 if it is none."""
    try:
        return datetime.datetime.fromisoformat(text).timestamp()
    except ValueError:
        return 0.0


def _began(generation: str) -> float:
    """When a generation was begun, in seconds since 1970; 0 if its name does not say."""
    try:
        return calendar.timegm(time.strptime(generation.partition("-")[0], "%Y%m%dT%H%M%S"))
    except ValueError:
        return 0.0

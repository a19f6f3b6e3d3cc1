"""A process that reads published folders all the while, and remembers the first state that was not whole.

``python -m tests.faults.reader`` takes lines from its standard input: a JSON list of locations begins a watch, an empty
line ends it and is answered with what was seen, one JSON line.
"""

import contextlib
import functools
import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from m2m_model.contracts.schema import KEYS
from m2m_model.contracts.store import MANIFEST, Folder, Manifest

PAUSE_SECONDS = 0.02
READY = "ready"


@dataclass(kw_only=True)
class Seen:
    looks: int = 0
    generations: list[str] = field(default_factory=list)
    unreachable: int = 0
    """Looks at which the store itself did not answer."""
    problems: list[str] = field(default_factory=list)


class NotWholeError(Exception):
    """What a manifest in force lists is not there as it says."""


def live(folder: Folder) -> Manifest | None:
    """None where nothing has been published yet."""
    try:
        return Manifest.model_validate_json(folder.read_bytes(MANIFEST))
    except (FileNotFoundError, NotADirectoryError):
        return None


def check(folder: Folder, manifest: Manifest, *, rows: bool = True) -> None:
    """Read every file that ``manifest`` lists; without ``rows`` their checksums alone.

    Raises:
        NotWholeError: one is missing, not what was published, or a row is there twice.
    """
    keys: Counter[tuple[object, ...]] = Counter()
    for file in manifest.files:
        try:
            content = folder.read_bytes(file.path)
        except OSError as error:
            raise NotWholeError(f"{file.path}: {error}") from None
        if hashlib.sha256(content).hexdigest() != file.sha256:
            raise NotWholeError(f"{file.path}: {len(content)} bytes that were not published")
        if rows and file.path.endswith(".parquet"):
            keys.update(row_keys(content, rows=file.rows))
    if doubled := [key for key, count in keys.items() if count > 1]:
        raise NotWholeError(f"{len(doubled)} rows are there twice, for instance {doubled[0]}")


def row_keys(content: bytes, *, rows: int) -> list[tuple[object, ...]]:
    table = pq.read_table(pa.BufferReader(content), partitioning=None)
    if len(table) != rows:
        raise NotWholeError(f"{len(table)} rows, the manifest says {rows}")
    if not set(KEYS) <= set(table.column_names):
        return []
    return list(zip(*(table[name].to_pylist() for name in KEYS), strict=True))


def look(folder: Folder, seen: Seen) -> None:
    seen.looks += 1
    try:
        manifest = live(folder)
    except OSError:
        seen.unreachable += 1
        return
    except ValueError as error:
        seen.problems.append(f"{folder.uri}: {error}")
        return
    if manifest is None:
        if seen.generations:
            seen.problems.append(f"{folder.uri}: the manifest is gone")
        return
    is_new = manifest.generation not in seen.generations
    if is_new:
        seen.generations.append(manifest.generation)
    try:
        check(folder, manifest, rows=is_new)
    except NotWholeError as problem:
        # Superseded meanwhile, and removed after its grace period: a reader starts over.
        with contextlib.suppress(OSError):
            now = live(folder)
            if now is not None and now.generation == manifest.generation:
                seen.problems.append(f"{folder.uri} {manifest.generation}: {problem}")
            return
        seen.unreachable += 1


def main() -> None:
    orders: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders,), daemon=True).start()
    while locations := orders.get():
        folders, seen = [Folder.at(location) for location in locations], [Seen() for _ in locations]
        print(READY, flush=True)
        while True:
            for folder, of_folder in zip(folders, seen, strict=True):
                look(folder, of_folder)
            with contextlib.suppress(queue.Empty):
                orders.get(timeout=PAUSE_SECONDS)
                break
        print(json.dumps([asdict(of_folder) for of_folder in seen]), flush=True)


def _listen(orders: "queue.SimpleQueue[list[str] | None]") -> None:
    for line in sys.stdin:
        orders.put(json.loads(line) if line.strip() else [])
    orders.put(None)


class _Reader:
    """The process, from the watching side."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.faults.reader"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, order: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(order, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()


@functools.cache
def _reader(store: str | None) -> _Reader:
    """One for a whole test run, and for each object store, whose keys it takes from the environment as it starts."""
    return _Reader()


@contextlib.contextmanager
def watched(*locations: object) -> Iterator[list[Seen]]:
    """A reader of ``locations`` beside the block; the list is filled as the block ends.

    Asserts that the reader saw nothing that was not whole.
    """
    reader = _reader(os.environ.get("AWS_ENDPOINT_URL"))
    assert reader.tell(json.dumps([str(location) for location in locations])) == READY
    seen: list[Seen] = []
    try:
        yield seen
    finally:
        words = reader.tell("")
    seen += [Seen(**of_folder) for of_folder in json.loads(words)]
    problems = [problem for of_folder in seen for problem in of_folder.problems]
    assert not problems, problems[:3]
    assert all(of_folder.looks for of_folder in seen)


if __name__ == "__main__":
    main()

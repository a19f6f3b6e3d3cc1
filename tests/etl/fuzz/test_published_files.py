"""Damaged spec, manifest and histograms: refused by name, never read as something else."""

import contextlib
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from m2m_model.contracts.drift import NEWEST_DAYS, Histograms, feature_sizes
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import FileEntry, Folder, Manifest, read_manifest
from tests.etl.specs import small_spec

SPEC = small_spec()
HISTOGRAMS = Histograms(
    feature_fingerprint=SPEC.feature_fingerprint,
    newest_days=NEWEST_DAYS,
    splits={"train": {name: tuple(range(size)) for name, size in feature_sizes(SPEC).items()}},
)
MANIFEST = Manifest(
    kind="dataset",
    generation="20170101T000000-abcdef01",
    created_at="2017-01-01T00:00:00+00:00",
    files=(FileEntry(path="data/x.parquet", bytes=3, sha256="ab" * 32, rows=1, partition={"split": "train"}),),
)


def read_spec(path: Path) -> DatasetSpec:
    return DatasetSpec.read(path)


def read_histograms(path: Path) -> Histograms | None:
    return Histograms.from_json(path.read_bytes(), source=str(path), spec=SPEC)


def read_whole_manifest(path: Path) -> Manifest:
    return read_manifest(Folder.at(path.parent), kind="dataset", build_hint="build it")


FILES: dict[str, tuple[str, Callable[[Path], object], object]] = {
    "spec.json": (SPEC.to_json(), read_spec, SPEC),
    "histograms.json": (HISTOGRAMS.model_dump_json(), read_histograms, HISTOGRAMS),
    "manifest.json": (json.dumps(MANIFEST.model_dump(mode="json"), indent=1), read_whole_manifest, MANIFEST),
}


def _cut(content: bytes, generator: random.Random) -> bytes:
    return content[: generator.randrange(len(content) - 2)]


def _not_text(content: bytes, generator: random.Random) -> bytes:
    at = generator.randrange(len(content))
    return content[:at] + b"\xff\xfe" + content[at + 2 :]


def _another_key(content: bytes, generator: random.Random) -> bytes:
    table = json.loads(content)
    table[generator.choice(sorted(table)) + "x"] = table.pop(generator.choice(sorted(table)))
    return json.dumps(table).encode()


def _another_type(content: bytes, generator: random.Random) -> bytes:
    table = json.loads(content)
    table[generator.choice(sorted(set(table) - {"content"}))] = generator.choice([None, -1.5, {"a": 1}, [[]]])
    return json.dumps(table).encode()


def _other(text: bytes) -> Callable[[bytes, random.Random], bytes]:
    return lambda content, generator: text


DAMAGES = {
    "cut": _cut,
    "not text": _not_text,
    "a key renamed": _another_key,
    "a value of another type": _another_type,
    "empty": _other(b""),
    "null": _other(b"null"),
    "a list": _other(b"[]"),
    "an empty table": _other(b"{}"),
    "zeros": _other(bytes(100)),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_damaged(tmp_path: Path, name: str, damage: str, seed: int) -> None:
    text, read, expected = FILES[name]
    path = tmp_path / name
    path.write_text(text)
    assert read(path) == expected
    path.write_bytes(DAMAGES[damage](text.encode(), random.Random(seed)))
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_of_a_spec_is_seen(tmp_path: Path, seed: int) -> None:
    """Its fingerprint covers all that determines a row; label statistics are the only values it leaves out."""
    generator, content = random.Random(seed), bytearray(SPEC.to_json().encode())
    at = generator.randrange(len(content))
    content[at] ^= 1 << generator.randrange(8)
    path = tmp_path / "spec.json"
    path.write_bytes(content)
    with contextlib.suppress(UserError):
        assert DatasetSpec.read(path).feature_fingerprint == SPEC.feature_fingerprint


def test_a_folder_is_no_spec(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a directory"):
        DatasetSpec.read(tmp_path)

"""Damaged Parquet files, file by file: an error that names the file, or exactly the rows that were written."""

import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from etl.failures import spark_failures
from etl.tables import read_facts
from m2m_model.contracts.errors import UserError
from tests.etl.raw_world import Shape, World, make_world

pytestmark = pytest.mark.spark
TABLE = "performance"
FILE = "part-1.parquet"


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(Shape(seed=7, advertisers=6, length=5, history_weeks=1, horizon=2))


@pytest.fixture(scope="module")
def rows(world: World, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return _read(spark, world, world.write(tmp_path_factory.mktemp("good") / "raw"))


def _read(spark: SparkSession, world: World, raw: str) -> list[str]:
    with spark_failures():
        frame = read_facts(spark, world.config.raw, TABLE, root=raw, as_known_at=None)
        return sorted(map(str, frame.collect()))


def _footer(content: bytes) -> int:
    """Where the footer begins: its length stands before the closing magic number."""
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def _cut(content: bytes, generator: random.Random) -> bytes:
    return content[: generator.randrange(len(content))]


def _head_lost(content: bytes, generator: random.Random) -> bytes:
    return content[generator.randrange(1, len(content)) :]


def _flipped(content: bytes, generator: random.Random, first: int, last: int) -> bytes:
    damaged = bytearray(content)
    for _ in range(generator.choice([1, 1, 3])):
        damaged[generator.randrange(first, last)] ^= 1 << generator.randrange(8)
    return bytes(damaged)


def _pages_flipped(content: bytes, generator: random.Random) -> bytes:
    return _flipped(content, generator, 4, _footer(content))


def _zeroed(content: bytes, generator: random.Random) -> bytes:
    start = generator.randrange(4, _footer(content) - 64)
    return content[:start] + bytes(64) + content[start + 64 :]


def _swapped(content: bytes, generator: random.Random) -> bytes:
    at = generator.randrange(4, _footer(content) - 256)
    return content[:at] + content[at + 128 : at + 256] + content[at : at + 128] + content[at + 256 :]


def _tail_flipped(content: bytes, generator: random.Random) -> bytes:
    return _flipped(content, generator, len(content) - 8, len(content))


DAMAGES: dict[str, tuple[Callable[[bytes, random.Random], bytes], int]] = {
    "cut": (_cut, 10),
    "head lost": (_head_lost, 3),
    "bits of pages flipped": (_pages_flipped, 24),
    "zeros in pages": (_zeroed, 6),
    "blocks swapped": (_swapped, 6),
    "bits of the closing words flipped": (_tail_flipped, 4),
    "empty": (lambda content, generator: b"", 1),
    "another format": (lambda content, generator: b"advertiser_id,day\nadv00,2017-01-20\n", 1),
}
CASES = [(damage, seed) for damage, (_, seeds) in DAMAGES.items() for seed in range(seeds)]


@pytest.mark.parametrize(("damage", "seed"), CASES)
def test_damaged_bytes(
    spark: SparkSession, tmp_path: Path, world: World, rows: list[str], damage: str, seed: int
) -> None:
    raw = world.write(tmp_path / "raw")
    path = Path(raw, TABLE, FILE)
    path.write_bytes(DAMAGES[damage][0](path.read_bytes(), random.Random(seed)))
    try:
        found = _read(spark, world, raw)
    except UserError as error:
        message = str(error)
    else:
        assert found == rows, "damage went unseen"
        return
    assert FILE in message
    assert "\n" not in message


UNLIKE: dict[str, Callable[[pa.Table], pa.Table]] = {
    "a column missing": lambda table: table.drop_columns(["clicks"]),
    "a column renamed": lambda table: table.rename_columns([n.replace("clicks", "klicks") for n in table.column_names]),
    "a column more": lambda table: table.append_column("more", table["clicks"]),
    "a column of another type": lambda table: table.set_column(
        table.column_names.index("clicks"), "clicks", table["clicks"].cast(pa.string())
    ),
    "days as words": lambda table: table.set_column(
        table.column_names.index("day"), "day", table["day"].cast(pa.string())
    ),
}


@pytest.mark.parametrize("damage", UNLIKE)
def test_files_of_one_table_must_be_alike(spark: SparkSession, tmp_path: Path, world: World, damage: str) -> None:
    raw = world.write(tmp_path / "raw")
    path = Path(raw, TABLE, FILE)
    pq.write_table(UNLIKE[damage](pq.read_table(path)), path)
    with pytest.raises(UserError, match=FILE) as caught:
        _read(spark, world, raw)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("entries", [(), ("notes.txt",), (".hidden.parquet", "_SUCCESS")])
def test_folders_without_tables(spark: SparkSession, tmp_path: Path, world: World, entries: tuple[str, ...]) -> None:
    raw = Path(world.write(tmp_path / "raw"))
    for path in (raw / TABLE).iterdir():
        path.unlink()
    for name in entries:
        (raw / TABLE / name).write_text("nothing")
    with pytest.raises(UserError, match=TABLE) as caught:
        _read(spark, world, str(raw))
    assert "\n" not in str(caught.value)

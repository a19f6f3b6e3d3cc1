"""One suite over all readers: every row exactly once, orders, damage. Petastorm's part runs in its own environment."""

import importlib.util
import itertools
import json
import pickle
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from m2m_model.batch import Batch
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import dataset_schema
from m2m_model.contracts.store import FileEntry, Folder, Manifest
from tests.security.payload import Payload
from tests.training.datasets import random_rows, write_dataset
from tests.training.tiny import COLUMN, SPEC
from training.config import ReaderConfig, TrainConfig
from training.dataset import batch_column_names, batch_columns, open_split
from training.readers.base import Progress, Reader, epoch_seed
from training.readers.grouping import grouped_order
from training.readers.parquet import ParquetReader
from training.readers.registry import READERS, open_reader

HAVE_PETASTORM = importlib.util.find_spec("petastorm") is not None
WIDE = SPEC.model_copy(update={"behavior": (COLUMN, COLUMN.model_copy(update={"name": "cost", "edges": (2.0,)}))})
ROWS_PER_DAY = [40, 0, 7, 23, 1, 31]
Row = tuple[bytes, ...]


@pytest.fixture(scope="module")
def _cluster() -> Iterator[None]:
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(
    params=[
        "parquet",
        pytest.param("ray_data", marks=pytest.mark.ray),
        pytest.param(
            "petastorm",
            marks=pytest.mark.skipif(not HAVE_PETASTORM, reason="runs in petastorm's environment: make petastorm"),
        ),
    ]
)
def name(request: pytest.FixtureRequest) -> str:
    if request.param == "ray_data":
        request.getfixturevalue("_cluster")
    return str(request.param)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readers") / "dataset"
    write_dataset(folder, WIDE, rows_per_day=ROWS_PER_DAY, row_group_rows=6, other_splits={"validation": [9]})
    return folder


def reader(
    folder: Path,
    name: str,
    *,
    rank: int = 0,
    world: int = 1,
    seed: int = 3,
    blocks: int = 4,
    group_rows: int = 1,
    batch_size: int = 8,
    splits: Sequence[str] = ("train",),
    eligible_only: bool = False,
) -> Reader:
    return open_reader(
        str(folder),
        WIDE,
        ReaderConfig.model_validate({"name": name, "shuffle_blocks": blocks, "group_rows": group_rows}),
        splits=splits,
        train=TrainConfig(seed=seed, batch_size=batch_size * world),
        rank=rank,
        world=world,
        eligible_only=eligible_only,
    )


def rows_of(batch: Batch) -> list[Row]:
    columns = [getattr(batch, field.name).numpy() for field in fields(batch)]
    return [tuple(column[row].tobytes() for column in columns) for row in range(len(batch))]


def read(reader: Reader, epoch: int = 0, progress: Sequence[Progress] | None = None) -> list[Row]:
    return [row for batch, _ in reader.epoch(epoch, progress) for row in rows_of(batch)]


def published_rows(folder: Path, *splits: str, eligible_only: bool = False) -> Counter[Row]:
    """All training rows, or those of ``splits``, read without any reader."""
    files = open_split(str(folder), *(splits or ("train",))).files
    table = pa.concat_tables([pq.ParquetFile(folder / file.path).read() for file in files])
    chosen = table.filter(table["eligible"]) if eligible_only else table
    return Counter(rows_of(Batch.from_columns(batch_columns(chosen, WIDE), WIDE)))


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_row_exactly_once_per_epoch(dataset: Path, name: str, world: int) -> None:
    wanted = published_rows(dataset)
    assert sum(wanted.values()) == sum(ROWS_PER_DAY)
    readers = [reader(dataset, name, rank=rank, world=world) for rank in range(world)]
    for epoch in range(2):
        shares = [read(one, epoch) for one in readers]
        assert sum((Counter(share) for share in shares), Counter()) == wanted


@pytest.mark.parametrize("world", [1, 2])
def test_the_eligible_rows_of_two_splits_come_once_in_full_batches(dataset: Path, name: str, world: int) -> None:
    wanted = published_rows(dataset, "train", "validation", eligible_only=True)
    assert 0 < sum(wanted.values()) < sum(published_rows(dataset, "train", "validation").values())
    shares: Counter[Row] = Counter()
    for rank in range(world):
        both = reader(
            dataset, name, rank=rank, world=world, batch_size=5, splits=("train", "validation"), eligible_only=True
        )
        batches = [batch for batch, _ in both.epoch(0)]
        assert {len(batch) for batch in batches[:-1]} <= {5}
        shares += Counter(row for batch in batches for row in rows_of(batch))
    assert shares == wanted


def test_an_epoch_of_eligible_rows_goes_on_after_any_batch(dataset: Path) -> None:
    def both(rank: int = 0, world: int = 1) -> Reader:
        splits = ("train", "validation")
        return reader(dataset, "parquet", rank=rank, world=world, splits=splits, eligible_only=True)

    batches = list(both().epoch(1))
    for position, (_, progress) in enumerate(batches):
        following = Counter(row for batch, _ in batches[position + 1 :] for row in rows_of(batch))
        assert Counter(read(both(), 1, [progress])) == following
        assert sum((Counter(read(both(rank, 2), 1, [progress])) for rank in range(2)), Counter()) == following


def test_all_batches_are_full_but_the_last(dataset: Path, name: str) -> None:
    sizes = [len(batch) for batch, _ in reader(dataset, name).epoch(0)]
    assert sizes == [8] * (sum(ROWS_PER_DAY) // 8) + [sum(ROWS_PER_DAY) % 8]


def test_order_is_a_function_of_seed_and_epoch(dataset: Path, name: str) -> None:
    first = read(reader(dataset, name), 0)
    assert read(reader(dataset, name), 0) == first
    assert read(reader(dataset, name), 1) != first
    assert read(reader(dataset, name, seed=4), 0) != first


def test_more_ranks_than_row_groups(tmp_path: Path, name: str) -> None:
    write_dataset(tmp_path, WIDE, rows_per_day=[2], row_group_rows=1)
    assert sum(len(read(reader(tmp_path, name, rank=rank, world=4))) for rank in range(4)) == 2


def test_a_split_without_rows_has_no_batches(tmp_path: Path, name: str) -> None:
    write_dataset(tmp_path, WIDE, rows_per_day=[0], row_group_rows=1)
    assert read(reader(tmp_path, name)) == []


def test_progress_survives_json(dataset: Path, name: str) -> None:
    for _, progress in reader(dataset, name).epoch(0):
        assert json.loads(json.dumps(progress)) == progress


@pytest.fixture
def fragile(tmp_path: Path) -> tuple[Path, FileEntry]:
    """A dataset of its own, and the entry of its file that a test damages."""
    manifest: Manifest = write_dataset(tmp_path, WIDE, rows_per_day=[5, 200, 5], row_group_rows=100)
    return tmp_path, manifest.select(split="train")[1]


def assert_error_names(file: FileEntry, folder: Path, name: str) -> None:
    with pytest.raises(UserError) as error:
        [read(reader(folder, name, rank=rank, world=2)) for rank in range(2)]
    assert file.path in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(fragile: tuple[Path, FileEntry], name: str) -> None:
    folder, file = fragile
    (folder / file.path).unlink()
    assert_error_names(file, folder, name)


def test_a_truncated_file_is_named(fragile: tuple[Path, FileEntry], name: str) -> None:
    folder, file = fragile
    content = (folder / file.path).read_bytes()
    (folder / file.path).write_bytes(content[: len(content) // 2])
    assert_error_names(file, folder, name)


@pytest.mark.parametrize("column", ["label_units", "dense.list.element"])
def test_one_flipped_bit_is_noticed_and_the_file_named(fragile: tuple[Path, FileEntry], name: str, column: str) -> None:
    folder, file = fragile
    content = bytearray((folder / file.path).read_bytes())
    group = pq.ParquetFile(folder / file.path).metadata.row_group(0)
    chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == column)
    start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
    content[start + chunk.total_compressed_size // 2] ^= 1
    (folder / file.path).write_bytes(bytes(content))
    assert_error_names(file, folder, name)


def test_a_file_that_goes_away_while_it_is_read_is_named(fragile: tuple[Path, FileEntry], name: str) -> None:
    folder, file = fragile
    opened = reader(folder, name)
    (folder / file.path).unlink()
    with pytest.raises(UserError, match=Path(file.path).parent.name):
        read(opened)


def test_pickled_metadata_beside_the_files_does_not_run(tmp_path: Path, name: str) -> None:
    """petastorm keeps a pickle of its own in such a file, and looks for one."""
    folder, trace = tmp_path / "dataset", tmp_path / "trace"
    write_dataset(folder, SPEC, rows_per_day=[9], row_group_rows=6, other_splits={"validation": [3]})
    pickled = {b"dataset-toolkit.unischema.v1": pickle.dumps(Payload(trace))}
    for parent in {path.parent for path in folder.rglob("*.parquet")} | {folder}:
        pq.write_metadata(dataset_schema(SPEC, labels=True).with_metadata(pickled), parent / "_common_metadata")
    source = open_reader(
        str(folder), SPEC, ReaderConfig(name=name), splits=["train"], train=TrainConfig(), rank=0, world=1
    )
    assert sum(len(batch) for batch, _ in source.epoch(0)) == 9
    assert not trace.exists()


@pytest.mark.skipif(HAVE_PETASTORM, reason="petastorm is installed here")
def test_without_petastorm_the_error_says_what_to_install(dataset: Path) -> None:
    with pytest.raises(UserError, match=r"petastorm 0\.12\.1 with pyarrow 14\.0\.2.*make venv-petastorm"):
        reader(dataset, "petastorm")


def test_all_configured_readers_are_registered() -> None:
    assert set(READERS) == {"parquet", "ray_data", "petastorm"}


@pytest.mark.ray
@pytest.mark.usefixtures("_cluster")
def test_ray_data_reads_while_training_workers_hold_every_cpu(dataset: Path) -> None:
    import ray

    def share(rank: int) -> list[Row]:
        return read(reader(dataset, "ray_data", rank=rank, world=2))

    worker = ray.remote(num_cpus=1)(share)
    shares = ray.get([worker.remote(rank) for rank in range(2)], timeout=120)
    assert sum((Counter(rows) for rows in shares), Counter()) == published_rows(dataset)


# What the Parquet reader alone can do: go on in the middle of an epoch.


def test_resuming_after_any_batch_gives_exactly_the_following_rows(dataset: Path) -> None:
    one = reader(dataset, "parquet")
    batches = list(one.epoch(1))
    for position, (_, progress) in enumerate(batches):
        following = [row for batch, _ in batches[position + 1 :] for row in rows_of(batch)]
        assert read(reader(dataset, "parquet"), 1, [json.loads(json.dumps(progress))]) == following


def interrupted(
    folder: Path, world: int, stops: Sequence[int], progress: Sequence[Progress] | None, **sizes: int
) -> tuple[list[Row], list[Progress]]:
    """Every rank reads as many batches as ``stops`` says; the rows read and what a checkpoint then holds."""
    seen: list[Row] = []
    last: list[Progress] = []
    for rank in range(world):
        batches = reader(folder, "parquet", rank=rank, world=world, **sizes).epoch(0, progress)
        reached = None
        for _ in range(stops[rank]):
            batch, reached = next(batches, (None, reached))
            seen += rows_of(batch) if batch is not None else []
        # A rank that has not read anything has nothing to add to what the others say.
        last += [json.loads(json.dumps(reached))] if reached is not None else []
    return seen, last


@given(data=st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_epoch_interrupted_again_and_again_reads_every_row_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever the block sizes, runs of a key, the world size of each attempt and how far each of its ranks came."""
    folder = tmp_path_factory.mktemp("property")
    days = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=4))
    write_dataset(folder, WIDE, rows_per_day=days, row_group_rows=data.draw(st.integers(1, 9)))
    sizes = {"blocks": data.draw(st.integers(1, 5)), "batch_size": data.draw(st.integers(1, 6))}
    sizes["group_rows"] = data.draw(st.integers(1, 4))
    rows: list[Row] = []
    progress: list[Progress] | None = None
    for _ in range(data.draw(st.integers(1, 4))):
        world = data.draw(st.integers(1, 3))
        stops = data.draw(st.lists(st.integers(0, 6), min_size=world, max_size=world))
        seen, reached = interrupted(folder, world, stops, progress, **sizes)
        rows, progress = rows + seen, reached or progress
    rows += interrupted(folder, 1, [10_000], progress, **sizes)[0]
    assert Counter(rows) == published_rows(folder)


def test_what_a_rank_was_told_of_anothers_chunk_does_not_outlive_it(dataset: Path) -> None:
    """Both ranks are in the middle of a chunk at every interruption, and know the other's only from before."""
    rows: list[Row] = []
    progress: list[Progress] | None = None
    for _ in range(3):
        seen, progress = interrupted(dataset, 2, [1, 1], progress, blocks=4, batch_size=2)
        rows += seen
    rows += interrupted(dataset, 1, [10_000], progress, blocks=4, batch_size=2)[0]
    assert Counter(rows) == published_rows(dataset)


def test_progress_of_another_reader_is_refused(dataset: Path) -> None:
    with pytest.raises(UserError, match="begun by another reader"):
        read(reader(dataset, "parquet"), 0, [{"elsewhere": 1}])


def test_a_file_without_labels_is_refused(tmp_path: Path) -> None:
    """A batch takes missing labels for zeros: right for prediction, fatal in training."""
    file = write_dataset(tmp_path, WIDE, rows_per_day=[1], row_group_rows=1).select(split="train")[0]
    bare = random_rows(WIDE, 1, random=np.random.default_rng(0), labels=False)
    opened = reader(tmp_path, "parquet")
    pq.write_table(bare, tmp_path / file.path)
    with pytest.raises(UserError, match="lacks label_days, label_units"):
        read(opened)


# Columns as arrays.


def test_columns_become_arrays_also_from_many_chunks_and_slices() -> None:
    table = random_rows(WIDE, 20, random=np.random.default_rng(0))
    pieces = pa.concat_tables([table.slice(3, 4), table.slice(9, 0), table.slice(11, 2)])
    columns = batch_columns(pieces, WIDE)
    assert set(columns) == set(batch_column_names(WIDE))
    assert columns["behavior_ids"].shape == (6, 2 * WIDE.sequence_length)
    for column, array in columns.items():
        np.testing.assert_array_equal(array, np.array(pieces[column].to_pylist(), array.dtype))


def test_an_empty_table_makes_an_empty_batch() -> None:
    batch = Batch.from_columns(batch_columns(dataset_schema(WIDE, labels=True).empty_table(), WIDE), WIDE)
    assert len(batch) == 0
    assert batch.behavior.shape == (0, WIDE.sequence_length, 2)


def test_lists_of_different_lengths_are_refused() -> None:
    table = pa.table({"dense": pa.array([[1.0], [1.0, 2.0]], pa.list_(pa.float32()))})
    with pytest.raises(UserError, match="dense must have lists of one length, however: 1 to 2"):
        batch_columns(table, WIDE)


def test_null_values_in_a_column_are_refused() -> None:
    table = pa.table({"dense": pa.array([[1.0], None], pa.list_(pa.float32()))})
    with pytest.raises(UserError, match="dense must not be null"):
        batch_columns(table, WIDE)


def test_epoch_seeds_do_not_collide() -> None:
    assert len({epoch_seed(seed, epoch) for seed in range(30) for epoch in range(30)}) == 900


def test_a_folder_without_a_manifest_is_not_a_dataset(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run m2m build first"):
        open_split(str(Folder.at(tmp_path).path), "train")


# Rows of one knowledge key side by side.


@given(
    keys=st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=2), max_size=40),
    run_rows=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_grouped_order_is_a_permutation_in_runs(keys: list[list[int]], run_rows: int, seed: int) -> None:
    array = np.array(keys, np.int64).reshape(-1, 2)
    order = grouped_order(array, run_rows, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(keys)))
    rows = Counter(tuple(keys[row]) for row in order)
    changes = sum(keys[one] != keys[other] for one, other in itertools.pairwise(order))
    if run_rows > 1 and keys:
        assert changes + 1 <= sum(-(-count // run_rows) for count in rows.values())


def test_grouped_batches_hold_fewer_keys_and_any_row_may_come_first() -> None:
    keys = np.repeat(np.arange(20), 16)[:, None]
    firsts = set()
    for seed in range(300):
        order = grouped_order(keys, 8, np.random.default_rng(seed))
        firsts.add(int(order[0]))
        assert len(np.unique(keys[order[:64]])) <= 8
    assert len(firsts) > 150


@pytest.mark.parametrize("world", [1, 3])
def test_grouping_keeps_every_row_once_and_goes_on_after_any_batch(dataset: Path, world: int) -> None:
    def grouped(rank: int) -> Reader:
        return open_reader(
            str(dataset),
            WIDE,
            ReaderConfig(shuffle_blocks=6, group_rows=4),
            splits=["train"],
            train=TrainConfig(seed=3, batch_size=8 * world),
            rank=rank,
            world=world,
        )

    assert sum((Counter(read(grouped(rank))) for rank in range(world)), Counter()) == published_rows(dataset)
    for rank in range(world):
        batches = list(grouped(rank).epoch(1))
        for position, (_, progress) in enumerate(batches):
            following = [row for batch, _ in batches[position + 1 :] for row in rows_of(batch)]
            left = [row for one in range(world) for row in read(grouped(one), 1, [progress])]
            others = [row for one in range(world) if one != rank for row in read(grouped(one), 1)]
            assert Counter(left) == Counter(following) + Counter(others)
            if world == 1:
                assert left == following


@pytest.mark.parametrize("group_rows", [1, 4])
def test_chunks_without_an_eligible_row_are_passed_over(tmp_path: Path, group_rows: int) -> None:
    write_dataset(tmp_path, WIDE, rows_per_day=[1] * 40, row_group_rows=1)
    wanted = published_rows(tmp_path, "train", eligible_only=True)
    assert 0 < sum(wanted.values()) < 40
    found = reader(tmp_path, "parquet", blocks=1, group_rows=group_rows, eligible_only=True)
    assert Counter(read(found)) == wanted


def test_grouping_keeps_row_groups_of_a_day_together(dataset: Path) -> None:
    grouped = open_reader(
        str(dataset),
        WIDE,
        ReaderConfig(shuffle_blocks=2, group_rows=4),
        splits=["train"],
        train=TrainConfig(seed=3, batch_size=8),
        rank=0,
        world=1,
    )
    assert isinstance(grouped, ParquetReader)
    orders = []
    for epoch in range(5):
        days = [block.file.partition["dt"] for chunk in grouped.chunks(epoch) for block in chunk]
        orders.append([day for day, before in zip(days, [None, *days], strict=False) if day != before])
        assert sorted(orders[-1]) == sorted(set(days))
    assert len({tuple(order) for order in orders}) > 1


def test_only_the_parquet_reader_groups(dataset: Path) -> None:
    with pytest.raises(UserError, match=r'group_rows needs reader.name = "parquet"'):
        open_reader(
            str(dataset),
            WIDE,
            ReaderConfig(name="ray_data", group_rows=2),
            splits=["train"],
            train=TrainConfig(),
            rank=0,
            world=1,
        )

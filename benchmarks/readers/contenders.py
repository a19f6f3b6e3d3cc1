"""Everything that is compared: each opens a dataset's train split and yields batches of an epoch, shuffled."""

from collections.abc import Callable, Iterator
from typing import Any

import torch

from m2m_model.batch import Batch
from m2m_model.contracts.spec import DatasetSpec
from training.config import ReaderConfig, TrainConfig
from training.dataset import SplitFiles, batch_column_names, batch_columns, open_split
from training.readers.registry import open_reader

SHUFFLE_BLOCKS = 16


def our_reader(name: str) -> Callable[[str, DatasetSpec, int], Iterator[Batch]]:
    """One of the project's readers, at its defaults."""

    def batches(location: str, spec: DatasetSpec, batch_size: int) -> Iterator[Batch]:
        config = ReaderConfig.model_validate({"name": name, "shuffle_blocks": SHUFFLE_BLOCKS})
        train = TrainConfig(batch_size=batch_size)
        reader = open_reader(location, spec, config, splits=["train"], train=train, rank=0, world=1)
        return (batch for batch, _ in reader.epoch(0))

    return batches


def hf_datasets(location: str, spec: DatasetSpec, batch_size: int) -> Iterator[Batch]:
    """HF ``datasets`` streaming the same Parquet files through a shuffle buffer of as many rows as our chunks hold."""
    files = open_split(location, "train")
    buffered = SHUFFLE_BLOCKS * max(group for file in files.files for group in file.row_groups)
    stream = _hf_stream(files, spec).shuffle(seed=0, buffer_size=buffered).with_format("numpy")
    return (Batch.from_columns(rows, spec) for rows in stream.iter(batch_size))


def hf_datasets_unshuffled(location: str, spec: DatasetSpec, batch_size: int) -> Iterator[Batch]:
    """The same in the files' order, batches as Arrow tables: what its decoding alone costs. No training can use it."""
    stream = _hf_stream(open_split(location, "train"), spec).with_format("arrow")
    return (Batch.from_columns(batch_columns(table, spec), spec) for table in stream.iter(batch_size))


def _hf_stream(files: SplitFiles, spec: DatasetSpec) -> Any:
    import datasets

    paths = [files.folder.join(file.path) for file in files.files if file.rows]
    columns = batch_column_names(spec)
    return datasets.load_dataset("parquet", data_files=paths, split="train", streaming=True, columns=columns)


def in_memory(location: str, spec: DatasetSpec, batch_size: int) -> Iterator[Batch]:
    """All rows as tensors, each epoch a permutation and a gather per batch: the most that a reader could reach."""
    reader = our_reader("parquet")
    rows = Batch.concatenate(list(reader(location, spec, batch_size)))
    yield rows.select(slice(0, 0))  # loading ends here
    random = torch.Generator().manual_seed(0)
    while True:
        for chosen in torch.split(torch.randperm(len(rows), generator=random), batch_size):
            yield rows.select(chosen)


CONTENDERS: dict[str, Callable[[str, DatasetSpec, int], Iterator[Batch]]] = {
    "parquet": our_reader("parquet"),
    "ray_data": our_reader("ray_data"),
    "petastorm": our_reader("petastorm"),
    "hf_datasets": hf_datasets,
    "hf_datasets_unshuffled": hf_datasets_unshuffled,
    "in_memory": in_memory,
}

"""All readers, by name."""

import importlib
from collections.abc import Sequence
from typing import Any

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from training.config import ReaderConfig, TrainConfig
from training.dataset import PAGE_CHECKSUMS, open_split
from training.readers.base import Deal, Reader

READERS = {
    "parquet": ("training.readers.parquet", "ParquetReader"),
    "ray_data": ("training.readers.ray_data", "RayDataReader"),
    "petastorm": ("training.readers.petastorm", "PetastormReader"),
}
"""Imported when chosen: they need different environments."""


def open_reader(
    location: str,
    spec: DatasetSpec,
    config: ReaderConfig,
    *,
    splits: Sequence[str],
    train: TrainConfig,
    rank: int,
    world: int,
    eligible_only: bool = False,
    deal: Deal | None = None,
) -> Reader:
    """Rank ``rank`` of ``world``'s share of one or more splits, mixed, of the dataset published at ``location``.

    ``eligible_only`` passes over rows of pairs that are not eligible. ``deal`` deals chunks of rows to whoever asks;
    only the Parquet reader can, the others' shares are fixed.

    Raises:
        UserError: the reader's library is not installed, or a file is missing, has the wrong size or (where pyarrow
            cannot verify pages while reading) another checksum; or the reader cannot group rows.
    """
    files = open_split(location, *splits)
    if not PAGE_CHECKSUMS and (damage := files.find_damage(files.files[rank::world])):
        raise damage  # nothing would notice later; between them the ranks check every file
    if config.group_rows > 1 and config.name != "parquet":
        raise UserError(f'reader.group_rows needs reader.name = "parquet", however: "{config.name}"')
    module, name = READERS[config.name]
    options: dict[str, Any] = {} if config.name == "petastorm" else {"shuffle_blocks": config.shuffle_blocks}
    if config.name == "parquet":
        options |= {"group_rows": config.group_rows, "deal": deal}
    reader: Reader = getattr(importlib.import_module(module), name)(
        split=files,
        spec=spec,
        batch_size=train.rows_per_worker(world),
        seed=train.seed,
        rank=rank,
        world=world,
        eligible_only=eligible_only,
        **options,
    )
    return reader

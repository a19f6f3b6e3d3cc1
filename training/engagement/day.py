"""A published feature day with the predictions of it, read side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import KEYS
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import FileEntry, Folder, Manifest, damaged_file, first_line, read_manifest
from training.predict import parquet_files, read_spec


@dataclass(frozen=True, kw_only=True)
class PredictedDay:
    features: Folder
    made: Manifest
    predictions: Folder
    scored: Manifest

    @classmethod
    def at(cls, features: str, predictions: str) -> Self:
        """The day at two published folders.

        Raises:
            UserError: the day is not predicted, or predictions and features are not of one another.
        """
        folder, forecasts = Folder.at(features), Folder.at(predictions)
        made = read_manifest(folder, kind="features", build_hint="run jobs/build_dataset.py --date D first")
        scored = read_manifest(forecasts, kind="predictions", build_hint="run jobs/predict.py --date D first")
        if scored.content["features_generation"] != made.generation:
            raise UserError(
                f"{predictions} is of features {scored.content['features_generation']}, the day's are "
                f"{made.generation}: predict the day again"
            )
        return cls(features=folder, made=made, predictions=forecasts, scored=scored)

    def spec(self) -> DatasetSpec:
        return read_spec(self.features, self.made)

    def tables(self, columns: Sequence[str], forecasts: Sequence[str] | None) -> Iterator[tuple[pa.Table, pa.Table]]:
        """File by file, the keys and ``columns`` of features and ``forecasts`` (None: all), with the same rows.

        All rows of an advertiser are in one file.

        Raises:
            UserError: the keys differ, or a file is missing or damaged.
        """
        by_name = {_name(entry): entry for entry in parquet_files(self.scored)}
        for entry in parquet_files(self.made):
            rows = read_rows(self.features, entry, [*KEYS, *columns])
            wanted = None if forecasts is None else [*KEYS, *forecasts]
            predicted = read_rows(self.predictions, by_name[_name(entry)], wanted)
            for key in KEYS:
                if not rows[key].equals(predicted[key]):
                    raise UserError(f"features and predictions of the day differ in {key}: predict the day again")
            yield rows, predicted


def read_rows(folder: Folder, entry: FileEntry, columns: Sequence[str] | None) -> pa.Table:
    """One Parquet file of a published folder, in memory, as it was published.

    Raises:
        UserError: it is missing or damaged.
    """
    hint = "make that day again"
    folder.check_content([entry], hint=hint)
    try:
        with folder.filesystem.open_input_file(folder.join(entry.path)) as stream:
            return pq.read_table(stream, columns=None if columns is None else list(columns)).combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise damaged_file(folder, entry, first_line(error), hint=hint) from None


def _name(entry: FileEntry) -> str:
    return entry.path.rpartition("/")[2]

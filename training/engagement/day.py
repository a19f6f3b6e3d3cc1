"""A published feature day with the predictions of it, read side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import pyarrow as pa

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import KEYS
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Folder, Manifest, read_manifest
from training.published import paired_files, read_rows, read_spec


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
        made = read_manifest(folder, kind="features", build_hint="run m2m build --date D first")
        scored = read_manifest(forecasts, kind="predictions", build_hint="run m2m predict --date D first")
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
        wanted = None if forecasts is None else [*KEYS, *forecasts]
        for made, scored in paired_files(self.made, self.scored):
            rows = read_rows(self.features, made, [*KEYS, *columns])
            predicted = read_rows(self.predictions, scored, wanted)
            for key in KEYS:
                if not rows[key].equals(predicted[key]):
                    raise UserError(f"features and predictions of the day differ in {key}: predict the day again")
            yield rows, predicted

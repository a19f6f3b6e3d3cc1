"""Id histograms that every build publishes, and how far two of them lie apart (population stability index).

``histograms.json`` is a file of each generation, and lies beside a dataset's ``spec.json`` so that a day built with
that spec finds what training saw. It is no part of the feature fingerprint: it says what was there, not what a row
means.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow.fs as pafs
from pydantic import ValidationError

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import Folder, beside, read_text

HISTOGRAMS = "histograms.json"
NEWEST_DAYS = 7
"""Days of a sequence that are counted, the newest ones: a whole week, so that the weekly rhythm is no drift, and no
more, so that what changed in this week is not hidden behind the weeks before it."""
MODERATE, LARGE = 0.1, 0.25
"""The customary bounds: below the first nothing happened, above the second a model should not be trusted unseen."""


class Histograms(StrictConfig):
    """Eligible rows per id of every feature, by split; the split of a feature day is ``features``."""

    feature_fingerprint: str
    newest_days: int
    splits: dict[str, dict[str, tuple[int, ...]]]
    """By split, then by feature (see :func:`feature_sizes`)."""

    @classmethod
    def from_json(cls, text: bytes | str, *, source: str, spec: DatasetSpec) -> Self:
        """Parse, and check that they are of the spec's features.

        Raises:
            UserError: no histograms, damaged ones, or those of other features.
        """
        try:
            histograms = cls.model_validate_json(text)
        except ValidationError as error:
            raise UserError(f"{source} holds no id histograms ({error.error_count()} problems): rebuild it") from None
        sizes = feature_sizes(spec)
        if histograms.feature_fingerprint != spec.feature_fingerprint:
            raise UserError(
                f"{source} is of features {histograms.feature_fingerprint}, the spec has {spec.feature_fingerprint}: "
                "keep the two files of one dataset together"
            )
        for counts in histograms.splits.values():
            if {name: len(values) for name, values in counts.items()} != sizes:
                raise UserError(f"{source} does not count the ids of the spec's features: rebuild the dataset")
        return histograms

    def drift(self, trained_on: Self | None = None) -> dict[str, dict[str, float]]:
        """PSI of every feature between training and each other split, worst first.

        ``trained_on``: histograms of a dataset, whose split ``train`` is compared with; default: this dataset's own.
        """
        training = (trained_on or self).splits.get("train")
        if training is None:
            return {}
        found = {}
        for split, counts in self.splits.items():
            if split != "train":
                psi = {name: round(population_stability_index(training[name], counts[name]), 4) for name in training}
                found[split] = dict(sorted(psi.items(), key=lambda item: (-item[1], item[0])))
        return found

    @classmethod
    def beside(cls, spec_location: str | Path, spec: DatasetSpec) -> Self | None:
        """Those published with the spec at a path or URI; None if the file is not there."""
        location = beside(spec_location, HISTOGRAMS)
        file = Folder.at(location)
        if file.filesystem.get_file_info(file.path).type != pafs.FileType.File:
            return None
        return cls.from_json(read_text(location, hint="rebuild the dataset"), source=location, spec=spec)


def feature_sizes(spec: DatasetSpec) -> dict[str, int]:
    """Number of ids of every feature, named ``behavior.bids@feed``, ``profile.tier``, ``scenario.weekday``."""
    groups = {
        "behavior": spec.behavior,
        "performance": spec.performance,
        "profile": spec.profile,
        "scenario": spec.scenario_attributes,
    }
    return {f"{group}.{feature.name}": feature.size for group, features in groups.items() for feature in features}


def population_stability_index(expected: Sequence[int], actual: Sequence[int]) -> float:
    """sum over ids of (q - p) ln(q / p), the symmetrised Kullback-Leibler divergence of two histograms of counts.

    Half a row is added to every id of both, p_i = (n_i + 1/2) / (n + B/2) over B ids, so that an id that one of them
    lacks counts as rare and not as infinitely far. NaN if one of them is empty.

    Example:
        >>> round(population_stability_index([50, 50], [90, 10]), 2)
        0.85
    """
    if not sum(expected) or not sum(actual):
        return float("nan")
    p, q = (np.asarray(counts, dtype=np.float64) + 0.5 for counts in (expected, actual))
    p, q = p / p.sum(), q / q.sum()
    return float(((q - p) * np.log(q / p)).sum())


def index_by_chance(expected: Sequence[int], actual: Sequence[int]) -> float:
    """About what the index of n and m independent rows over the same B ids comes to: (B - 1) (1/n + 1/m).

    Example:
        >>> round(index_by_chance([25, 25, 25, 25, 0], [4, 4, 4, 4, 4]), 2)
        0.24
    """
    return (len(actual) - 1) * (1 / max(sum(expected), 1) + 1 / max(sum(actual), 1))

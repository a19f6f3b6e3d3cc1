"""What a task counts while it writes rows: id histograms of eligible rows by split, and how many rows share a key.

A *key* is what the generated weights of a sample are a function of: its scenario attribute ids and profile ids.
"""

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import pyarrow as pa

from m2m_model.contracts.drift import NEWEST_DAYS, Histograms, feature_sizes
from m2m_model.contracts.spec import DatasetSpec

LARGEST_SAMPLE = 1 << 15
"""Distinct keys that are counted; above, a sample of the keys is (exactly counted each), and the rest is estimated."""
BATCH = 256


@dataclass
class KeyCounts:
    """Rows per distinct key, over all keys whose hash begins with ``level`` zero bits."""

    level: int = 0
    rows: int = 0
    hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, keys: np.ndarray) -> None:
        """Count rows [N, ids]."""
        hashes, counts = np.unique(_row_hashes(keys), return_counts=True)
        self.merge(KeyCounts(rows=len(keys), hashes=hashes, counts=counts))

    def merge(self, other: "KeyCounts") -> None:
        self.rows += other.rows
        self.level = max(self.level, other.level)
        hashes = np.concatenate([self.hashes, other.hashes])
        counts = np.concatenate([self.counts, other.counts])
        self.hashes, position = np.unique(hashes, return_inverse=True)
        self.counts = np.bincount(position, counts, minlength=len(self.hashes)).astype(np.int64)
        self._thin()
        while len(self.hashes) > LARGEST_SAMPLE:
            self.level += 1
            self._thin()

    def _thin(self) -> None:
        if self.level:
            kept = self.hashes < np.uint64(1 << (64 - self.level))
            self.hashes, self.counts = self.hashes[kept], self.counts[kept]

    def summary(self) -> dict[str, Any]:
        """For the manifest: distinct keys, keys by rows per key in powers of two, distinct keys in a random batch.

        A batch's rows are taken as drawn with replacement: sum over keys of 1 - (1 - n_k / n)^256.
        """
        weight = 1 << self.level
        powers = np.frexp(self.counts)[1] - 1
        expected = (1.0 - (1.0 - self.counts / max(self.rows, 1)) ** BATCH).sum()
        return {
            "rows": self.rows,
            "distinct_keys": len(self.hashes) * weight,
            "exact": self.level == 0,
            "keys_by_rows": {
                str(1 << power): int(keys) * weight for power, keys in enumerate(np.bincount(powers)) if keys
            },
            f"expected_distinct_in_{BATCH}": round(min(float(expected) * weight, BATCH), 2),
        }


class Statistics:
    """Id histograms and key counts of the rows that one task wrote, or of all tasks merged."""

    def __init__(self, spec: DatasetSpec) -> None:
        self._spec, self._sizes = spec, feature_sizes(spec)
        self._splits: dict[str, np.ndarray] = {}
        self.keys = KeyCounts()

    def add(self, split: str, rows: pa.RecordBatch) -> None:
        """Count dataset rows of one split.

        Histograms are of eligible rows alone: of others, whose own sequences are empty, splits have other shares, which
        would be taken for drift.
        """
        spec, eligible = self._spec, rows["eligible"].to_numpy(zero_copy_only=False)
        days = min(NEWEST_DAYS, spec.sequence_length)
        sequences = []
        for name in ("behavior", "performance"):
            width = len(spec.sequence(name))
            ids = _matrix(rows[f"{name}_ids"], spec.sequence_length * width)[eligible]
            sequences.append(ids[:, (spec.sequence_length - days) * width :].reshape(len(ids) * days, width))
        profile = _matrix(rows["profile_ids"], len(spec.profile))
        attributes = _matrix(rows["attribute_ids"], len(spec.scenario_attributes))
        self._counts(split)[:] += self._count((*sequences, profile[eligible], attributes[eligible]))
        if split == "train":
            self.keys.add(np.concatenate([attributes, profile], axis=1))

    def histograms(self) -> Histograms:
        ends = np.cumsum(list(self._sizes.values()))[:-1]
        return Histograms(
            feature_fingerprint=self._spec.feature_fingerprint,
            newest_days=NEWEST_DAYS,
            splits={
                split: {
                    name: tuple(part.tolist()) for name, part in zip(self._sizes, np.split(counts, ends), strict=True)
                }
                for split, counts in self._splits.items()
            },
        )

    def to_json(self) -> str:
        return json.dumps(
            {
                "splits": {split: counts.tolist() for split, counts in self._splits.items()},
                "level": self.keys.level,
                "rows": self.keys.rows,
                "hashes": base64.b64encode(self.keys.hashes.tobytes()).decode(),
                "counts": base64.b64encode(self.keys.counts.tobytes()).decode(),
            }
        )

    @classmethod
    def merged(cls, spec: DatasetSpec, parts: Iterable[str]) -> Self:
        """The statistics of all tasks, each as :meth:`to_json` gave it."""
        statistics = cls(spec)
        for part in map(json.loads, parts):
            for split, counts in part["splits"].items():
                statistics._counts(split)[:] += np.array(counts, np.int64)
            statistics.keys.merge(
                KeyCounts(
                    level=part["level"],
                    rows=part["rows"],
                    hashes=np.frombuffer(base64.b64decode(part["hashes"]), np.uint64),
                    counts=np.frombuffer(base64.b64decode(part["counts"]), np.int64),
                )
            )
        return statistics

    def _counts(self, split: str) -> np.ndarray:
        return self._splits.setdefault(split, np.zeros(sum(self._sizes.values()), np.int64))

    def _count(self, groups: Iterable[np.ndarray]) -> np.ndarray:
        """Counts of all ids, feature after feature; ``groups``: ids [n, features], in the order of the sizes."""
        sizes = list(self._sizes.values())
        counts, first = [], 0
        for ids in groups:
            own = sizes[first : first + ids.shape[1]]
            first += ids.shape[1]
            if own:
                offsets = np.cumsum([0, *own[:-1]])
                counts.append(np.bincount((ids + offsets).ravel(), minlength=sum(own)))
        return np.concatenate([np.zeros(0, np.int64), *counts])


def _matrix(column: pa.ListArray, width: int) -> np.ndarray:
    """Ids [rows, width] of a list column whose lists have one length."""
    ids: np.ndarray = column.flatten().to_numpy().reshape(len(column), width)
    return ids


def _row_hashes(rows: np.ndarray) -> np.ndarray:
    """A 64-bit hash of every row of [N, ids], every bit of which depends on every id (the splitmix64 finaliser)."""
    hashes = np.full(len(rows), 0x9E3779B97F4A7C15, np.uint64)
    for position in range(rows.shape[1]):
        hashes ^= rows[:, position].astype(np.uint64)
        hashes += np.uint64(0x9E3779B97F4A7C15)
        hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashes ^= hashes >> np.uint64(31)
    return hashes

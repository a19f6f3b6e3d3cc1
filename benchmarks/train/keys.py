"""Which knowledge keys the rows of a batch have: so many, as a random draw has them, or as our sampler deals them."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.train.world import BATCH_ROWS
from training.readers.grouping import grouped_order

HISTOGRAMS = {name: Path(__file__).with_name(f"{name}_keys.json") for name in ("real", "synthetic")}
"""Keys of a day's training rows by their number of rows (:mod:`benchmarks.train.histogram`): of the demo's, and of the
synthetic platform's with 30,000 advertisers (jobs/configs/complete_journey.toml and synthetic.toml)."""
CHUNK_ROWS, RUN_ROWS = 262_144, 16
"""The sampler's: rows held in memory (about 250 MB at the paper's sizes), longest run of a key."""


def batches(source: str, *, rows: int = BATCH_ROWS, seed: int) -> Iterator[np.ndarray]:
    """Keys [rows] of one batch after another.

    ``source``: a number of distinct keys, each with equally many rows; or one of HISTOGRAMS for rows drawn at random,
    with ``_grouped`` behind it as our sampler deals them out of a chunk of whole days.
    """
    random = np.random.default_rng(seed)
    name, _, grouped = source.partition("_")
    while True:
        if name.isdigit():
            yield np.arange(rows) % int(name)
        elif not grouped:
            yield random.choice(_keys_of_rows(name), rows, replace=False)
        else:
            # A key's rows are of one day, so a chunk of days has all of them.
            keys = _keys_of_rows(name)
            chunk = keys[np.argsort(random.permutation(keys[-1] + 1)[keys], kind="stable")][:CHUNK_ROWS]
            dealt = chunk[grouped_order(chunk[:, None], RUN_ROWS, random)]
            starts = random.permutation(len(dealt) // rows)[:16] * rows
            yield from (dealt[start : start + rows] for start in starts)


@cache
def _keys_of_rows(name: str) -> np.ndarray:
    """The key of every training row of a dataset."""
    histogram = json.loads(HISTOGRAMS[name].read_text())["keys_by_rows"]
    rows = np.repeat([int(size) for size in histogram], list(histogram.values()))
    return np.repeat(np.arange(len(rows)), rows)

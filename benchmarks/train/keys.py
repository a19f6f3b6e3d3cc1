"""Which knowledge keys the rows of a batch have: so many, as a random draw has them, or as our sampler deals them."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.train.world import BATCH_ROWS
from training.readers.grouping import grouped_order

HISTOGRAM = Path(__file__).with_name("complete_journey_keys.json")
"""Keys of the demo's training rows (jobs/configs/complete_journey.toml) by their number of rows."""
ZIPF_KEYS = 18_000
CHUNK_ROWS, RUN_ROWS = 262_144, 16
"""The sampler's: rows held in memory (about 250 MB at the paper's sizes), longest run of a key."""


def batches(source: str, *, seed: int) -> Iterator[np.ndarray]:
    """Keys [256] of one batch after another.

    ``source``: a number of distinct keys, each with equally many rows; or ``zipf`` or ``real`` for independent draws,
    with ``_grouped`` behind it as our sampler deals them out of a chunk of such draws.
    """
    random = np.random.default_rng(seed)
    name, _, grouped = source.partition("_")
    while True:
        if name.isdigit():
            yield np.arange(BATCH_ROWS) % int(name)
        elif not grouped:
            yield _draw(name, BATCH_ROWS, random)
        else:
            chunk = _draw(name, CHUNK_ROWS, random)
            dealt = chunk[grouped_order(chunk[:, None], RUN_ROWS, random)]
            starts = random.permutation(len(dealt) // BATCH_ROWS)[:16] * BATCH_ROWS
            yield from (dealt[start : start + BATCH_ROWS] for start in starts)


def _draw(name: str, rows: int, random: np.random.Generator) -> np.ndarray:
    """Keys of independent rows: Zipf over 18,000 keys, or as often as the real data has them."""
    if name == "zipf":
        shares = 1 / np.arange(1, ZIPF_KEYS + 1)
    else:
        histogram = json.loads(HISTOGRAM.read_text())["keys_by_rows"]
        shares = np.repeat([int(size) for size in histogram], list(histogram.values())).astype(float)
    return random.choice(len(shares), size=rows, p=shares / shares.sum())

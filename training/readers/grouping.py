"""An order of rows in which knowledge keys repeat, so that a batch generates few weight matrices.

Letters: N rows, C id columns of a key.
"""

import numpy as np
from jaxtyping import Int

KEY_COLUMNS = ("scenario_index", "attribute_ids", "profile_ids")
"""What scenario knowledge is made of (eq. 8): rows with equal ids here have equal generated weights."""


def grouped_order(keys: Int[np.ndarray, "N C"], run_rows: int, random: np.random.Generator) -> Int[np.ndarray, "N"]:
    """A random permutation of N rows made of runs: at most ``run_rows`` rows of one key, then a run of any other.

    Which of a key's rows share a run, and the order of runs, are random, so every row is as likely to come early as
    late and a batch is an unbiased draw; but its rows resemble each other more than independent ones, so the gradient
    of a step varies more. ``run_rows = 1`` is a plain shuffle.
    """
    shuffled = random.permutation(len(keys))
    if run_rows == 1:
        return shuffled
    key = np.unique(keys[shuffled], axis=0, return_inverse=True)[1].reshape(-1)
    by_key = np.argsort(key, kind="stable")
    first = np.flatnonzero(np.diff(key[by_key], prepend=-1))
    position = np.arange(len(keys)) - np.repeat(first, np.diff(first, append=len(keys)))
    run = np.cumsum(position % run_rows == 0) - 1
    place = random.permutation(run[-1] + 1 if len(run) else 0)[run]
    return shuffled[by_key[np.argsort(place, kind="stable")]]


def knowledge_keys(columns: dict[str, np.ndarray]) -> Int[np.ndarray, "N C"]:
    """The rows' keys, from the batch columns."""
    return np.column_stack([columns[name] for name in KEY_COLUMNS])

"""Advertisers in groups that are resampled whole: rows of one advertiser are no independent draws.

Letters: N rows.
"""

import hashlib
from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Int

GROUPS = 48
"""Advertisers are resampled in this many groups, drawn by a hash of their ids: the same in every cell of a study."""
LEFT_OUT = GROUPS
"""One group more: the advertisers that ``evaluation.leave_out`` names, so that results can be told without them."""


def advertiser_groups(advertisers: Sequence[object], leave_out: Collection[str] = ()) -> Int[np.ndarray, "N"]:
    """Group of each advertiser: LEFT_OUT for those of ``leave_out``, else 0 .. GROUPS - 1 by a stable hash."""
    known: dict[object, int] = {}
    for advertiser in advertisers:
        if advertiser not in known:
            digest = hashlib.blake2b(str(advertiser).encode(), digest_size=8).digest()
            hashed = int.from_bytes(digest, "big") % GROUPS
            known[advertiser] = LEFT_OUT if str(advertiser) in leave_out else hashed
    return np.array([known[advertiser] for advertiser in advertisers], np.int64)

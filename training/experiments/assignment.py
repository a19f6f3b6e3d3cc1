"""Who is in which arm: dealt by a stable hash within strata, once, and never moved afterwards.

The unit is the advertiser, in all scenarios together: what it does in one of them spills over into the others.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int
from scipy import stats

from m2m_model.contracts.errors import UserError
from training.experiments.config import Arm

SCHEMA = pa.schema(
    [
        pa.field("advertiser_id", pa.string(), nullable=False),
        pa.field("stratum", pa.string(), nullable=False),
        pa.field("arm", pa.string(), nullable=False),
    ]
)


def position(salt: str, advertiser: str) -> float:
    """A number in [0, 1) that depends on the experiment's salt and the advertiser alone.

    Example:
        >>> position("spring", "17") == position("spring", "17") != position("summer", "17")
        True
    """
    digest = hashlib.blake2b(f"{salt}\x1f{advertiser}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def enrol(
    enrolled: pa.Table, advertisers: Sequence[str], strata: Sequence[str], *, salt: str, arms: Sequence[Arm]
) -> pa.Table:
    """The assignment with newcomers added; who is in it already keeps its arm, whatever its stratum is now.

    Within a stratum newcomers are dealt to arms in the order of their hash, so that every stratum is balanced to within
    one round of dealing; where the round starts depends on the stratum's hash, so that small strata do not all favour
    the first arm.

    Args:
        enrolled: :data:`SCHEMA`, empty at the start.

    Raises:
        UserError: an advertiser comes twice, or fewer than two arms.
    """
    if len(arms) < 2 or len({arm.name for arm in arms}) != len(arms):
        raise UserError(f"an experiment needs two or more arms of different names, however: {[a.name for a in arms]}")
    if len(set(advertisers)) != len(advertisers):
        raise UserError("an experiment's units are advertisers, however: some come more than once; enrol each once")
    known = set(enrolled["advertiser_id"].to_pylist())
    groups: dict[str, list[str]] = {}
    for advertiser, stratum in zip(advertisers, strata, strict=True):
        if advertiser not in known:
            groups.setdefault(stratum, []).append(advertiser)
    round_of_dealing = [arm.name for arm in arms for _ in range(arm.share)]
    rows = []
    for stratum, members in sorted(groups.items()):
        already = pc.sum(pc.equal(enrolled["stratum"], stratum)).as_py() or 0
        start = int(position(salt, f"stratum {stratum}") * len(round_of_dealing)) + already
        for number, advertiser in enumerate(sorted(members, key=lambda member: position(salt, member))):
            arm = round_of_dealing[(start + number) % len(round_of_dealing)]
            rows.append({"advertiser_id": advertiser, "stratum": stratum, "arm": arm})
    return pa.concat_tables([enrolled, pa.Table.from_pylist(rows, schema=SCHEMA)])


def sample_ratio_p(counts: Int[np.ndarray, "A"], shares: Float[np.ndarray, "A"]) -> float:
    """p-value of the chi-square test that units arrived in the arms in the planned shares.

    Below 0.001 something between assignment and analysis lost units of one arm: mend that before reading any effect.
    """
    expected = counts.sum() * shares / shares.sum()
    return float(stats.chisquare(counts, expected).pvalue)


def lost_units_p(enrolled: Int[np.ndarray, "A"], read: Int[np.ndarray, "A"]) -> float:
    """p-value of Fisher's exact test that units are lost as often in every arm; 1 where none is. Simulated, and so at
    least .0001, where there are more than two arms.

    Arms are dealt even, within strata, so that how many of each arm's units came through tells far more than whether
    those who did are in the planned shares: of twice 10,000, 400 lost in one arm are within the chance that arms dealt
    by coins would have.
    """
    table = np.stack([read, enrolled - read])[:, enrolled > 0]
    if not table.any(axis=1).all() or table.shape[1] < 2:
        return 1.0
    method = stats.MonteCarloMethod(rng=np.random.default_rng(0)) if table.shape[1] > 2 else None
    return float(stats.fisher_exact(table, method=method).pvalue)

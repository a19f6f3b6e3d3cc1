"""Arms: balanced in every stratum, the same in every rerun, never moved."""

import numpy as np
import pytest

from m2m_model.contracts.errors import UserError
from training.experiments.assignment import SCHEMA, enrol, lost_units_p, sample_ratio_p
from training.experiments.config import Arm

ARMS = (Arm(name="treatment"), Arm(name="control"))
NOBODY = SCHEMA.empty_table()
IDS = [str(number) for number in range(1000)]
STRATA = [f"s{int(number) % 7}" for number in IDS]


def arms_of(table) -> dict[str, str]:  # type: ignore[no-untyped-def]
    return dict(zip(table["advertiser_id"].to_pylist(), table["arm"].to_pylist(), strict=True))


def test_every_stratum_is_balanced() -> None:
    table = enrol(NOBODY, IDS, STRATA, salt="spring", arms=ARMS)
    for stratum in set(STRATA):
        members = [
            arm for arm, s in zip(table["arm"].to_pylist(), table["stratum"].to_pylist(), strict=True) if s == stratum
        ]
        assert abs(members.count("treatment") - members.count("control")) <= 1


def test_shares() -> None:
    table = enrol(NOBODY, IDS, ["all"] * 1000, salt="spring", arms=(Arm(name="a", share=9), Arm(name="b")))
    assert table["arm"].to_pylist().count("b") == 100


def test_order_does_not_matter_and_the_salt_does() -> None:
    once = arms_of(enrol(NOBODY, IDS, STRATA, salt="spring", arms=ARMS))
    turned = arms_of(enrol(NOBODY, IDS[::-1], STRATA[::-1], salt="spring", arms=ARMS))
    other = arms_of(enrol(NOBODY, IDS, STRATA, salt="summer", arms=ARMS))
    assert once == turned
    assert 0.4 < np.mean([once[i] == other[i] for i in IDS]) < 0.6


def test_who_is_enrolled_keeps_its_arm() -> None:
    first = enrol(NOBODY, IDS[:500], STRATA[:500], salt="spring", arms=ARMS)
    later = enrol(first, IDS, ["moved"] * 1000, salt="spring", arms=ARMS)
    assert len(later) == 1000
    before, after = arms_of(first), arms_of(later)
    assert {i: after[i] for i in before} == before


def test_doubles_and_single_arms_are_refused() -> None:
    with pytest.raises(UserError, match="some come more than once"):
        enrol(NOBODY, ["1", "1"], ["a", "a"], salt="s", arms=ARMS)
    with pytest.raises(UserError, match="two or more arms"):
        enrol(NOBODY, ["1"], ["a"], salt="s", arms=ARMS[:1])


def test_a_lost_part_of_an_arm_shows() -> None:
    shares = np.array([1.0, 1.0])
    assert sample_ratio_p(np.array([5000, 5020]), shares) > 0.5
    assert sample_ratio_p(np.array([5000, 4500]), shares) < 0.001


def test_units_lost_in_one_arm_alone_are_seen() -> None:
    dealt = np.array([10_000, 10_000])
    assert sample_ratio_p(read := dealt - [0, 400], np.ones(2)) > 0.001
    assert lost_units_p(dealt, read) < 1e-100
    assert lost_units_p(dealt, dealt - [190, 200]) > 0.5
    assert lost_units_p(dealt, dealt) == lost_units_p(dealt, 0 * dealt) == 1.0
    assert lost_units_p(np.array([500, 500, 500]), np.array([500, 460, 500])) < 0.001


def test_one_unit_lost_of_a_small_arm_is_no_alarm() -> None:
    """Expected losses are too few for a chi-square."""
    assert lost_units_p(np.array([4950, 4950, 100]), np.array([4950, 4950, 99])) > 0.005
    assert lost_units_p(np.array([5, 0, 5]), np.array([4, 0, 5])) == 1.0

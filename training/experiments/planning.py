"""Before an experiment: what it could find, as far as the past of its units tells.

The week before a unit came in is read as if it were the outcome: the same arms, strata and estimator. Its standard
error says what effect could be found; its difference, of a time when nothing was done, is one that chance alone made.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from training.experiments.assignment import lost_units_p, sample_ratio_p
from training.experiments.config import ExperimentConfig
from training.experiments.effects import LEAST_UNITS, Effect, effect
from training.experiments.power import detectable_effect

MEASURES = {"active rate": "active", "ARPU": "spend"}
"""What people read, and how its columns begin."""
LEAST_RATIO_P = 0.001
"""Below it the arms did not get the planned shares, or lost units since: no effect is read."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one arm's comparison with the first could find in a measure, with a chance of 80 %."""

    measure: str
    arm: str
    detectable: float
    detectable_adjusted: float | None
    """With CUPED, as far as the week before last explains the last; None where history has one week."""
    last_week: Effect
    """Difference before anything was done."""


def plans(assignment: pa.Table, experiment: ExperimentConfig) -> Iterator[Plan]:
    """Nothing of an arm with fewer than two units."""
    for arm, table, treated in comparisons(assignment, experiment):
        if min(treated.sum(), (~treated).sum()) < LEAST_UNITS:
            continue
        strata = np.array(table["stratum"].to_pylist())
        for measure, prefix in MEASURES.items():
            last = table[f"{prefix}_last"].to_numpy()
            before = None if table[f"{prefix}_before"].null_count else table[f"{prefix}_before"].to_numpy()
            plain = effect(last, treated, strata)
            adjusted = None if before is None else effect(last, treated, strata, covariates=before[:, None])
            yield Plan(
                measure=measure,
                arm=arm,
                detectable=_detectable(plain, treated),
                detectable_adjusted=None if adjusted is None else _detectable(adjusted, treated),
                last_week=plain,
            )


def comparisons(table: pa.Table, experiment: ExperimentConfig) -> Iterator[tuple[str, pa.Table, np.ndarray]]:
    """Each arm but the first: its name, the units of both, and which of them are its own."""
    arms = np.array(table["arm"].to_pylist(), dtype=str)
    for arm in experiment.arms[1:]:
        both = (arms == arm.name) | (arms == experiment.control.name)
        yield arm.name, table.filter(pa.array(both)), arms[both] == arm.name


def ratio_p(units: dict[str, int], experiment: ExperimentConfig) -> float:
    """p-value of the sample ratio, of units by arm; 1 without units."""
    if not sum(units.values()):
        return 1.0
    counts = np.array([units[arm.name] for arm in experiment.arms])
    return sample_ratio_p(counts, np.array([float(arm.share) for arm in experiment.arms]))


def lost_p(enrolled: dict[str, int], read: dict[str, int], experiment: ExperimentConfig) -> float:
    """p-value of units lost by arm, see :func:`lost_units_p`."""
    names = [arm.name for arm in experiment.arms]
    return lost_units_p(*(np.array([units[name] for name in names]) for units in (enrolled, read)))


def _detectable(found: Effect, treated: np.ndarray) -> float:
    share = float(treated.mean())
    deviation = found.standard_error * math.sqrt(found.units * share * (1 - share))
    return detectable_effect(deviation=deviation, units=found.units, treated_share=share)

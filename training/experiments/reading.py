"""What an experiment found, from the matured labels of the days that enrolled.

A unit's outcome is over the horizon after the day it came in: whoever came in has a row in that day's labels, whatever
it did since, so that nobody leaves the comparison because of the treatment. Letters: U units, P pairs of all units.
"""

import datetime
import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import MANIFEST, Folder, below, read_manifest
from training.experiments.config import ExperimentConfig
from training.experiments.effects import Effect, effect
from training.experiments.enrolment import counts
from training.experiments.planning import LEAST_RATIO_P, MEASURES, comparisons, lost_p, ratio_p
from training.published import parquet_files, read_rows, read_spec

LABELS_HINT = "run m2m build --labels D"
SEPARATOR = "\x1f"


class Found(StrictConfig):
    """An effect with its 95 % interval, in the measure's unit."""

    difference: float
    low: float
    high: float
    relative: float | None
    """Over the first arm's mean; None where that is 0."""
    variance_reduction: float
    """Share of the variance that the covariates took out."""


class Comparison(StrictConfig):
    """One arm less the first, in one measure."""

    measure: str
    arm: str
    control_mean: float
    arm_mean: float
    plain: Found
    adjusted: Found
    """With CUPED: one model's forecast as of the day that enrolled, and the actual value of the week before."""


class Reading(StrictConfig):
    name: str
    design: str
    created_at: str
    control: str
    days: tuple[datetime.date, ...]
    """Days that enrolled somebody and have matured."""
    pending: tuple[datetime.date, ...]
    """Days that enrolled somebody and have no labels yet."""
    is_complete: bool
    """Whether the experiment's last day has matured, and with it all others."""
    enrolled: dict[str, int]
    """Units by arm, of the days that matured."""
    read: dict[str, int]
    """Those of them that have labels."""
    ratio_p: float
    """p-value of the planned shares, by units read."""
    lost_p: float
    """p-value of units without labels being as frequent in every arm."""
    refused: str = ""
    """Why no effect is shown."""
    comparisons: tuple[Comparison, ...] = ()


def read_experiment(name: str, experiment: ExperimentConfig, assignment: pa.Table, *, labels: str) -> Reading:
    """Compare the arms over the days that have matured.

    Args:
        labels: folder of the matured days, ``<labels>/dt=D``.

    Raises:
        UserError: no day has matured, or an arm has fewer than two units.
    """
    days = sorted(set(assignment["enrolled"].to_pylist()))
    matured = [day for day in days if Folder.at(below(labels, f"dt={day}")).exists(MANIFEST)]
    if not matured:
        raise UserError(f"no day of experiments.{name} has matured: {labels} has none of {days[0]} ..; {LABELS_HINT}")
    parts = []
    for day in matured:
        of_day = assignment.filter(pc.equal(assignment["enrolled"], pa.scalar(day, pa.date32())))
        parts.append(_with_outcomes(of_day, below(labels, f"dt={day}"), experiment))
    units = pa.concat_tables(parts)
    seen = units.filter(pc.is_valid(units["active"]))
    enrolled, read = counts(units, experiment), counts(seen, experiment)
    of_sizes, of_losses = ratio_p(read, experiment), lost_p(enrolled, read, experiment)
    refused = ""
    if (p := min(of_sizes, of_losses)) < LEAST_RATIO_P:
        lost = ", ".join(f"{arm} {enrolled[arm] - number:,} of {enrolled[arm]:,}" for arm, number in read.items())
        refused = (
            f"the arms did not come through alike (p = {p:.2g}; without labels: {lost}): what lost units of one arm "
            "would pass for an effect. Find it before reading anything"
        )
    return Reading(
        name=name,
        design=experiment.design,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        control=experiment.control.name,
        days=tuple(matured),
        pending=tuple(day for day in days if day not in matured),
        is_complete=matured == days and Folder.at(below(labels, f"dt={experiment.last}")).exists(MANIFEST),
        enrolled=enrolled,
        read=read,
        ratio_p=of_sizes,
        lost_p=of_losses,
        refused=refused,
        comparisons=() if refused else tuple(_compare(seen, experiment)),
    )


def _compare(units: pa.Table, experiment: ExperimentConfig) -> list[Comparison]:
    found = []
    for arm, table, treated in comparisons(units, experiment):
        strata = np.array(table["stratum"].to_pylist())
        for measure, prefix in MEASURES.items():
            outcome = table[prefix].to_numpy()
            covariates = np.stack([table[f"{prefix}_{when}"].to_numpy() for when in ("forecast", "last")], axis=1)
            plain = effect(outcome, treated, strata)
            found.append(
                Comparison(
                    measure=measure,
                    arm=arm,
                    control_mean=plain.control_mean,
                    arm_mean=float(outcome[treated].mean()),
                    plain=_found(plain),
                    adjusted=_found(effect(outcome, treated, strata, covariates=covariates)),
                )
            )
    return found


def _found(of: Effect) -> Found:
    return Found(
        difference=of.difference,
        low=of.low,
        high=of.high,
        relative=of.relative if math.isfinite(of.relative) else None,
        variance_reduction=of.variance_reduction,
    )


def _with_outcomes(units: pa.Table, location: str, experiment: ExperimentConfig) -> pa.Table:
    """[U]: with ``active``, the share of days over the unit's pairs, and ``spend``, capped; null where labels lack."""
    folder = Folder.at(location)
    manifest = read_manifest(folder, kind="labels", build_hint=LABELS_HINT)
    spec = read_spec(folder, manifest)
    labels = {"active": f"label_{experiment.active}", "spend": f"label_{experiment.spend}"}
    if missing := [name for name in (experiment.active, experiment.spend) if name not in spec.task_names]:
        raise UserError(f"{location} must have labels of {missing[0]!r}, however: of {list(spec.task_names)}")
    columns = ["advertiser_id", "scenario_id", *dict.fromkeys(labels.values())]
    parts = []
    for entry in parquet_files(manifest):
        rows = read_rows(folder, entry, columns)
        advertisers = rows["advertiser_id"].cast(pa.string())
        keep = pc.is_in(advertisers, value_set=units["advertiser_id"])
        parts.append(rows.set_column(0, "advertiser_id", advertisers).filter(keep))
    rows = pa.concat_tables(parts).combine_chunks()
    parents = pc.list_parent_indices(units["pairs"].combine_chunks())
    asked = _keys(units["advertiser_id"].combine_chunks().take(parents), pc.list_flatten(units["pairs"]))
    place = pc.index_in(asked, value_set=_keys(rows["advertiser_id"], rows["scenario_id"]))
    days = rows[labels["active"]].take(place).to_numpy().astype(float)  # NaN where there is no such pair
    pairs = pc.list_value_length(units["pairs"]).to_numpy()
    active = np.bincount(parents.to_numpy(), days, minlength=len(units)) / (spec.horizon * pairs)
    owners = pc.index_in(rows["advertiser_id"], value_set=units["advertiser_id"]).to_numpy()
    spend = np.bincount(owners, rows[labels["spend"]].to_numpy(), minlength=len(units))
    lost = np.isnan(active)
    return units.append_column("active", pa.array(active, mask=lost)).append_column(
        "spend", pa.array(np.minimum(spend, experiment.cap), mask=lost)
    )


def _keys(advertisers: pa.ChunkedArray, scenarios: pa.ChunkedArray) -> pa.Array:
    keys = pc.binary_join_element_wise(advertisers, scenarios, SEPARATOR)
    return keys.combine_chunks() if isinstance(keys, pa.ChunkedArray) else keys

"""Who is in an experiment: published as one table, which newcomers are added to and nobody leaves."""

import datetime

import pyarrow as pa
import pyarrow.compute as pc

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import (
    MANIFEST,
    Folder,
    Manifest,
    below,
    data_path,
    new_generation,
    publish,
    read_manifest,
    remove_superseded,
)
from training.experiments.assignment import SCHEMA, enrol
from training.experiments.config import ExperimentConfig
from training.experiments.units import UNITS
from training.published import read_rows
from training.scoring import write_parquet

KIND = "assignment"
HINT = "run m2m enrol --experiment NAME --date D first"
ASSIGNMENT = pa.schema(
    [
        *SCHEMA,
        pa.field("enrolled", pa.date32(), nullable=False),
        *(field for field in UNITS if field.name not in SCHEMA.names),
    ]
)
"""``enrolled``: the as-of day that an advertiser came in. All else is as known that day."""


def read_assignment(folder: str, name: str, experiment: ExperimentConfig) -> pa.Table | None:
    """The assignment of the experiment in ``folder``, :data:`ASSIGNMENT`; None where nobody is enrolled yet.

    Raises:
        UserError: it is of an experiment that was described otherwise, or damaged.
    """
    place = Folder.at(below(folder, KIND))
    if not place.exists(MANIFEST):
        return None
    manifest = read_manifest(place, kind=KIND, build_hint=HINT)
    was = manifest.content["experiment"]
    if changed := sorted(key for key, value in experiment.frozen.items() if was.get(key) != value):
        key = changed[0]
        raise UserError(
            f"experiments.{name}.{key} must stay {was.get(key)!r}, with which advertisers are enrolled, however: "
            f"{experiment.frozen[key]!r}; describe another experiment under another name"
        )
    (entry,) = manifest.files
    return read_rows(place, entry, None, hint="restore it from a copy: whom it assigned cannot be drawn again")


def check_day(date: datetime.date, name: str, experiment: ExperimentConfig) -> None:
    """
    Raises:
        UserError: the day is not one of the experiment's.
    """
    if not experiment.first <= date <= experiment.last:
        raise UserError(
            f"--date must lie in experiments.{name}, from {experiment.first} to {experiment.last}, however: {date}"
        )


def with_newcomers(
    assignment: pa.Table | None, units: pa.Table, *, date: datetime.date, experiment: ExperimentConfig
) -> pa.Table:
    """The assignment with those of a day's units that are not in it yet, dealt within strata.

    Raises:
        UserError: somebody would come in on a day before others did.
    """
    known = ASSIGNMENT.empty_table() if assignment is None else assignment
    dealt = enrol(
        known.select(SCHEMA.names),
        units["advertiser_id"].to_pylist(),
        units["stratum"].to_pylist(),
        salt=experiment.salt,
        arms=experiment.arms,
    )
    new = dealt.slice(len(known))
    newest = pc.max(known["enrolled"]).as_py()
    if len(new) and newest is not None and date < newest:
        raise UserError(
            f"days are enrolled in order: {newest} is, so that {date} would add {len(new):,} advertisers after the fact"
        )
    details = units.take(pc.index_in(new["advertiser_id"], value_set=units["advertiser_id"]))
    columns = {field.name: (new if field.name in SCHEMA.names else details) for field in ASSIGNMENT}
    enrolled = pa.array([date] * len(new), pa.date32())
    added = {name: enrolled if name == "enrolled" else table[name] for name, table in columns.items()}
    return pa.concat_tables([known, pa.table(added).cast(ASSIGNMENT)])


def publish_assignment(folder: str, table: pa.Table, *, experiment: ExperimentConfig, grace_seconds: float) -> Manifest:
    """Replace the assignment of the experiment in ``folder``."""
    place, generation = Folder.at(below(folder, KIND)), new_generation()
    path = data_path(generation, "part-0.parquet")
    entry = write_parquet(place, path, ASSIGNMENT, iter([table]), partition={})
    manifest = Manifest(
        kind=KIND,
        generation=generation,
        created_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        files=(entry,),
        content={"experiment": experiment.frozen, "units": counts(table, experiment)},
    )
    publish(place, manifest)
    remove_superseded(place, live=generation, grace_seconds=grace_seconds)
    return manifest


def counts(table: pa.Table, experiment: ExperimentConfig) -> dict[str, int]:
    """Units by arm, in the order of the config."""
    arms = table["arm"].to_pylist()
    return {arm.name: arms.count(arm.name) for arm in experiment.arms}


def members(table: pa.Table, arm: str, *, by: datetime.date) -> list[str]:
    """The advertisers of an arm that were enrolled by a day, that day's included."""
    here = pc.and_(pc.equal(table["arm"], arm), pc.less_equal(table["enrolled"], pa.scalar(by, pa.date32())))
    advertisers: list[str] = table.filter(here)["advertiser_id"].to_pylist()
    return advertisers

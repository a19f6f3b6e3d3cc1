"""Bad rows laid beside a block's clean ones, each of one kind that the build's checks find, and counted by check.

A bad row is an extra row, so that what is left after the drops is the clean world whose truth is known.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.sources.synthetic.events import DAY_SECONDS, MICROSECONDS, RawTables, money
from etl.sources.synthetic.simulate import DIRT, Block, stream
from etl.sources.synthetic.world import World

UNKNOWN_SCENARIO = "test_placement"
YEARS_OFF_DAYS = 4000
Counts = dict[str, int]


def with_bad_rows(world: World, block: Block, tables: RawTables, *, seed: int, rate: float) -> tuple[RawTables, Counts]:
    """The tables with about ``rate`` bad rows per clean one in each, and how many of each check there are."""
    rng = stream(seed, block.number, DIRT)
    counts: Counts = {}
    performance = _with_bad_events(tables.performance, rng, rate, counts)
    performance = _with_negative_days(world, block, performance, rng, rate, counts)
    behavior = _with_bad_events(tables.behavior, rng, rate, counts)
    profile = _with_bad_snapshots(tables.profile, rng, rate, counts)
    return RawTables(performance, behavior, profile, tables.late), counts


def _with_bad_events(table: pa.Table, rng: np.random.Generator, rate: float, counts: Counts) -> pa.Table:
    """Copies of random rows with no advertiser, no time, a day far outside the calendar, or an unknown scenario."""
    rows = rng.binomial(len(table), rate)
    copies = table.take(pa.array(rng.integers(0, max(len(table), 1), rows)))
    kind = rng.integers(0, 4, rows)
    off = pa.scalar(YEARS_OFF_DAYS * DAY_SECONDS * MICROSECONDS, pa.duration("us"))
    replaced = {
        "advertiser_id": (kind == 0, pa.scalar(None, pa.int64())),
        "time": (kind == 1, pa.scalar(None, table.schema.field("time").type)),
        "scenario_id": (kind == 3, pa.scalar(UNKNOWN_SCENARIO, pa.string())),
    }
    for name, (bad, value) in replaced.items():
        copies = _set(copies, name, pc.if_else(pa.array(bad), value, copies[name]))
    copies = _set(copies, "time", pc.if_else(pa.array(kind == 2), pc.add(copies["time"], off), copies["time"]))
    for check, chosen in (("null_keys", kind < 2), ("dates_out_of_range", kind == 2), ("unknown_scenarios", kind == 3)):
        counts[check] = counts.get(check, 0) + int(chosen.sum())
    return pa.concat_tables([table, copies])


def _with_negative_days(
    world: World, block: Block, table: pa.Table, rng: np.random.Generator, rate: float, counts: Counts
) -> pa.Table:
    """Refunds booked on days on which the pair has no other row: the check drops a pair's whole day."""
    wanted = rng.binomial(len(table), rate / 4)
    shape = block.impressions.shape
    cells = np.unique(rng.integers(0, block.impressions.size, wanted))
    cells = cells[block.impressions.reshape(-1)[cells] == 0]
    day, advertiser, scenario = np.unravel_index(cells, shape)
    rows = len(cells)
    seconds = (world.first_day.toordinal() - 719_163 + day) * DAY_SECONDS
    time = pa.array(seconds * MICROSECONDS, table.schema.field("time").type)
    zero = np.zeros(rows, np.int64)
    columns = {
        "advertiser_id": block.population.first_id + advertiser,
        "scenario_id": pa.array(world.parameters.names).take(pa.array(scenario)),
        "event": pa.array(["refund"] * rows, pa.string()),
        "time": time,
        "campaign_id": zero.astype(np.int32) + 1,
        "impressions": zero,
        "clicks": zero,
        "spend": money(-rng.integers(1, 100_000, rows)),
        "orders": zero,
        "gmv": money(zero),
        "arrived_at": time,
    }
    counts["negative_labels"] = counts.get("negative_labels", 0) + rows
    return pa.concat_tables([table, pa.table(columns, schema=table.schema)])


def _with_bad_snapshots(table: pa.Table, rng: np.random.Generator, rate: float, counts: Counts) -> pa.Table:
    """Doubles of random snapshots, and snapshots without an advertiser."""
    doubles = table.take(pa.array(rng.permutation(len(table))[: rng.binomial(len(table), rate)]))
    nobody = table.take(pa.array(rng.integers(0, len(table), rng.binomial(len(table), rate))))
    nobody = _set(nobody, "advertiser_id", pa.nulls(len(nobody), pa.int64()))
    counts["duplicate_keys"] = counts.get("duplicate_keys", 0) + len(doubles)
    counts["null_keys"] = counts.get("null_keys", 0) + len(nobody)
    return pa.concat_tables([table, doubles, nobody])


def _set(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    index = table.schema.get_field_index(name)
    return table.set_column(index, table.schema.field(index), values)

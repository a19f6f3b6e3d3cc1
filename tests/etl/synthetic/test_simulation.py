import dataclasses
import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from etl.sources.synthetic.dirt import with_bad_rows
from etl.sources.synthetic.events import RawTables, raw_tables
from etl.sources.synthetic.parameters import Parameters
from etl.sources.synthetic.simulate import BLOCK_ADVERTISERS, Block, block_sizes, simulate
from etl.sources.synthetic.snapshots import scenario_snapshots
from etl.sources.synthetic.statistics import add_sums, block_sums, correlations, shares
from etl.sources.synthetic.world import GONE, NEVER, RUNNING, World
from tests.etl.synthetic.twin import small_world

STAR_SHOP = 2


@pytest.fixture(scope="module")
def world() -> World:
    return small_world(120)


@pytest.fixture(scope="module")
def block(world: World) -> Block:
    return simulate(world, seed=5, block=2, count=400)


@pytest.fixture(scope="module")
def tables(world: World, block: Block) -> RawTables:
    return raw_tables(world, block, seed=5, late_rate=0.1)


def test_blocks_hold_every_advertiser_once() -> None:
    assert block_sizes(1200) == [BLOCK_ADVERTISERS, BLOCK_ADVERTISERS, 200]
    assert block_sizes(500) == [500]
    assert block_sizes(1) == [1]


def test_a_block_repeats_and_differs_by_seed_and_number(world: World, block: Block) -> None:
    again = simulate(world, seed=5, block=2, count=400)
    for field in dataclasses.fields(Block):
        if field.name not in ("number", "population"):
            np.testing.assert_array_equal(getattr(block, field.name), getattr(again, field.name))
    for seed, number in ((6, 2), (5, 3)):
        other = simulate(world, seed=seed, block=number, count=400)
        assert (other.impressions != block.impressions).mean() > 0.1


def test_nothing_happens_before_an_advertiser_joins_or_a_scenario_starts(world: World, block: Block) -> None:
    before = np.arange(world.days)[:, None] < block.population.joined
    assert before.any()
    assert not block.logins[before].any()
    assert not (block.status[before] != NEVER).any()
    assert not (block.status[: world.launch_day, :, STAR_SHOP] != NEVER).any()
    assert (block.status[world.launch_day :, :, STAR_SHOP] != NEVER).any()
    assert not block.impressions[block.status != RUNNING].any()
    assert not block.bids[block.status == NEVER].any()


def test_advertisers_leave_and_return(block: Block) -> None:
    gone = block.engagement == GONE
    member = np.arange(len(gone))[:, None] > block.population.joined
    assert ((gone[1:] & ~gone[:-1]) & member[1:]).sum() > 50
    assert ((~gone[1:] & gone[:-1]) & member[1:]).sum() > 50


def test_budgets_run_out_and_labels_are_zero_heavy_and_over_dispersed(block: Block) -> None:
    budget = block.budget[..., None].astype(np.int64)
    cap = np.take_along_axis(block.population.cap[None], budget, axis=3)[..., 0]
    shown = block.impressions > 0
    assert (block.impressions <= cap).all()
    assert 0.05 < (block.impressions == cap)[shown].mean() < 0.4
    weekly_gmv = block.gmv[-7:].sum(axis=0)[block.impressions[-7:].sum(axis=0) > 0]
    assert 0.2 < (weekly_gmv == 0).mean() < 0.8
    for scenario in (0, 3):
        counts = block.clicks[..., scenario][shown[..., scenario]]
        assert counts.var() > 10 * counts.mean()


def test_events_add_up_to_what_happened(world: World, block: Block, tables: RawTables) -> None:
    events, names = tables.performance, world.parameters.names
    shanghai = events["time"].cast(pa.timestamp("us", tz="Asia/Shanghai"))
    local_day = pc.floor_temporal(pc.local_timestamp(shanghai), unit="day")
    day = (local_day.cast("int64").to_numpy() // 86_400_000_000) - (world.first_day.toordinal() - 719_163)
    advertiser = events["advertiser_id"].to_numpy() - block.population.first_id
    scenario = pc.index_in(events["scenario_id"], value_set=pc.unique(events["scenario_id"])).to_numpy()
    order = [names.index(name) for name in pc.unique(events["scenario_id"]).to_pylist()]
    at = (day, advertiser, np.array(order)[scenario])
    for column in ("impressions", "clicks", "spend", "orders", "gmv"):
        values = events[column].to_pylist()
        if column in ("spend", "gmv"):
            values = [int(value * 100) for value in values]
        totals = np.zeros_like(block.impressions)
        np.add.at(totals, at, values)
        np.testing.assert_array_equal(totals, getattr(block, column))
    assert pc.all(pc.less_equal(events["clicks"], events["impressions"])).as_py()
    assert (pc.min(events["spend"]).as_py(), pc.min(events["gmv"]).as_py()) == (0, 0)


def test_behavior_says_when_campaigns_started_and_what_budgets_are(block: Block, tables: RawTables) -> None:
    by_kind = {kind: tables.behavior.filter(pc.equal(tables.behavior["event"], kind)) for kind in BEHAVIOR_KINDS}
    assert sum(map(len, by_kind.values())) == len(tables.behavior)
    known = block.status[-1] != NEVER
    assert len(by_kind["campaign_create"]) == known.sum()
    assert by_kind["login"]["scenario_id"].null_count == len(by_kind["login"])
    assert pc.sum(by_kind["login"]["count"]).as_py() == block.logins.sum()
    assert pc.sum(by_kind["bid_change"]["count"]).as_py() == block.bids.sum()
    assert len(by_kind["budget_change"]) > known.sum()
    assert by_kind["budget_change"]["amount"].null_count == 0
    assert len(by_kind["budget_exhausted"]) > 100


BEHAVIOR_KINDS = ("login", "campaign_create", "budget_change", "budget_exhausted", "bid_change", "campaign_edit")


def test_late_rows_are_counted(tables: RawTables) -> None:
    for name in ("performance", "behavior"):
        table = getattr(tables, name)
        delay = pc.subtract(table["arrived_at"], table["time"]).cast("int64").to_numpy() / 1e6
        assert (delay > 0).all()
        assert (delay >= 86_400).sum() == tables.late[name]
        assert tables.late[name] / len(table) == pytest.approx(0.1, abs=0.01)


def test_profiles_have_stars_that_grow(world: World, block: Block, tables: RawTables) -> None:
    rows = tables.profile.sort_by([("advertiser_id", "ascending"), ("day", "ascending")])
    advertiser, stars = rows["advertiser_id"].to_numpy(), rows["star_level"].to_numpy()
    same = advertiser[1:] == advertiser[:-1]
    assert (np.diff(stars)[same] == 1).all()
    first = np.append(True, ~same)
    day = rows["day"].cast("int32").to_numpy() - (world.first_day.toordinal() - 719_163)
    np.testing.assert_array_equal(day[first], block.population.joined)
    assert len(set(rows["main_category"].to_pylist())) > 60


def test_bad_rows_come_beside_clean_ones_and_are_counted(world: World, block: Block, tables: RawTables) -> None:
    dirty, counts = with_bad_rows(world, block, tables, seed=5, rate=0.02)
    for name in ("performance", "behavior", "profile"):
        clean, all_rows = getattr(tables, name), getattr(dirty, name)
        assert all_rows.slice(0, len(clean)).equals(clean)
    extra = sum(
        len(getattr(dirty, name)) - len(getattr(tables, name)) for name in ("performance", "behavior", "profile")
    )
    assert extra == sum(counts.values())
    assert all(counts[check] > 0 for check in CHECKS)
    assert with_bad_rows(world, block, tables, seed=5, rate=0.0)[0].performance.equals(tables.performance)


CHECKS = ("null_keys", "dates_out_of_range", "unknown_scenarios", "negative_labels", "duplicate_keys")


def test_scenario_snapshots_look_back_only(world: World, block: Block) -> None:
    sums = block_sums(world, block)
    rows = scenario_snapshots(world, sums).to_pylist()
    new = [row for row in rows if row["scenario_id"] == "star_shop"]
    assert min(row["age_days"] for row in new) == 0
    assert len(new) == world.days - world.launch_day
    day, scenario = 60, 3
    row = next(r for r in rows if r["scenario_id"] == "news_feed" and r["age_days"] == day)
    window = slice(day - 27, day + 1)
    assert row["impressions"] == block.impressions[window, :, scenario].sum()
    assert int(row["spend"] * 100) == block.spend[window, :, scenario].sum()
    assert row["active_advertisers"] == pytest.approx((block.impressions[window, :, scenario] > 0).sum() / 28)
    ahead = world.festival[day + 1 : day + 8]
    assert (row["festival_days_ahead"], row["holiday_days_ahead"]) == ((ahead > 0).sum(), (ahead < 0).sum())


def test_shares_and_correlations_are_near_the_papers() -> None:
    world = World(Parameters(), datetime.date(2019, 12, 10), 387)
    sums = block_sums(world, simulate(world, seed=9, block=0, count=500))
    for number in range(1, 20):
        sums = add_sums(sums, block_sums(world, simulate(world, seed=9, block=number, count=500)))
    for correlation in correlations(sums):
        assert correlation.measured == pytest.approx(correlation.target, abs=0.1), correlation
    for share in shares(world, sums):
        assert share.measured == pytest.approx(share.target, rel=0.3), share

"""Lists: who is on them, in what order, who is passed over, and what each row says."""

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import QUANTILES
from m2m_model.contracts.store import Folder, Manifest, publish, read_manifest
from tests.training.tiny import DAY, publish_tables, random_table
from training.engagement.config import EngagementConfig, ListConfig, RewardConfig
from training.engagement.inputs import excluded_advertisers
from training.engagement.publish import described, publish_list

FORECASTS = [0.9, 3.0, 0.2, 0.2, 0.0, 2.0]
ELIGIBLE = [True, True, True, True, False, False]
FADING = ListConfig(task="days", at_most=1.0)


def feature_day(day: datetime.date) -> pa.Table:
    rows = random_table(6, seed=0, day=day, labels=False)
    scenario = pa.array(["a", "a", "b", "a", "b", "a"])
    rows = rows.set_column(1, rows.schema.field("scenario_id"), scenario)
    return rows.set_column(4, rows.schema.field("eligible"), pa.array(ELIGIBLE))


def predictions(features: pa.Table) -> pa.Table:
    table = features.select(["advertiser_id", "scenario_id", "as_of"])
    table = table.append_column("days_mean", pa.array(FORECASTS))
    for name, level in QUANTILES.items():
        table = table.append_column(f"days_{name}", pa.array([2 * level * forecast for forecast in FORECASTS]))
    return table.append_column("model_version", pa.array(["v1"] * 6))


def publish_day(root: Path, day: datetime.date = DAY) -> None:
    features = feature_day(day)
    built = publish_tables(str(root / f"features/dt={day}"), "features", {"part-0": (features, {})})
    location = str(root / f"predictions/dt={day}")
    scored = publish_tables(location, "predictions", {"part-0": (predictions(features), {})})
    content = {"features_generation": built.generation, "model_version": "v1"}
    publish(Folder.at(location), scored.model_copy(update={"content": content}))


def selected(root: Path, rule: ListConfig, day: datetime.date = DAY) -> tuple[Manifest, pa.Table]:
    manifest = publish_list(
        "fading",
        rule,
        date=day,
        features=str(root / f"features/dt={day}"),
        predictions=str(root / f"predictions/dt={day}"),
        lists=str(root / "lists"),
        grace_seconds=0.0,
    )
    location = root / f"lists/fading/dt={day}"
    assert read_manifest(Folder.at(location), kind="list", build_hint="") == manifest
    return manifest, pq.read_table(location / manifest.files[0].path, partitioning=None)


def test_active_pairs_that_will_fade_the_lowest_first_ties_by_advertiser(tmp_path: Path) -> None:
    publish_day(tmp_path)
    _, table = selected(tmp_path, FADING)
    assert table["advertiser_id"].to_pylist() == ["0-3", "0-0", "0-2"]
    assert table["rank"].to_pylist() == [1, 2, 1]
    assert (
        table["reason"][0]
        .as_py()
        .endswith("forecast 0.2 days in the next 7 days, number 1 of the lowest in its scenario")
    )


def test_pairs_that_are_not_active_and_would_be_the_highest_first(tmp_path: Path) -> None:
    publish_day(tmp_path)
    _, table = selected(tmp_path, ListConfig(audience="inactive", task="days", order="highest", at_least=0.5))
    assert table["advertiser_id"].to_pylist() == ["0-5"]


def test_budgets_are_per_scenario(tmp_path: Path) -> None:
    publish_day(tmp_path)
    _, table = selected(tmp_path, ListConfig(task="days", budget=1, budgets={"b": 0}))
    assert table["advertiser_id"].to_pylist() == ["0-3"]


def test_a_reward_states_its_target_and_the_chance_of_reaching_it_unaided(tmp_path: Path) -> None:
    publish_day(tmp_path)
    rule = ListConfig(task="days", reward=RewardConfig(task="days", probability=0.3))
    _, table = selected(tmp_path, rule)
    assert (table["target"].to_numpy() >= 1).all()
    assert (table["unaided_probability"].to_numpy() <= 0.3).all()
    assert "asked for" in table["reason"][0].as_py()


def test_rules_pass_over_and_are_counted(tmp_path: Path) -> None:
    publish_day(tmp_path)
    listed = tmp_path / "never.txt"
    listed.write_text("0-0\n")
    manifest, table = selected(tmp_path, FADING.model_copy(update={"exclude": ("0-2",), "exclude_file": listed}))
    assert table["advertiser_id"].to_pylist() == ["0-3"]
    assert manifest.content["passed_over"] == {"excluded": 2, "cooling down": 0, "too small": 0}
    assert "passed over: 2 excluded" in described(manifest)


def test_scale_is_over_all_scenarios_of_an_advertiser(tmp_path: Path) -> None:
    publish_day(tmp_path)
    sums = [row[-1] for row in feature_day(DAY)["history_units"].to_pylist()]
    least = sorted(sums[:1] + sums[2:4])[1]
    _, table = selected(tmp_path, FADING.model_copy(update={"minimum_scale": {"units": least}}))
    kept = {f"0-{row}" for row in (0, 2, 3) if sums[row] >= least}
    assert set(table["advertiser_id"].to_pylist()) == kept


def test_who_was_listed_cools_down(tmp_path: Path) -> None:
    rule = ListConfig(task="days", at_most=1.0, budget=1, cool_down_days=2)
    days = [DAY + datetime.timedelta(days=number) for number in range(4)]
    found = []
    for day in days:
        publish_day(tmp_path, day)
        _, table = selected(tmp_path, rule, day)
        found.append(table.filter(pa.compute.equal(table["scenario_id"], "a"))["advertiser_id"].to_pylist())
    assert found == [["0-3"], ["0-0"], [], ["0-3"]]


def test_whom_an_earlier_version_of_a_day_named_cools_down_too(tmp_path: Path) -> None:
    rule = ListConfig(task="days", at_most=1.0, budgets={"b": 0}, budget=1, cool_down_days=2)
    later = DAY + datetime.timedelta(days=1)
    for day in (DAY, later):
        publish_day(tmp_path, day)
    versions = [selected(tmp_path, rule)[1], selected(tmp_path, rule.model_copy(update={"exclude": ("0-3",)}))[1]]
    assert [table["advertiser_id"].to_pylist() for table in versions] == [["0-3"], ["0-0"]]
    manifest, table = selected(tmp_path, rule, later)
    assert manifest.content["passed_over"]["cooling down"] == 2
    assert not {"0-3", "0-0"} & set(table["advertiser_id"].to_pylist())
    manifest, table = selected(tmp_path, rule)
    assert table["advertiser_id"].to_pylist() == ["0-3"], "the day's own versions do not hold it up"
    assert manifest.rows == len(
        ds.dataset(tmp_path / f"lists/fading/dt={DAY}/data/generation={manifest.generation}").to_table()
    )


def test_a_missed_day_that_is_made_up_for_keeps_away_from_the_days_after(tmp_path: Path) -> None:
    rule = ListConfig(task="days", at_most=1.0, budget=1, cool_down_days=2)
    later = DAY + datetime.timedelta(days=1)
    for day in (later, DAY):
        publish_day(tmp_path, day)
    first_manifest, first = selected(tmp_path, rule, later)
    manifest, missed = selected(tmp_path, rule)
    keys = ("advertiser_id", "scenario_id")
    pairs = [set(zip(*(table[key].to_pylist() for key in keys), strict=True)) for table in (first, missed)]
    assert all(pairs)
    assert not pairs[0] & pairs[1]
    assert manifest.content["passed_over"]["cooling down"] == len(first)
    cooling = [found.content["cooling"] for found in (manifest, first_manifest)]
    assert cooling == [{}, {}], "what comes later makes no list stale"


def test_an_excluded_advertiser_may_have_blanks(tmp_path: Path) -> None:
    (tmp_path / "excluded.txt").write_text("Acme Corp\n\n  other \n")
    rule = ListConfig(task="days", at_most=1.0, exclude=("a",), exclude_file=tmp_path / "excluded.txt")
    assert excluded_advertisers(rule) == ["a", "Acme Corp", "other"]


def test_nobody_is_an_empty_day(tmp_path: Path) -> None:
    publish_day(tmp_path)
    manifest, table = selected(tmp_path, ListConfig(task="days", at_least=50.0))
    assert manifest.rows == len(table) == 0


def test_predictions_of_other_features_are_refused(tmp_path: Path) -> None:
    publish_day(tmp_path)
    publish_tables(str(tmp_path / f"features/dt={DAY}"), "features", {"part-0": (feature_day(DAY), {})})
    with pytest.raises(UserError, match="predict the day again"):
        selected(tmp_path, FADING)


def test_mistakes_are_named(tmp_path: Path) -> None:
    publish_day(tmp_path)
    with pytest.raises(UserError, match=r"must be one of \['days', 'units'\], however: 'clicks'"):
        selected(tmp_path, ListConfig(task="clicks"))
    with pytest.raises(UserError, match="'units_p"):
        selected(tmp_path, ListConfig(task="days", reward=RewardConfig(task="units")))
    with pytest.raises(UserError, match=r"exclude_file nowhere.txt cannot be read"):
        selected(tmp_path, ListConfig(task="days", exclude_file=Path("nowhere.txt")))
    with pytest.raises(ValueError, match="must not lie above"):
        ListConfig(at_least=2.0, at_most=1.0)
    with pytest.raises(ValueError, match="pattern"):
        EngagementConfig(lists={"../x": ListConfig()})

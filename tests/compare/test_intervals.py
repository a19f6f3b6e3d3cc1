"""Intervals of paired differences: against loops, against known answers, and in how often they cover the truth."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import t as student_t

from m2m_model.contracts.errors import UserError
from training.compare.intervals import (
    NEIGHBOURS,
    Draws,
    Freedom,
    Resamples,
    bootstrap_weights,
    compare,
    holm,
    interval,
    macro,
    resampled_metric,
)
from training.compare.results import CellKey, Resampled, Results, load_cell, save_cell
from training.compare.sums import SUMS, CellSums
from training.groups import GROUPS, LEFT_OUT, advertiser_groups
from training.metrics import OVERALL, MetricSums

SCENARIOS, TASKS, WEEKS = ("a", "b"), ("units", "days"), 3
ROWS_OF_DAY = np.array([1, 2, 3, 4, 5, 6, 7, 6, 5, 4, 3, 2, 1])
"""How many as-of days of a week have each day in their label window."""


def random_cell(seed: int, *, shift: float = 0.0, rows: int = 4000) -> CellSums:
    """Rows whose forecasts are off by a noise of scale 1 + shift; labels do not depend on seed or shift."""
    fixed, noise = np.random.default_rng(7), np.random.default_rng([seed, 1])
    advertisers = fixed.integers(0, 300, rows)
    scenario = fixed.integers(0, len(SCENARIOS), rows)
    labels = fixed.poisson(3.0, (rows, len(TASKS))).astype(float)
    cell = CellSums(scenarios=SCENARIOS, tasks=TASKS, weeks=WEEKS)
    forecasts = np.abs(labels + noise.normal(0, 1 + shift, labels.shape))
    cell.add(
        "point",
        groups=advertiser_groups(advertisers.tolist()),
        weeks=fixed.integers(0, WEEKS, rows),
        scenarios=scenario,
        forecasts=forecasts,
        labels=labels,
    )
    return cell


def test_sums_give_the_metrics_that_rows_give() -> None:
    random = np.random.default_rng(0)
    scenario = random.integers(0, 2, 500)
    forecasts, labels = random.poisson(2.0, (2, 500, 2)).astype(float)
    cell = CellSums(scenarios=SCENARIOS, tasks=TASKS, weeks=1)
    weeks = np.zeros(500, int)
    groups = advertiser_groups(random.integers(0, 99, 500).tolist())
    cell.add("point", groups=groups, weeks=weeks, scenarios=scenario, forecasts=forecasts, labels=labels)
    direct = MetricSums(tasks=TASKS)
    everybody = np.ones(500, bool)
    direct.add(np.array(SCENARIOS)[scenario], everybody, np.ones(500, int), forecasts, labels)
    expected = {(r.scenario, r.task): r for r in direct.rows(model="m", forecast="point") if r.segment == "eligible"}
    once = Resamples(layout=Draws.of(1), groups=np.ones((1, GROUPS + 1)), weeks=np.ones((1, 1)))
    for metric in ("nmae", "smape"):
        values = macro(resampled_metric([cell], "point", metric, once, np.random.default_rng(0)))[0]
        for i, s in enumerate((*SCENARIOS, OVERALL)):
            for j, t in enumerate((*TASKS, OVERALL)):
                assert values[i, j] == pytest.approx(getattr(expected[s, t], metric), rel=1e-12)


def test_resampled_metric_is_the_weighted_ratio() -> None:
    cells = [random_cell(seed, rows=300) for seed in range(3)]
    draws = Resamples.draw(np.random.default_rng(1), resamples=4, weeks=WEEKS)
    fast = resampled_metric(cells, "point", "nmae", draws, np.random.default_rng(5))
    seeds = bootstrap_weights(np.random.default_rng(5), 3, resamples=4) / 3
    for r in range(4):
        above, below = np.zeros((2, 2)), np.zeros((2, 2))
        for g in range(GROUPS):
            for w in range(WEEKS):
                weight = draws.groups[r, g] * draws.weeks[r, w]
                for k, cell in enumerate(cells):
                    above += weight * seeds[r, k] * cell.forecasts["point"][SUMS.index("absolute_error"), g, w]
                below += weight * cells[0].forecasts["point"][SUMS.index("label"), g, w]
        np.testing.assert_allclose(fast[r], above / below, rtol=1e-10)


def test_an_ensemble_s_members_are_drawn_anew() -> None:
    """Of a sum that is the members' mean the jackknife's variance is that of the mean, over the number of members."""
    members = np.random.default_rng(0).gamma(9.0, 1.0, (5, 2, 2, 2))  # [K, advertisers but those left out, S, M]
    without = np.stack([np.delete(members, k, axis=0).mean(axis=0) for k in range(5)])
    cell = dataclasses.replace(random_cell(0), without={"point": (np.stack([without] * 2, axis=1),)})
    total = cell.forecasts["point"][SUMS.index("label")].sum(axis=(0, 1))
    for left_out in (False, True):
        draws = Resamples.draw(np.random.default_rng(1), resamples=20_000, weeks=WEEKS, with_left_out=left_out)
        of_seeds = slice(draws.layout.joint + 2 * draws.layout.part, None)
        noisy = resampled_metric([cell], "point", "nmae", draws, np.random.default_rng(2))
        noiseless = resampled_metric([random_cell(0)], "point", "nmae", draws, np.random.default_rng(2))
        np.testing.assert_allclose(noisy[0], noiseless[0])
        counted = members.sum(axis=1) if left_out else members[:, 0]
        expected = counted.std(axis=0, ddof=1) / np.sqrt(5) / total
        np.testing.assert_allclose((noisy - noiseless)[of_seeds].std(axis=0), expected, rtol=0.06)
    results = Results(planned=(key := CellKey(model="m", period="p", seed=0),), cells={key: cell})
    assert results.replicates("m") == 5


def test_results_can_be_told_without_those_left_out() -> None:
    random = np.random.default_rng(0)
    advertisers = random.integers(0, 99, 500).tolist()
    labels, forecasts = random.poisson(2.0, (2, 500, 1)).astype(float)
    forecasts[np.array(advertisers) == 7] += 50
    cell = CellSums(scenarios=("a",), tasks=("t",), weeks=1)
    at = {"weeks": np.zeros(500, int), "scenarios": np.zeros(500, int)}
    groups = advertiser_groups(advertisers, ("7",))
    assert ((groups == LEFT_OUT) == (np.array(advertisers) == 7)).all()
    cell.add("point", groups=groups, forecasts=forecasts, labels=labels, **at)
    results = Results(planned=(key := CellKey(model="m", period="p", seed=0),), cells={key: cell})
    for without, rows in ((False, slice(None)), (True, np.array(advertisers) != 7)):
        view = Resampled.of(results, resamples=3, without_left_out=without)
        wanted = np.abs(forecasts - labels)[rows].sum() / labels[rows].sum()
        assert view.values["m", "point", "nmae"][0, 0, 0] == pytest.approx(wanted)
        assert view.bias("m", "point")[0, 0] == pytest.approx(forecasts[rows].sum() / labels[rows].sum() - 1)


def test_a_clear_difference_is_found_and_none_is_not() -> None:
    keys = {("same", 0.0): 0, ("twin", 0.0): 100, ("worse", 0.4): 200}
    planned = [CellKey(model=m, period=p, seed=s) for (m, _) in keys for p in ("p1", "p2") for s in range(5)]
    shifts = {model: (shift, start) for (model, shift), start in keys.items()}
    cells = {
        key: random_cell(shifts[key.model][1] + key.seed + 10 * int(key.period[1]), shift=shifts[key.model][0])
        for key in planned
    }
    resampled = Resampled.of(Results(planned=tuple(planned), cells=cells), resamples=400)
    overall = {}
    for other in ("twin", "worse"):
        rows = list(resampled.compare("same", other, "point", "nmae"))
        overall[other] = next(r for r in rows if r.scenario == r.task == OVERALL)
        assert len(rows) == 9
    assert overall["worse"].high < 0
    assert overall["worse"].p < 0.01
    assert overall["twin"].low < 0 < overall["twin"].high


def test_intervals_cover_the_true_difference() -> None:
    """Models with exactly equal errors in expectation: a 95 % interval excludes 0 rarely."""
    excluded = 0
    for world in range(60):
        random = np.random.default_rng(world)
        pair = []
        for _ in range(2):
            cell = CellSums(scenarios=("a",), tasks=("t",), weeks=4)
            shape = (len(SUMS), GROUPS + 1, 4, 1, 1)
            cell.forecasts["point"] = np.ones(shape) * random.gamma(20.0, 1.0, shape)
            cell.forecasts["point"][1] = 20.0
            pair.append(cell)
        draws = Resamples.draw(random, resamples=300, weeks=4)
        values = [resampled_metric([cell], "point", "nmae", draws, random) for cell in pair]
        _, low, high, _ = compare(values[0] - values[1], Freedom.of(weeks=[4], seeds=[]), draws.layout)
        excluded += not low[0, 0] <= 0 <= high[0, 0]
    assert excluded <= 6  # of 60; 95 % intervals are expected to miss 3, product weights make them wider


def test_weights_have_the_variance_of_a_mean_even_of_few_units() -> None:
    values = np.array([1.0, 4.0, 2.0, 9.0])
    weights = bootstrap_weights(np.random.default_rng(0), 4, resamples=20_000)
    np.testing.assert_array_equal(weights[0], 1)
    means = weights[1:] @ values / 4
    assert means.mean() == pytest.approx(values.mean(), rel=0.01)
    assert means.var() == pytest.approx(values.var(ddof=1) / 4, rel=0.03)
    np.testing.assert_array_equal(bootstrap_weights(np.random.default_rng(0), 1, resamples=3), 1)


@pytest.mark.parametrize("units", [3, 4, 5, 12])
def test_weights_of_units_that_go_with_their_neighbours_are_never_negative(units: int) -> None:
    """Over many worlds of values that go with their neighbours, resampled means vary as means do."""
    random = np.random.default_rng(units)
    weights = bootstrap_weights(random, units, resamples=40_000, correlation=NEIGHBOURS)[1:]
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(axis=1), units)
    covariance = np.eye(units) + NEIGHBOURS * (np.eye(units, k=1) + np.eye(units, k=-1))
    worlds = random.multivariate_normal(np.zeros(units), covariance, size=400)
    resampled = (weights @ worlds.T / units).var(axis=0).mean()
    assert resampled == pytest.approx(covariance.sum() / units**2, rel=0.15)


def test_draws_are_of_all_kinds_together_and_then_of_each_alone() -> None:
    layout, random = Draws.of(100), np.random.default_rng(0)
    varying = {}
    for kind in ("groups", "weeks", "seeds"):
        weights = layout.weights(random, kind, 5)
        assert weights.shape == (layout.total, 5)
        varying[kind] = (weights != 1).any(axis=1)
    for kind, rows in varying.items():
        alone = np.flatnonzero(rows & ~np.any([r for other, r in varying.items() if other != kind], axis=0))
        position = 100 + 10 * ("groups", "weeks", "seeds").index(kind)
        assert set(alone) <= {*range(position, position + 10)}
        assert len(alone) > 5
    assert not any(rows[0] for rows in varying.values())


@pytest.mark.parametrize("weeks", [[4], [4, 4, 4]])
def test_intervals_of_few_weeks_that_share_label_days_cover_the_truth(weeks: list[int]) -> None:
    """What happens on a day is an error of all rows whose label window holds it; nothing else is random."""
    covered, worlds = 0, 400
    for world in range(worlds):
        random, layout = np.random.default_rng([world, len(weeks)]), Draws.of(800)
        periods = []
        for count in weeks:
            days = random.normal(size=7 * count + 6)
            errors = np.array([ROWS_OF_DAY @ days[7 * week : 7 * week + 13] for week in range(count)])
            periods.append(layout.weights(random, "weeks", count, correlation=NEIGHBOURS) @ errors / count)
        low, high = interval(np.mean(periods, axis=0), Freedom.of(weeks=weeks, seeds=[]), layout)
        covered += low <= 0 <= high
    assert 0.91 < covered / worlds < 0.985


def test_degrees_of_freedom_are_satterthwaites() -> None:
    """Weeks and seeds of equal variance: (v + v)^2 / (v^2 / 3 + v^2 / 4), and the interval is Student's."""
    random, layout = np.random.default_rng(3), Draws(joint=3, part=40_000)
    parts = [np.zeros(40_000), *random.normal(size=(2, 40_000))]
    draws = np.concatenate([[5.0, 6.0, 4.0], *parts])
    freedom = Freedom.of(weeks=[4], seeds=[5])
    assert freedom.effective(draws, layout) == pytest.approx(4 / (1 / 3 + 1 / 4), rel=0.01)
    half = student_t.ppf(0.975, 4 / (1 / 3 + 1 / 4))
    np.testing.assert_allclose(interval(draws, freedom, layout), [5 - half, 5 + half], rtol=0.01)


@pytest.mark.parametrize("level", [0.05, 0.05 / 13])
def test_p_values_of_few_weeks_keep_their_level(level: float) -> None:
    """Two periods of four weeks that share label days, in worlds without a difference: p falls below a level as often
    as the level says."""
    random, layout, worlds = np.random.default_rng(2), Draws.of(1000), 4000
    periods = []
    for _ in range(2):
        days = random.normal(size=(7 * 4 + 6, worlds))
        errors = np.array([ROWS_OF_DAY @ days[7 * week : 7 * week + 13] for week in range(4)])
        periods.append(layout.weights(random, "weeks", 4, correlation=NEIGHBOURS) @ errors / 4)
    *_, p = compare(np.mean(periods, axis=0), Freedom.of(weeks=[4, 4], seeds=[]), layout)
    assert 0.5 < (p < level).mean() / level < 1.5


def test_p_is_the_level_where_the_interval_ends_at_zero() -> None:
    random, layout = np.random.default_rng(4), Draws.of(1000)
    draws = layout.weights(random, "weeks", 5) @ random.gamma(1.0, size=(5, 40)) / 5
    freedom = Freedom.of(weeks=[5], seeds=[])
    for level in (0.95, 0.8):
        _, low, high, _ = compare(draws, freedom, layout, level=level)
        for end in (low, high):
            *_, p = compare(draws - end, freedom, layout)
            np.testing.assert_allclose(p, 1 - level, rtol=1e-6)


def test_what_is_not_defined_has_no_p_and_no_part_in_the_family() -> None:
    layout = Draws.of(20)
    *_, p = compare(np.full((layout.total, 1), np.nan), Freedom.of(weeks=[4], seeds=[]), layout)
    assert np.isnan(p).all()
    adjusted = holm({"a": 0.01, "none": np.nan, "b": 0.02})
    assert np.isnan(adjusted.pop("none"))
    assert adjusted == pytest.approx({"a": 0.02, "b": 0.02})


def test_what_is_lasting_in_an_advertiser_does_not_average_out_over_periods() -> None:
    """The same difference per advertiser group in both periods: two periods tell no more than one."""
    random = np.random.default_rng(5)
    lasting = random.normal(0, 1.0, (GROUPS + 1, 1, 1, 1))
    cells = {}
    for model, effect in (("a", 0.0), ("b", lasting)):
        for period in ("p1", "p2"):
            cell = CellSums(scenarios=("a",), tasks=("t",), weeks=4)
            cell.forecasts["point"] = np.full((len(SUMS), GROUPS + 1, 4, 1, 1), 20.0)
            cell.forecasts["point"][SUMS.index("absolute_error")] += effect
            cells[CellKey(model=model, period=period, seed=0)] = cell
    results = Results(planned=tuple(cells), cells=cells)
    widths = []
    for periods in (("p1",), ("p1", "p2")):
        view = Resampled.of(results, resamples=2000, periods=periods)
        row = next(r for r in view.compare("a", "b", "point", "nmae") if r.scenario == r.task == OVERALL)
        widths.append(row.high - row.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.1)


def test_cells_of_other_rows_are_not_compared() -> None:
    cells = {CellKey(model=m, period="p", seed=0): random_cell(0, rows=rows) for m, rows in (("a", 400), ("b", 500))}
    with pytest.raises(UserError, match="must be of the same test rows"):
        Resampled.of(Results(planned=tuple(cells), cells=cells))


def test_periods_of_other_scenarios_are_refused() -> None:
    cells = {CellKey(model="m", period=p, seed=0): CellSums(scenarios=(p,), tasks=("t",), weeks=1) for p in "ab"}
    with pytest.raises(UserError, match="must have test rows of the same scenarios"):
        Resampled.of(Results(planned=tuple(cells), cells=cells))


def test_a_seed_counts_once_all_periods_have_it() -> None:
    planned = tuple(CellKey(model="m", period=p, seed=s) for p in ("p1", "p2") for s in range(3))
    cells = {key: random_cell(key.seed, shift=key.seed, rows=300) for key in planned if key != planned[-1]}
    view = Resampled.of(results := Results(planned=planned, cells=cells), resamples=5)
    assert results.whole_seeds("m") == (0, 1)
    assert results.completeness.startswith("5 of 6 planned cells (model x period x seed), 1 of them left out, of")
    whole = {key: cells[key] for key in planned if key.seed < 2}
    same = Resampled.of(Results(planned=planned, cells=whole), resamples=5)
    np.testing.assert_array_equal(view.values["m", "point", "nmae"], same.values["m", "point", "nmae"])


def test_errors_of_rates_count_by_their_exposure() -> None:
    cell = CellSums(scenarios=("a",), tasks=("ctr",), weeks=1)
    zero = np.zeros(3, int)
    cell.add(
        "point",
        groups=zero,
        weeks=zero,
        scenarios=zero,
        forecasts=np.array([[0.5], [0.2], [0.9]]),
        labels=np.array([[0.1], [0.1], [0.0]]),
        exposures=np.array([[10.0], [30.0], [0.0]]),
    )
    sums = dict(zip(SUMS, cell.forecasts["point"][:, 0, 0, 0, 0], strict=True))
    assert sums["absolute_error"] == pytest.approx(10 * 0.4 + 30 * 0.1)
    assert sums["label"] == pytest.approx(4.0)
    assert sums["rows"] == 2


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.02, "c": 0.5}) == pytest.approx({"a": 0.03, "b": 0.04, "c": 0.5})
    assert holm({"a": 0.4, "b": 0.9}) == pytest.approx({"a": 0.8, "b": 0.9})


def test_a_cell_comes_back_from_disk(tmp_path) -> None:  # type: ignore[no-untyped-def]
    parts = np.random.default_rng(0).random((3, 2, 2, 2, 2)), np.ones((2, 2, 2, 2, 2))
    cell = dataclasses.replace(random_cell(3, rows=200), without={"point": parts})
    key = CellKey(model="m2m", period="p1", seed=3)
    save_cell(tmp_path, key, cell, {"seconds": "12.5"})
    back, about = load_cell(tmp_path, key)
    assert about == {"seconds": "12.5"}
    assert (back.scenarios, back.tasks, back.weeks) == (cell.scenarios, cell.tasks, cell.weeks)
    np.testing.assert_allclose(back.forecasts["point"], cell.forecasts["point"], rtol=1e-6)
    for part, kept in zip(parts, back.without["point"], strict=True):
        np.testing.assert_allclose(kept, part, rtol=1e-6)


def test_groups_are_stable_and_even() -> None:
    groups = advertiser_groups([str(n) for n in range(4800)])
    assert (advertiser_groups(["17", 17, "18"]) == [groups[17], groups[17], groups[18]]).all()
    assert np.bincount(groups, minlength=GROUPS).min() > 50

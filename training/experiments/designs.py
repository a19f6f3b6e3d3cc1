"""Two designs of an experiment on rewarded tasks, and one comparison that looks like one and is none.

(a) *Does the incentive help?* A model selects; the selected are randomised into incentive and holdout.
(b) *Which model selects better?* **All** advertisers are randomised before anything is selected; in each arm its model
    selects with the same budget; whole arms are compared, the selected and the others.
(c) What Table 6 of the paper does: two models select from everybody, and the two selected groups are compared. The
    groups differ before anything happens to them, because selecting those who will be inactive is what the models
    are for.

Letters: N advertisers, S scenarios, C covariates. The unit is the advertiser, in all scenarios together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from training.experiments.assignment import SCHEMA, enrol, sample_ratio_p
from training.experiments.config import Arm
from training.experiments.effects import Effect, effect

WEEK = 7
MEASURES = {"active rate": "of the week's days", "ARPU": "yuan a week, capped"}


@dataclass(frozen=True, kw_only=True)
class Market:
    """Who can be selected, by which forecast, and what the week brings with and without the incentive."""

    advertisers: Sequence[str]
    strata: Sequence[str]
    eligible: Bool[np.ndarray, "N S"]
    forecasts: Mapping[str, Float[np.ndarray, "N S"]]
    """Model -> forecast of the week's active days."""
    covariates: Mapping[str, Float[np.ndarray, "N C"]]
    """Measure -> known before the experiment, made in the same way for everybody, whatever its arm."""
    last_week: Float[np.ndarray, "N S"]
    """Active days of the week before."""
    forecast_before: Float[np.ndarray, "N S"]
    """Forecast of those, made a week earlier: for planning."""
    active: Float[np.ndarray, "N S"]
    spend: Float[np.ndarray, "N S"]
    added_active: Float[np.ndarray, "N S"]
    added_spend: Float[np.ndarray, "N S"]
    cap: float
    """What an advertiser's spend of a week counts at most. Set beforehand: without it a few advertisers are the mean,
    and an interval depends on the arm that they are dealt to."""

    def part(self, rows: np.ndarray) -> "Market":
        """Some of the advertisers."""
        return Market(
            advertisers=[self.advertisers[row] for row in rows],
            strata=[self.strata[row] for row in rows],
            forecasts={name: values[rows] for name, values in self.forecasts.items()},
            covariates={name: values[rows] for name, values in self.covariates.items()},
            cap=self.cap,
            **{name: getattr(self, name)[rows] for name in _ARRAYS},
        )

    def outcome(self, measure: str, treated: Bool[np.ndarray, "N S"], pairs: Bool[np.ndarray, "N S"]) -> np.ndarray:
        """[N]: active rate over ``pairs``, or capped spend over all scenarios; ``treated`` pairs get the incentive."""
        if measure == "ARPU":
            spent: np.ndarray = np.minimum((self.spend + treated * self.added_spend).sum(axis=1), self.cap)
            return spent
        days = (self.active + treated * self.added_active) * pairs
        rate: np.ndarray = days.sum(axis=1) / (WEEK * np.maximum(pairs.sum(axis=1), 1))
        return rate


_ARRAYS = ("eligible", "last_week", "forecast_before", "active", "spend", "added_active", "added_spend")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One measure of an experiment."""

    plain: Effect
    adjusted: Effect
    """With CUPED."""
    truth: float
    """The effect on these units, which only a simulation knows."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    counts: Mapping[str, int]
    """Units by arm."""
    ratio_p: float
    readings: Mapping[str, Reading]


def select(
    forecast: Float[np.ndarray, "N S"], eligible: Bool[np.ndarray, "N S"], budgets: Sequence[int]
) -> Bool[np.ndarray, "N S"]:
    """Of each scenario as many eligible pairs as its budget, those with the lowest forecast, ties by place."""
    chosen = np.zeros(eligible.shape, bool)
    for scenario, budget in enumerate(budgets):
        rows = np.flatnonzero(eligible[:, scenario])
        order = np.argsort(forecast[rows, scenario], kind="stable")[:budget]
        chosen[rows[order], scenario] = True
    return chosen


def holdout(market: Market, model: str, *, budgets: Sequence[int], salt: str) -> Experiment:
    """Design (a): the selected into incentive and holdout, half each."""
    chosen = select(market.forecasts[model], market.eligible, budgets)
    rows = np.flatnonzero(chosen.any(axis=1))
    market, chosen = market.part(rows), chosen[rows]
    arms = _arms(market, ("incentive", "holdout"), salt)
    treated = arms == "incentive"
    return _read(
        market,
        treated,
        {
            measure: (
                market.outcome(measure, chosen & treated[:, None], chosen),
                market.outcome(measure, chosen, chosen) - market.outcome(measure, np.zeros_like(chosen), chosen),
            )
            for measure in MEASURES
        },
        arms,
    )


def whole_arms(market: Market, models: tuple[str, str], *, budgets: Sequence[int], salt: str) -> Experiment:
    """Design (b): everybody into two arms, each model with half of the budgets in its own; second - first.

    The truth is of both models selecting from everybody, with all of the budgets.
    """
    halves = [budget // 2 for budget in budgets]
    arms = _arms(market, models, salt)
    chosen = np.zeros(market.eligible.shape, bool)
    for model in models:
        inside = arms == model
        chosen[inside] = select(market.forecasts[model][inside], market.eligible[inside], halves)
    everybody = {m: select(market.forecasts[m], market.eligible, budgets) for m in models}
    return _read(
        market,
        arms == models[1],
        {
            measure: (
                market.outcome(measure, chosen, market.eligible),
                market.outcome(measure, everybody[models[1]], market.eligible)
                - market.outcome(measure, everybody[models[0]], market.eligible),
            )
            for measure in MEASURES
        },
        arms,
    )


def selected_groups(
    market: Market, models: tuple[str, str], *, budgets: Sequence[int], has_incentive: bool
) -> Mapping[str, tuple[Effect, float]]:
    """Comparison (c) of the two models' selected groups, second - first: what it says, and the models' true difference.

    The true difference is that of the effects on the two groups: 0 where nobody gets an incentive. Advertisers that
    both models select are in both groups.
    """
    groups = [select(market.forecasts[model], market.eligible, budgets) for model in models]
    rows = [np.flatnonzero(group.any(axis=1)) for group in groups]
    found = {}
    for measure in MEASURES:
        outcomes, effects = [], []
        for group, members in zip(groups, rows, strict=True):
            plain = market.outcome(measure, np.zeros_like(group), group)[members]
            helped = market.outcome(measure, group, group)[members] if has_incentive else plain
            outcomes.append(helped)
            effects.append((helped - plain).mean())
        treated = np.repeat([False, True], [len(outcome) for outcome in outcomes])
        said = effect(np.concatenate(outcomes), treated, np.zeros(len(treated)))
        found[measure] = (said, float(effects[1] - effects[0]))
    return found


def _arms(market: Market, names: tuple[str, str], salt: str) -> np.ndarray:
    table = enrol(
        SCHEMA.empty_table(), market.advertisers, market.strata, salt=salt, arms=[Arm(name=name) for name in names]
    )
    arm = dict(zip(table["advertiser_id"].to_pylist(), table["arm"].to_pylist(), strict=True))
    return np.array([arm[advertiser] for advertiser in market.advertisers])


def _read(
    market: Market, treated: np.ndarray, found: Mapping[str, tuple[np.ndarray, np.ndarray]], arms: np.ndarray
) -> Experiment:
    names, counts = np.unique(arms, return_counts=True)
    strata = np.asarray(market.strata)
    readings = {
        measure: Reading(
            plain=effect(outcome, treated, strata),
            adjusted=effect(outcome, treated, strata, covariates=market.covariates[measure]),
            truth=float(effects.mean()),
        )
        for measure, (outcome, effects) in found.items()
    }
    return Experiment(
        counts=dict(zip(names.tolist(), counts.tolist(), strict=True)),
        ratio_p=sample_ratio_p(counts, np.ones(len(counts))),
        readings=readings,
    )

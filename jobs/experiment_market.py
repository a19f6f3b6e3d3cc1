"""The synthetic platform as a market for experiments, with two models that select: a naive one and a fitted one."""

import numpy as np

from etl.sources.synthetic.incentive import SPANS, Platform, make_platform
from training.experiments.designs import Market

NAIVE, FITTED = "last week", "fitted"
SCALE_BANDS, BUDGET_PART = 3, 5
CAPPED_AT = 0.99
"""Quantile of the spend of the week before."""
LAST_40_DAYS = SPANS.index(40)


def make_market(advertisers: int, *, seed: int) -> Market:
    """``fitted`` regresses a week's active days on the weeks before it, one week earlier: no model sees the future."""
    platform = make_platform(advertisers, seed=seed)
    before, fitted = _fitted(platform)
    # From one model for everybody, whatever arm they come to.
    expected = (fitted * platform.eligible).sum(axis=1)
    spent = platform.spend_before.sum(axis=1)
    cap = float(np.quantile(spent, CAPPED_AT))
    return Market(
        advertisers=[str(advertiser) for advertiser in platform.advertiser],
        strata=_strata(platform),
        eligible=platform.eligible,
        forecasts={NAIVE: platform.last_week.astype(float), FITTED: fitted},
        covariates={
            "active rate": np.stack([expected / np.maximum(platform.eligible.sum(axis=1), 1), np.log1p(spent)], axis=1),
            "ARPU": np.stack([np.minimum(spent, cap), expected], axis=1),
        },
        last_week=platform.last_week.astype(float),
        forecast_before=before,
        active=platform.active.astype(float),
        spend=platform.spend,
        added_active=platform.added_active.astype(float),
        added_spend=platform.added_spend,
        cap=cap,
    )


def budgets_of(market: Market) -> list[int]:
    """A fifth of the eligible pairs of every scenario."""
    return [int(count) // BUDGET_PART for count in market.eligible.sum(axis=0)]


def _fitted(platform: Platform) -> tuple[np.ndarray, np.ndarray]:
    """Least squares per scenario: forecasts [N, S] of the week before, on which it is fitted, and of the coming one."""
    forecasts = np.zeros((2, *platform.eligible.shape))
    for scenario in range(len(platform.scenarios)):
        seen = [
            np.column_stack([np.ones(len(values)), values[:, scenario]])
            for values in (platform.seen_before, platform.seen)
        ]
        rows = platform.eligible[:, scenario]
        weights, *_ = np.linalg.lstsq(seen[0][rows], platform.last_week[rows, scenario], rcond=None)
        forecasts[:, :, scenario] = [values @ weights for values in seen]
    return forecasts[0], forecasts[1]


def _strata(platform: Platform) -> list[str]:
    """The scenario with most of the recent activity, and a third of the scale classes that advertisers have."""
    main = (platform.seen[..., LAST_40_DAYS] * platform.eligible).argmax(axis=1)
    edges = np.quantile(platform.scale, np.arange(1, SCALE_BANDS) / SCALE_BANDS)
    band = np.searchsorted(edges, platform.scale)
    return [f"{platform.scenarios[s]}, scale {b}" for s, b in zip(main, band, strict=True)]

"""Calibration counts and errors on unseen advertisers, by hand."""

import json

import numpy as np
import pytest

from m2m_model.contracts.schema import QUANTILES
from tests.training.tiny import SPEC, random_table
from training.compare.asides import Asides
from training.forecast import Forecasts
from training.metrics import smape_terms
from training.scoring import row_labels

ROWS, TASKS = 60, len(SPEC.tasks)


def test_asides_are_of_all_rows_and_of_those_of_unseen_advertisers() -> None:
    random, table = np.random.default_rng(0), random_table(ROWS, seed=0, labels=True)
    advertisers = table["advertiser_id"].to_pylist()
    seen = set(sorted(set(advertisers))[::2])
    labels, scenarios = row_labels(table, SPEC), table["scenario_id"].to_numpy().astype(str)
    kinds = {name: random.gamma(1.0, 3.0, labels.shape) for name in ("point", "smape")}
    quantiles = np.sort(random.integers(0, 9, (ROWS, TASKS, len(QUANTILES))), axis=2).astype(float)
    forecasts = Forecasts(*(kinds["point"],) * 3, quantiles)
    asides = Asides(spec=SPEC, seen=seen)
    for rows in (slice(0, 25), slice(25, ROWS)):
        part = Forecasts(*(field[rows] for field in forecasts))
        asides.add(table.slice(rows.start, rows.stop - rows.start), part, {k: v[rows] for k, v in kinds.items()})
    about = asides.about()

    counts = json.loads(about["calibration"])
    for scenario in np.unique(scenarios):
        own = scenarios == scenario
        for index, task in enumerate(SPEC.tasks):
            for position in range(len(QUANTILES)):
                forecast, label = quantiles[own, index, position], labels[own, index]
                expected = [(label < forecast).sum(), (label <= forecast).sum(), own.sum()]
                assert counts[scenario][task.name][position] == expected

    new = np.array([advertiser not in seen for advertiser in advertisers])
    cells = [new & (scenarios == scenario) for scenario in np.unique(scenarios[new])]
    errors = [np.abs(kinds["point"] - labels)[cell].sum(axis=0) / labels[cell].sum(axis=0) for cell in cells]
    terms = [smape_terms(kinds["smape"], labels)[cell].mean(axis=0) for cell in cells]
    unseen = json.loads(about["unseen"])
    assert (unseen["rows"], unseen["advertisers"]) == (new.sum(), len(set(advertisers) - seen))
    assert unseen["nmae"] == pytest.approx(np.mean(errors))
    assert unseen["smape"] == pytest.approx(np.mean(terms))


def test_without_quantiles_or_new_advertisers_there_is_nothing_to_say() -> None:
    table = random_table(ROWS, seed=0, labels=True)
    asides = Asides(spec=SPEC, seen=set(table["advertiser_id"].to_pylist()))
    values = np.ones((ROWS, TASKS))
    asides.add(table, Forecasts.single(values), {"point": values, "smape": values})
    assert asides.about() == {}

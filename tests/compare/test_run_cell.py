"""Whole cells: every model of the zoo and every kind of baseline, from a published dataset to error sums."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from m2m_model.config import LossConfig, ModelConfig
from m2m_model.contracts.errors import UserError
from m2m_model.zoo.registry import MODELS
from tests.training.datasets import write_dataset
from tests.training.tiny import MODEL, SPEC
from training.compare.ensembles import Combination, Ensemble
from training.compare.period import answers, period_sums, scenarios_of_test
from training.compare.run_cell import CellJob, Fitted, fit_cell, run_cell
from training.compare.sums import NUMERATORS, SUMS
from training.config import BaselinesConfig, TrainConfig, TrainingConfig
from training.published import parquet_files
from training.scoring import Collect, Forecaster, Scored

WITH_LEVERS = {"offset": "history", "distribution": True, "dense_inputs": True, "history_quartiles": True}
LEVERS = LossConfig(likelihood=0.5, l1=1.0, l1_log=0.5, distribution=0.3)
TEST_ROWS = (40, 0, 30)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("dataset")
    splits = {"validation": [60], "test": TEST_ROWS}
    write_dataset(folder, SPEC, rows_per_day=[80, 80], row_group_rows=20, other_splits=splits)
    return str(folder)


def job(dataset: str, *, model: ModelConfig = MODEL, baseline: str = "", members: int = 1, seed: int = 0) -> CellJob:
    train = TrainConfig(epochs=1, batch_size=32, loss=LEVERS, seed=seed)
    baselines = BaselinesConfig(lightgbm_rounds=5)
    config = TrainingConfig(train=train, baselines=baselines)
    return CellJob(dataset=dataset, model=model, config=config, baseline=baseline, members=members)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_runs_a_cell_with_every_lever(dataset: str, name: str) -> None:
    model = MODEL.model_copy(update={"name": name, **WITH_LEVERS})
    sums, about = run_cell(job(dataset, model=model), tell=lambda line: None)
    assert set(sums.forecasts) == {"mean", "point", "smape"}
    for errors in sums.forecasts.values():
        assert np.isfinite(errors).all()
        eligible_rows = errors[SUMS.index("rows")].sum() / len(SPEC.tasks)
        assert 0 < eligible_rows <= sum(TEST_ROWS)
    assert int(about["parameters"]) > 0


def test_intervals_are_for_labels_of_a_week(tmp_path: Path) -> None:
    fortnight = SPEC.model_copy(update={"horizon": 14})
    write_dataset(
        tmp_path, fortnight, rows_per_day=[8], row_group_rows=8, other_splits={"validation": [8], "test": [8]}
    )
    with pytest.raises(UserError, match=r"must be of 7 days \(sequence.horizon\), however: 14"):
        run_cell(job(str(tmp_path), baseline="last_7_days"), tell=lambda line: None)


@pytest.mark.parametrize("name", ["last_7_days", "exponential_smoothing", "lightgbm_l1_log"])
def test_a_baseline_s_cell(dataset: str, name: str) -> None:
    sums, _ = run_cell(job(dataset, baseline=name, members=2), tell=lambda line: None)
    assert np.isfinite(sums.forecasts["point"]).all()


def test_a_cell_is_a_function_of_its_seed(dataset: str) -> None:
    model = MODEL.model_copy(update=WITH_LEVERS)
    first, again, other = (
        run_cell(job(dataset, model=model, seed=seed, members=2), tell=lambda line: None)[0].forecasts["mean"]
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("baseline", ["", "lightgbm_l1_log", "last_7_days"])
def test_a_refit_keeps_the_rules_of_the_first_fit(dataset: str, baseline: str, tmp_path: Path) -> None:
    model = MODEL.model_copy(update=WITH_LEVERS)
    once = dataclasses.replace(job(dataset, model=model, baseline=baseline, members=2), keep=tmp_path)
    train = once.config.train.model_copy(update={"refit": True})
    anew = dataclasses.replace(once, config=once.config.model_copy(update={"train": train}))
    (first, about), (final, about_final) = (run_cell(cell, tell=lambda line: None) for cell in (once, anew))
    for said in ("rules", "validation_nmae", "validation_smape"):
        assert about[said] == about_final[said]
    same = np.array_equal(first.forecasts["point"], final.forecasts["point"])
    assert same == (baseline == "last_7_days")
    assert len(list(tmp_path.iterdir())) == (0 if baseline == "last_7_days" else 4)


def test_a_combination_averages_its_parts(dataset: str, tmp_path: Path) -> None:
    """On log1p for NMAE; what is said of a distribution is the model's."""
    model = job(dataset, model=MODEL.model_copy(update=WITH_LEVERS), members=2)
    trees = job(dataset, baseline="lightgbm_l1_log", members=2)
    parts = tuple(dataclasses.replace(part, keep=tmp_path) for part in (trees, model))
    both = fit_cell(dataclasses.replace(model, parts=parts), tell=lambda line: None)
    alone = [fit_cell(part, tell=lambda line: None).forecaster for part in parts]
    (entry, *_) = parquet_files(both.manifest, split="test")
    batch = both.source.batch(next(both.source.tables(entry)))
    of_trees, of_model = (forecaster(batch) for forecaster in alone)
    together = both.forecaster(batch)
    np.testing.assert_allclose(together.mean, (of_trees.mean + of_model.mean) / 2)
    np.testing.assert_allclose(1 + together.centre, np.sqrt((1 + of_trees.centre) * (1 + of_model.centre)))
    np.testing.assert_array_equal(together.smape, of_model.smape)
    np.testing.assert_array_equal(together.quantiles, of_model.quantiles)
    sums, about = run_cell(dataclasses.replace(model, parts=parts), tell=lambda line: None)
    assert np.isfinite(sums.forecasts["point"]).all()
    assert "calibration" in about
    assert len(json.loads(about["settings"])["parts"]) == 2


def without_member(fitted: Fitted, forecaster: Forecaster, kind: str) -> np.ndarray:
    """Absolute errors and SMAPE terms of a forecaster that is fitted and summed up like any other: [2, S, M]."""
    validation, test = (parquet_files(fitted.manifest, split=split) for split in ("validation", "test"))
    collect = Collect(source=fitted.source, forecaster=forecaster)
    rules = Scored.concatenate([collect(entry) for entry in validation]).fit_rules(fitted.source.spec)
    answer = answers(fitted.source, forecaster, rules.apply)
    sums = period_sums(fitted.source, answer, test, scenarios=scenarios_of_test(fitted.manifest))
    return sums.forecasts[kind][[SUMS.index(name) for name in NUMERATORS]].sum(axis=(1, 2))


@pytest.mark.parametrize("baseline", ["", "lightgbm_l1_log"])
def test_an_ensemble_tells_its_errors_without_each_member(dataset: str, baseline: str, tmp_path: Path) -> None:
    model = MODEL.model_copy(update=WITH_LEVERS)
    ensemble = dataclasses.replace(job(dataset, model=model, baseline=baseline, members=3), keep=tmp_path)
    fitted, (sums, _) = fit_cell(ensemble, tell=lambda line: None), run_cell(ensemble, tell=lambda line: None)
    assert isinstance(fitted.forecaster, Ensemble)
    for kind in sums.forecasts:
        (part,) = sums.without[kind]
        assert part.shape == (3, 2, 2, len(sums.scenarios), len(sums.tasks))
        for member in range(3):
            others = [one for number, one in enumerate(fitted.forecaster.members) if number != member]
            expected = without_member(fitted, Ensemble(members=tuple(others)), kind)
            np.testing.assert_allclose(part[member].sum(axis=1), expected, rtol=1e-9)
    assert not run_cell(job(dataset, model=model, baseline=baseline), tell=lambda line: None)[0].without


def test_a_combination_tells_its_errors_without_each_member_of_each_part(dataset: str, tmp_path: Path) -> None:
    model = job(dataset, model=MODEL.model_copy(update=WITH_LEVERS), members=2)
    trees = job(dataset, baseline="lightgbm_l1_log", members=3)
    parts = tuple(dataclasses.replace(part, keep=tmp_path) for part in (model, trees))
    both = dataclasses.replace(model, parts=parts)
    fitted, (sums, _) = fit_cell(both, tell=lambda line: None), run_cell(both, tell=lambda line: None)
    assert isinstance(fitted.forecaster, Combination)
    assert [len(part) for part in sums.without["point"]] == [2, 3]
    of_model, of_trees = fitted.forecaster.parts
    fewer = Combination(parts=(of_model, Ensemble(members=of_trees.members[1:])))
    found = sums.without["point"][1][0].sum(axis=1)
    np.testing.assert_allclose(found, without_member(fitted, fewer, "point"), rtol=1e-9)


@pytest.mark.parametrize("baseline", ["", "lightgbm_l1_log"])
def test_an_ensemble_is_made_of_the_single_models_of_other_cells(
    dataset: str, baseline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = MODEL.model_copy(update=WITH_LEVERS)
    single = [
        dataclasses.replace(job(dataset, model=model, baseline=baseline, seed=seed), keep=tmp_path) for seed in (2, 3)
    ]
    for alone in single:
        run_cell(alone, tell=lambda line: None)
    ensemble = job(dataset, model=model, baseline=baseline, seed=1, members=2)
    expected, about = run_cell(ensemble, tell=lambda line: None)
    assert len(list(tmp_path.iterdir())) == 2

    monkeypatch.setattr("training.compare.run_cell._trained", None)
    monkeypatch.setattr("training.compare.run_cell.BASELINES", None)
    found, again = run_cell(dataclasses.replace(ensemble, keep=tmp_path), tell=lambda line: None)
    for forecast, sums in expected.forecasts.items():
        np.testing.assert_array_equal(found.forecasts[forecast], sums)
    assert again.get("parameters") == about.get("parameters")

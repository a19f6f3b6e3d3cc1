"""All kinds of tasks through training's statistics, scoring, rules, metrics and predictions."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from m2m_model.contracts.schema import prediction_schema
from m2m_model.contracts.spec import ExposureSpec
from m2m_model.contracts.store import Folder, Manifest
from m2m_model.zoo.registry import build_model
from tests.training.datasets import write_dataset
from tests.training.tiny import MODEL, SPEC
from training.dataset import label_statistics, open_split
from training.evaluate import Evaluate
from training.forecast import ForecastRules
from training.published import parquet_files
from training.row_sums import RowSums
from training.scoring import Collect, ModelForecaster, Predict, Scored, Source

COUNT, OTHER = SPEC.tasks
MIXED = SPEC.model_copy(
    update={
        "tasks": (
            COUNT,
            OTHER.model_copy(update={"name": "ctr", "kind": "rate", "exposure": ExposureSpec(expr="y", scale=0)}),
            OTHER.model_copy(update={"name": "churn", "kind": "binary", "outcome": "none", "mean_label": 0.9}),
            COUNT.model_copy(update={"name": "spend", "kind": "spend", "scale": 2}),
        )
    }
)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return write_dataset(tmp_path / "data", MIXED, rows_per_day=[40, 30], row_group_rows=16, split="test")


@pytest.fixture
def forecaster() -> ModelForecaster:
    torch.manual_seed(0)
    return ModelForecaster(build_model(MODEL.model_copy(update={"distribution": True, "offset": "history"}), MIXED))


def fitted(scored: Scored) -> ForecastRules:
    return scored.fit_rules(MIXED)


def scored_rows(tmp_path: Path, manifest: Manifest, forecaster: ModelForecaster) -> Scored:
    collect = Collect(source=Source(location=str(tmp_path / "data"), spec=MIXED, batch_size=13), forecaster=forecaster)
    return Scored.concatenate([collect(entry) for entry in parquet_files(manifest)])


def test_label_statistics_are_sums_over_the_split(tmp_path: Path, manifest: Manifest) -> None:
    statistics = label_statistics(open_split(str(tmp_path / "data"), "test"), MIXED)
    rows = [row for f in parquet_files(manifest) for row in pq.read_table(tmp_path / "data" / f.path).to_pylist()]
    assert statistics.rows == len(rows) == 70
    for index, task in enumerate(MIXED.task_names):
        for scenario in range(3):
            total = sum(row[f"label_{task}"] for row in rows if row["scenario_index"] == scenario)
            assert statistics.label_sums[scenario, index].item() == pytest.approx(total)
    exposed = sum(row["exposure_ctr"] for row in rows)
    assert statistics.exposure_sums.tolist() == pytest.approx([70, exposed, 70, 70])


def test_predictions_of_all_kinds(tmp_path: Path, manifest: Manifest, forecaster: ModelForecaster) -> None:
    rules = fitted(scored_rows(tmp_path, manifest, forecaster))
    predict = Predict(
        source=Source(location=str(tmp_path / "data"), spec=MIXED, batch_size=16),
        forecaster=forecaster,
        rules=rules,
        version="v",
        out=str(tmp_path / "out"),
        generation="g",
    )
    file = predict(parquet_files(manifest)[0])
    table = pq.read_table(Folder.at(tmp_path / "out").join(file.path), partitioning=None)
    assert table.schema.equals(prediction_schema(MIXED, quantiles=True))
    assert set(table["churn_point"].to_pylist()) <= {0.0, 1.0}
    low, middle, high = (np.array(table[f"spend_{name}"]) for name in ("p10", "p50", "p90"))
    assert (low <= middle).all()
    assert (middle <= high).all()
    assert "ctr_p50" not in table.column_names


def test_each_kind_of_task_has_its_metrics(tmp_path: Path, manifest: Manifest, forecaster: ModelForecaster) -> None:
    scored = scored_rows(tmp_path, manifest, forecaster)
    rules = fitted(scored)
    evaluate = Evaluate(
        source=Source(location=str(tmp_path / "data"), spec=MIXED, batch_size=9),
        forecaster=forecaster,
        rules=rules,
        model="m2m",
        out=str(tmp_path / "evaluation"),
        generation="g",
    )
    sums = RowSums.empty(MIXED)
    for entry in parquet_files(manifest):
        sums = sums.merge(evaluate(entry)[1])
    whole = RowSums.empty(MIXED)
    whole.add(scored, rules, left_out=None)
    found = {(r.forecast, r.segment, r.scenario, r.task): r for r in sums.error_rows("m2m")}
    for row in whole.error_rows("m2m"):
        same = found[row.forecast, row.segment, row.scenario, row.task]
        assert (row.nmae, row.smape, row.n) == pytest.approx((same.nmae, same.smape, same.n), nan_ok=True)
    assert {task for *_, task in found} == {"units", "ctr", "spend", "overall"}
    chosen = scored.eligible & (scored.scenarios == "a")
    errors = scored.exposures * np.abs(rules.apply(scored.forecasts)["point"] - scored.labels)
    expected = errors[chosen, 1].sum() / (scored.exposures * scored.labels)[chosen, 1].sum()
    assert found["point", "eligible", "a", "ctr"].nmae == pytest.approx(expected)
    assert found["point", "eligible", "a", "ctr"].n == (scored.exposures[chosen, 1] > 0).sum()
    assert {line["task"] for line in sums.outcomes.rows(model="m2m")} == {"churn"}
    assert {line["task"] for line in sums.coverage.rows(model="m2m")} == {"units", "spend"}

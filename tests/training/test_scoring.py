"""Scoring and evaluation: every row once, whatever the batch size, the order and the number of actors."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder, read_manifest
from m2m_model.zoo.registry import build_model
from tests.training.tiny import MODEL, SPEC, publish_tables, random_table, same_rules
from training.cluster import connected
from training.config import ClusterConfig, Precision, PredictConfig
from training.evaluate import evaluate, fit_forecast_rules
from training.forecast import Forecasts
from training.metrics import MetricSums
from training.preflight import check_resources, warn_of_slow_precision
from training.progress import Display
from training.published import parquet_files
from training.scoring import Collect, ModelForecaster, Predict, Scored, Source, knowledge_order, map_files

RULES = same_rules(0.5, 0.9)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterConfig]:
    config = ClusterConfig(cpus_per_worker=1)
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield config
    ray.shutdown()


@pytest.fixture
def forecaster() -> ModelForecaster:
    torch.manual_seed(0)
    return ModelForecaster(build_model(MODEL, SPEC))


def test_an_address_where_nothing_answers_is_named() -> None:
    ray.shutdown()
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1"), connected(ClusterConfig(address="127.0.0.1:1")):
        pass


def dataset(location: Path, *, rows: int = 30) -> Source:
    tables = {
        f"{split}-{part}": (random_table(rows + part, seed=part, labels=True), {"split": split, "dt": "2017-03-01"})
        for split in ("validation", "test")
        for part in range(3)
    }
    publish_tables(str(location), "dataset", tables)
    return Source(location=str(location), spec=SPEC, batch_size=7)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", {"rtol": 1e-5}), ("bf16", {"rtol": 0.05, "atol": 0.05})])
def test_batch_size_and_row_order_do_not_matter(
    tmp_path: Path, precision: Precision, tolerance: dict[str, float]
) -> None:
    """In fp32 beyond rounding, in bf16 beyond its documented bound, which is of the mean."""
    torch.manual_seed(0)
    forecaster = ModelForecaster(build_model(MODEL.model_copy(update={"distribution": True}), SPEC), precision)
    fields = Forecasts._fields if precision == "fp32" else ("mean",)
    table = random_table(41, seed=3, labels=True)
    order = np.random.default_rng(0).permutation(41)
    manifest = publish_tables(str(tmp_path), "dataset", {"a": (table, {}), "b": (table.take(order), {})})
    first, second = parquet_files(manifest)
    scored: list[Scored] = [
        Collect(source=Source(location=str(tmp_path), spec=SPEC, batch_size=size), forecaster=forecaster)(first)
        for size in (1, 7, 100)
    ]
    for other in scored[1:]:
        for name in fields:
            one, same = (getattr(each.forecasts, name) for each in (other, scored[0]))
            np.testing.assert_allclose(one, same, **tolerance, err_msg=name)
        np.testing.assert_array_equal(other.labels, scored[0].labels)
    shuffled = Collect(source=Source(location=str(tmp_path), spec=SPEC, batch_size=7), forecaster=forecaster)(second)
    for name in fields:
        one, same = getattr(shuffled.forecasts, name), getattr(scored[0].forecasts, name)[order]
        np.testing.assert_allclose(one, same, **tolerance, err_msg=name)


def test_bf16_moves_a_forecast_by_less_than_its_documented_bound(forecaster: ModelForecaster) -> None:
    """benchmarks/training.md: .05 x (1 + forecast) of the label's units."""
    batch = Source(location="", spec=SPEC, batch_size=64).batch(random_table(64, seed=5, labels=True))
    exact, rounded = forecaster(batch).mean, ModelForecaster(forecaster.module, "bf16")(batch).mean
    assert not np.array_equal(exact, rounded)
    assert {parameter.dtype for parameter in forecaster.module.parameters()} == {torch.float32}, "rounded is a copy"
    np.testing.assert_allclose(rounded, exact, rtol=0.05, atol=0.05)


def test_rows_of_a_key_are_scored_side_by_side() -> None:
    table = random_table(200, seed=5, labels=True)
    batch = Source(location="", spec=SPEC, batch_size=200).batch(table)
    keys = torch.cat([batch.scenario[:, None], batch.attributes, batch.profile], dim=1)
    order = knowledge_order(batch)
    assert sorted(order.tolist()) == list(range(200))
    assert len(keys[order].unique_consecutive(dim=0)) == len(keys.unique(dim=0)) < 200


def test_a_damaged_file_is_named(tmp_path: Path, forecaster: ModelForecaster) -> None:
    source = dataset(tmp_path)
    (path,) = tmp_path.rglob("test-1.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    entry = next(
        e
        for e in parquet_files(read_manifest(Folder.at(source.location), kind="dataset", build_hint=""))
        if e.path.endswith("test-1.parquet")
    )
    with pytest.raises(UserError, match=r"test-1\.parquet is missing or damaged"):
        Collect(source=source, forecaster=forecaster)(entry)


@pytest.mark.ray
def test_every_row_is_predicted_exactly_once(
    tmp_path: Path, cluster: ClusterConfig, forecaster: ModelForecaster
) -> None:
    tables = {f"part-{n}": (random_table(10 * n + 1, seed=n, labels=False), {"dt": "2017-03-01"}) for n in range(4)}
    manifest = publish_tables(str(tmp_path / "features"), "features", tables)
    predict = Predict(
        source=Source(location=str(tmp_path / "features"), spec=SPEC, batch_size=8),
        forecaster=forecaster,
        rules=RULES,
        version="v",
        out=str(tmp_path / "out"),
        generation="g",
    )
    with Display("prediction", total=manifest.rows) as display:
        files = map_files(predict, parquet_files(manifest), actors=2, cluster=cluster, display=display)
    predicted = pa.concat_tables(
        [pq.read_table(Folder.at(tmp_path / "out").join(file.path), partitioning=None) for file in files]
    )
    given = [key for table, _ in tables.values() for key in table["advertiser_id"].to_pylist()]
    assert sorted(predicted["advertiser_id"].to_pylist()) == sorted(given)
    assert [file.rows for file in files] == [1, 11, 21, 31]
    means, points = (np.array(predicted[f"units_{kind}"]) for kind in ("mean", "point"))
    np.testing.assert_array_equal(points, np.where(means < 0.5, 0, means * 0.9))


@pytest.mark.ray
def test_a_workers_user_error_arrives(tmp_path: Path, cluster: ClusterConfig, forecaster: ModelForecaster) -> None:
    source = dataset(tmp_path)
    entries = parquet_files(read_manifest(Folder.at(source.location), kind="dataset", build_hint=""), split="test")
    next(tmp_path.rglob("test-2.parquet")).unlink()
    with Display("test", total=0) as display, pytest.raises(UserError, match=r"test-2\.parquet"):
        map_files(Collect(source=source, forecaster=forecaster), entries, actors=2, cluster=cluster, display=display)


@pytest.mark.ray
def test_evaluation_publishes_metrics_and_forecasts(
    tmp_path: Path, cluster: ClusterConfig, forecaster: ModelForecaster
) -> None:
    source = dataset(tmp_path / "dataset")
    manifest = read_manifest(Folder.at(source.location), kind="dataset", build_hint="")
    config = PredictConfig(actors=2, batch_size=7)
    validation, test = (parquet_files(manifest, split=split) for split in ("validation", "test"))
    rules = fit_forecast_rules(forecaster, source, validation, name="m2m", config=config, cluster=cluster)
    out = str(tmp_path / "evaluation")
    rows = evaluate(
        {"m2m": (forecaster, rules), "other": (forecaster, RULES)},
        source,
        test,
        out=out,
        model_version="v",
        config=config,
        cluster=cluster,
    )
    published = read_manifest(Folder.at(out), kind="evaluation", build_hint="")
    assert (tmp_path / "evaluation" / "metrics.csv").read_text().count("\n") == len(rows) + 1
    scored = Scored.concatenate([Collect(source=source, forecaster=forecaster)(entry) for entry in test])
    sums = MetricSums(tasks=SPEC.task_names)
    sums.add(
        scored.scenarios, scored.eligible, scored.active_days, rules.apply(scored.forecasts)["point"], scored.labels
    )
    expected = {(r.segment, r.scenario, r.task): r for r in sums.rows(model="m2m", forecast="point")}
    actual = {(r.segment, r.scenario, r.task): r for r in rows if (r.model, r.forecast) == ("m2m", "point")}
    assert actual.keys() == expected.keys()
    for key, row in actual.items():
        assert (row.nmae, row.smape, row.n) == pytest.approx(
            (expected[key].nmae, expected[key].smape, expected[key].n), rel=1e-5, nan_ok=True
        )
    files = parquet_files(published, model="m2m")
    assert sum(file.rows for file in files) == sum(entry.rows for entry in test)


def test_preflight_says_what_is_missing() -> None:
    config = ClusterConfig(workers=3, cpus_per_worker=2)
    with pytest.raises(UserError, match=r"3 training workers of 2 CPU need 6 CPUs.*has 4; 2 missing.*cluster\.workers"):
        check_resources(config, {"CPU": 4.0}, workers=3, what="training workers")
    check_resources(config, {"CPU": 6.0}, workers=3, what="training workers")


def test_bf16_where_it_is_emulated_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    warn_of_slow_precision("bf16", setting="predict.precision")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    warn_of_slow_precision("fp32", setting="predict.precision")
    assert not capsys.readouterr().err
    warn_of_slow_precision("bf16", setting="predict.precision")
    assert 'set predict.precision = "fp32"' in capsys.readouterr().err

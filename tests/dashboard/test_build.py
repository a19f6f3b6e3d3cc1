"""The dashboard's files: explanations against the model itself, one build's data at a time, damage is said."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.dashboard.run import places, publish_run
from tests.training.test_monitor import AS_OF, NIGHT, Day, make_day
from training.checkpoint import load_model
from training.dashboard.advertisers import read_advertisers, similarity
from training.dashboard.build import build_dashboard
from training.dashboard.config import DashboardConfig
from training.dashboard.explain import explain, explainable
from training.nightly.summary import night_folder, read_summary, write_summary
from training.scoring import Source

CONFIG = DashboardConfig(advertisers_per_file=40)


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Day:
    made = make_day(tmp_path_factory.mktemp("run"))
    publish_run(made)
    return made


def test_attention_and_knowledge_are_the_models_own(day: Day) -> None:
    """Row by row through the model's parts: alpha mixes the views into what the tower gets, S~ is what generates."""
    model = load_model(str(day.out / "model"))
    m2m = explainable(model)
    assert m2m is not None
    source = Source(location="", spec=model.spec, batch_size=9)
    batch = source.batch(day.features)
    found = explain(m2m, batch)
    assert found.attention.shape == (len(batch), len(model.spec.tasks), m2m.config.experts)
    assert found.attention.sum(axis=2) == pytest.approx(1.0, abs=1e-5)
    with torch.inference_mode():
        for row in (0, 7, 149):
            trunk = m2m.trunk(batch.select(slice(row, row + 1)))
            mixed = torch.from_numpy(found.attention[row : row + 1]) @ trunk.experts
            parts = [
                m2m.attention(trunk.experts, trunk.tasks[tasks], trunk.knowledge, trunk.runs, unit=unit)
                for unit, tasks in enumerate(m2m.task_groups)
            ]
            assert torch.allclose(mixed, torch.cat(parts, dim=1), atol=1e-5)
            assert found.knowledge[row] == pytest.approx(trunk.knowledge[0].numpy(), abs=1e-5)


def test_files_hold_every_advertisers_rows(day: Day) -> None:
    model = load_model(str(day.out / "model"))
    found = read_advertisers(
        features=str(day.out / f"features/dt={AS_OF}"),
        predictions=str(day.out / f"predictions/dt={AS_OF}"),
        model=model,
        explained_rows=20,
    )
    shown = {name: one for file in found.files(40) for name, one in file.items()}
    rows = {row["advertiser_id"]: row for row in day.features.to_pylist()}
    predicted = {row["advertiser_id"]: row for row in day.predictions.to_pylist()}
    assert shown.keys() == rows.keys()
    for name, one in shown.items():
        assert one["scenarios"] == [rows[name]["scenario_id"]]
        assert one["history"][0][0] == rows[name]["history_units"][4::-1]
        assert one["forecasts"][0][0][0] == pytest.approx(predicted[name]["units_mean"], rel=1e-3)
        assert one["forecasts"][0][0][1] == predicted[name]["units_p10"]
    explained = [name for name, one in shown.items() if one["attention"][0][0][0] is not None]
    assert len(explained) == 20
    sizes = {name: sum(rows[name]["history_units"][:5]) for name in rows}
    assert min(sizes[name] for name in explained) >= sorted(sizes.values())[-20]


def test_likeness_is_the_cosine() -> None:
    found = similarity(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [np.nan, np.nan]]))
    assert found[:3, :3].tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert np.isnan(found[3]).all()


def test_a_new_build_leaves_no_data_of_the_one_before(day: Day) -> None:
    out = day.out / "dashboard"
    first = build_dashboard(places(day.out), str(out), name="tiny", config=CONFIG)
    data = {path.name for path in out.glob("data-*")}
    library = (out / "plotly.min.js").stat()
    assert first.advertisers == 150
    assert first.missing == [
        f"{day.out}/evaluation holds no complete evaluation (no manifest.json): run m2m evaluate first"
    ]
    build_dashboard(places(day.out), str(out), name="tiny", config=CONFIG)
    (live,) = out.glob("data-*")
    assert live.name not in data
    assert all(live.name in (out / page).read_text() for page in ("index.html", "advertiser.html"))
    assert (out / "plotly.min.js").stat().st_mtime_ns == library.st_mtime_ns, "the library is written once"
    text = (live / "overview.js").read_text()
    content = json.loads(text.removeprefix("Dashboard.overview(").removesuffix(");"))
    assert {line["day"] for line in content["errors"]} == {str(AS_OF)}
    assert "https://" not in "".join(path.read_text() for path in out.glob("*.html"))


def test_alerts_are_told_once_and_a_failed_night_is_not_called_good(day: Day, tmp_path: Path) -> None:
    folder = night_folder(str(day.out / "daily"), NIGHT)
    summary = read_summary(folder)
    assert summary is not None
    monitored = day.report().alerts
    try:
        write_summary(folder, summary.model_copy(update={"alerts": (*summary.alerts, *monitored)}))
        page = built_page(day, tmp_path)
        assert page.count("<code>rows_ratio: ") == 1
        assert all(page.count(f"<code>{alert.check}: ") == 1 for alert in monitored)
        write_summary(folder, summary.model_copy(update={"alerts": (), "status": "failed", "exit_code": 11}))
        page = built_page(day, tmp_path)
        assert "Every check passed" not in page
        assert "The night failed before every check was made" in page
    finally:
        write_summary(folder, summary)


def built_page(day: Day, folder: Path) -> str:
    build_dashboard(places(day.out), str(folder), name="tiny", config=CONFIG)
    return (folder / "index.html").read_text()


def test_damage_is_said_and_the_rest_is_shown(day: Day, tmp_path: Path) -> None:
    manifest = day.out / f"monitoring/dt={NIGHT}/manifest.json"
    whole = manifest.read_text()
    manifest.write_text("{")
    try:
        built = build_dashboard(places(day.out), str(tmp_path / "dashboard"), name="tiny", config=CONFIG)
    finally:
        manifest.write_text(whole)
    assert any("is damaged" in line for line in built.missing)
    assert built.advertisers == 150

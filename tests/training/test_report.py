"""The report: its files, its sections and its numbers, from a small evaluation made by the real code."""

import csv
import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from m2m_model.batch import Batch
from m2m_model.contracts.drift import Histograms, feature_sizes
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder, Manifest, data_path, new_generation, publish, read_manifest
from tests.training.tiny import SPEC, publish_tables, random_table, same_rules
from training.baselines.naive import NaiveForecaster, last_7_days, median_5_weeks
from training.correlations import scenario_correlations
from training.evaluate import Evaluate
from training.forecast import Forecasts
from training.metrics import MetricRow, to_csv
from training.report.build import ReportInputs, build_report
from training.report.shuffle import shuffle_cost, swap_attributes
from training.report.tables import Metrics, parse_metrics, shade
from training.row_sums import RowSums
from training.scoring import Forecaster, Source

RULES = same_rules(0.5, 0.9)
SECTIONS = {"run", "headline", "cells", "truth", "scenarios", "training", "correlations", "history", "shuffle"}
SECTIONS |= {"drift", "day"}


class AttributeReader:
    """A forecaster that looks at nothing but the scenario's attribute."""

    quantiles = False

    def __call__(self, batch: Batch) -> Forecasts:
        return Forecasts.single(np.repeat(batch.attributes[:, :1].double().numpy(), len(SPEC.tasks), axis=1))


def with_scenario_attributes(table: pa.Table) -> pa.Table:
    """Attributes that tell the scenario, and labels equal to them: the truth is in the attribute alone."""
    index = table["scenario_index"].to_numpy().astype(int)
    field = table.schema.field("attribute_ids")
    position = table.schema.get_field_index("attribute_ids")
    table = table.set_column(position, field, pa.array((index[:, None]).tolist(), field.type))
    for task in SPEC.task_names:
        name = f"label_{task}"
        table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), pa.array(index * 1.0))
    return table


def publish_files(location: Path, kind: str, files: Mapping[str, bytes], content: Mapping[str, str]) -> str:
    """Publish files whose role is their name; returns the generation."""
    folder, generation = Folder.at(location), new_generation()
    entries = [
        folder.write_bytes(data_path(generation, name), data).model_copy(update={"partition": {"role": name}})
        for name, data in files.items()
    ]
    publish(
        folder,
        Manifest(kind=kind, generation=generation, created_at="", files=tuple(entries), content=dict(content)),
    )
    return generation


def publish_evaluation(out: Path, source: Source, dataset: Manifest, model_version: str) -> list[MetricRow]:
    forecasters: dict[str, Forecaster] = {
        "m2m": NaiveForecaster(rule=median_5_weeks, spec=SPEC),
        "last_7_days": NaiveForecaster(rule=last_7_days, spec=SPEC),
    }
    folder, generation = Folder.at(out), new_generation()
    files, rows = [], []
    for name, forecaster in forecasters.items():
        score = Evaluate(
            source=source, forecaster=forecaster, rules=RULES, model=name, out=str(out), generation=generation
        )
        total = RowSums.empty(SPEC)
        for entry in dataset.select(split="test"):
            file, sums = score(entry)
            files.append(file)
            total = total.merge(sums)
        rows += total.error_rows(name)
    metrics = folder.write_bytes(data_path(generation, "metrics.csv"), to_csv(rows).encode())
    content = {"model_version": model_version, "feature_fingerprint": SPEC.feature_fingerprint}
    entries = (metrics.model_copy(update={"partition": {"role": "metrics"}}), *files)
    publish(folder, Manifest(kind="evaluation", generation=generation, created_at="", files=entries, content=content))
    return rows


def histograms(splits: Sequence[str]) -> Histograms:
    """Of normal-shaped counts, those of each further split moved up by an id."""
    counts = {}
    for move, split in enumerate(splits):
        counts[split] = {
            name: tuple(int(1000 / (1 + (i - move - number % 3) ** 2)) for i in range(size))
            for number, (name, size) in enumerate(feature_sizes(SPEC).items())
        }
    return Histograms(feature_fingerprint=SPEC.feature_fingerprint, newest_days=7, splits=counts)


def publish_run(root: Path, *, rows: int = 60) -> tuple[ReportInputs, list[MetricRow]]:
    tables = {
        f"test-{day}": (random_table(rows, seed=day, labels=True), {"split": "test", "dt": f"2017-03-0{day}"})
        for day in (1, 2)
    }
    dataset = publish_tables(
        str(root / "dataset"), "dataset", tables, histograms=histograms(("train", "validation", "test"))
    )
    epochs = [{"epoch": e, "step": 9 * (e + 1), "train": 1 / (e + 1), "validation": 1.2 / (e + 1)} for e in range(3)]
    training = json.dumps({"epochs": epochs, "best_validation_loss": 0.4, "parameters": 1234}).encode()
    version = publish_files(root / "model", "model", {"training.json": training}, {})
    source = Source(location=str(root / "dataset"), spec=SPEC, batch_size=32)
    metrics = publish_evaluation(root / "evaluation", source, dataset, version)
    forecaster = NaiveForecaster(rule=median_5_weeks, spec=SPEC)
    inputs = ReportInputs(
        name="tiny",
        command="python -m jobs.demo",
        dataset=str(root / "dataset"),
        model=str(root / "model"),
        evaluation=str(root / "evaluation"),
        features=str(root / "features"),
        predictions=str(root / "predictions"),
        shuffle=shuffle_cost(forecaster, RULES, source, dataset.select(split="test")),
    )
    return inputs, metrics


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections: set[str] = set()
        self.sources: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "section":
            self.sections.add(str(values["id"]))
        if tag not in {"meta", "img", "br", "link"}:
            self.open.append(tag)
        self.sources += [str(values[name]) for name in ("src", "href") if name in values]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_has_all_sections_and_needs_nothing_from_outside(tmp_path: Path) -> None:
    inputs, _ = publish_run(tmp_path)
    page = _Page(Path(build_report(inputs, str(tmp_path / "report"))).read_text())
    assert page.sections == SECTIONS
    assert page.open == []
    assert len(page.sources) == 4
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == [
        "index.html",
        "metrics.csv",
        "metrics_by_history.csv",
    ]


def test_a_replayed_dataset_shows_what_late_rows_changed(tmp_path: Path) -> None:
    inputs, _ = publish_run(tmp_path)
    folder = Folder.at(inputs.dataset)
    manifest = read_manifest(folder, kind="dataset", build_hint="")
    differences = [
        {"feature": "performance.sales", "rows": 120, "rows_differing": 0.25, "ids_differing": 0.0625},
        {"feature": "history_units", "rows": 120, "rows_differing": 0.5, "ids_differing": None},
    ]
    publish(folder, manifest.model_copy(update={"content": {"replay_difference": differences}}))
    text = Path(build_report(inputs, str(tmp_path / "report"))).read_text()
    assert _Page(text).sections == SECTIONS | {"replay"}
    for shown in ("performance.sales", "25.00 %", "6.25 %", "history_units", "50.00 %"):
        assert shown in text


def test_metrics_csv_has_exactly_the_headline_columns_and_rows(tmp_path: Path) -> None:
    inputs, metrics = publish_run(tmp_path)
    build_report(inputs, str(tmp_path / "report"))
    with (tmp_path / "report" / "metrics.csv").open() as stream:
        reader = csv.DictReader(stream)
        lines = list(reader)
    assert reader.fieldnames == ["model", "scenario", "task", "forecast", "nmae", "smape", "n"]
    headline = [row for row in metrics if row.segment == "eligible"]
    assert [float(line["nmae"]) for line in lines] == [row.nmae for row in headline]
    assert sum(line["scenario"] == line["task"] == "overall" for line in lines) == 6
    by_history = (tmp_path / "report" / "metrics_by_history.csv").read_text().splitlines()
    assert by_history[0] == "model,segment,scenario,task,forecast,nmae,smape,n"
    assert len(by_history) == 1 + len(metrics)


def test_markup_in_names_stays_text(tmp_path: Path) -> None:
    inputs, _ = publish_run(tmp_path)
    inputs = dataclasses.replace(inputs, name="<script>alert(1)</script>", command='"><img onerror=alert(1)>')
    page = Path(build_report(inputs, str(tmp_path / "report"))).read_text()
    assert "<script" not in page
    assert "<img onerror" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_equal_inputs_give_an_equal_page(tmp_path: Path) -> None:
    inputs, _ = publish_run(tmp_path)
    pages = [Path(build_report(inputs, str(tmp_path / name))).read_text() for name in ("one", "two")]
    assert pages[0] == pages[1]


def test_the_last_published_day_is_shown(tmp_path: Path) -> None:
    inputs, _ = publish_run(tmp_path)
    rows = random_table(4, seed=0, labels=False).select(["advertiser_id", "scenario_id", "as_of"])
    for task in SPEC.task_names:
        rows = rows.append_column(f"{task}_mean", pa.array([1000.0] * 4))
        rows = rows.append_column(f"{task}_point", pa.array([0.0, 1.0, 1.0, 1.0]))
    folder = tmp_path / "predictions" / "dt=2017-03-09"
    manifest = publish_tables(str(folder), "predictions", {"part": (rows, {})})
    publish(Folder.at(folder), manifest.model_copy(update={"content": {"model_version": "v7"}}))
    (tmp_path / "predictions" / "dt=2017-03-10").mkdir()
    page = Path(build_report(inputs, str(tmp_path / "report"))).read_text()
    assert "As of 2017-03-09: 4 rows for 4 advertisers, by model v7" in page
    assert "25 %" in page


def test_an_evaluation_of_another_model_is_refused(tmp_path: Path) -> None:
    inputs, _ = publish_run(tmp_path)
    publish_files(tmp_path / "model", "model", {"training.json": b"{}"}, {})
    with pytest.raises(UserError, match="run m2m evaluate again"):
        build_report(inputs, str(tmp_path / "report"))
    assert not (tmp_path / "report").exists()


def test_shuffling_costs_a_model_that_reads_attributes_and_not_one_that_does_not(tmp_path: Path) -> None:
    table = with_scenario_attributes(random_table(80, seed=5, labels=True))
    dataset = publish_tables(str(tmp_path), "dataset", {"test": (table, {"split": "test", "dt": "2017-03-01"})})
    source = Source(location=str(tmp_path), spec=SPEC, batch_size=16)
    exact = same_rules(0.0, 1.0)
    entries = dataset.select(split="test")
    reads = shuffle_cost(AttributeReader(), exact, source, entries)
    assert reads is not None
    assert reads.true == {"a": 0.0, "b": 0.0}
    assert reads.shuffled == {"a": 1.0, "b": 0.5}
    ignores = shuffle_cost(NaiveForecaster(rule=last_7_days, spec=SPEC), RULES, source, entries)
    assert ignores is not None
    assert ignores.true == ignores.shuffled
    assert "costs nothing in the minor scenarios" in ignores.verdict


def test_rows_whose_donor_is_not_there_are_left_out_of_both() -> None:
    table = with_scenario_attributes(random_table(40, seed=1, labels=True))
    kept, swapped = swap_attributes(table, {"a": "b", "b": "c"})
    assert set(kept["scenario_id"].to_pylist()) == {"a"}
    assert swapped["attribute_ids"].to_pylist() == [[2]] * len(kept)


def test_correlations_are_over_the_same_advertiser_and_day() -> None:
    rows = pa.table(
        {
            "advertiser_id": ["p", "q", "r", "s", "r", "q", "p"],
            "scenario_id": ["a", "a", "a", "a", "b", "b", "b"],
            "as_of": [1] * 7,
            "label_units": [1.0, 2.0, 4.0, 99.0, 5.0, 3.0, 2.0],
        }
    )
    raw, log = scenario_correlations(rows, ["units"], ["a", "b"])
    assert raw[0, 0, 1] == raw[0, 1, 0] == pytest.approx(1.0)
    logs = np.log1p([[1.0, 2.0, 4.0], [2.0, 3.0, 5.0]])
    assert log[0, 0, 1] == pytest.approx(np.corrcoef(logs)[0, 1])


def test_metrics_survive_csv_and_shading_marks_the_best(tmp_path: Path) -> None:
    _, rows = publish_run(tmp_path)
    parsed = parse_metrics(to_csv(rows))
    assert to_csv(parsed) == to_csv(rows)
    assert Metrics(parsed).models == ("m2m", "last_7_days")
    cells = shade([0.5, 0.4, float("nan")])
    assert [cell.text for cell in cells] == ["0.500", "0.400", "–"]
    assert re.fullmatch(r"rgb\(255,255,255\)", cells[1].colour)


def test_drift_has_a_column_per_population_and_the_worst_feature_first(tmp_path: Path) -> None:
    inputs, _ = publish_run(tmp_path)
    day = histograms(("train", "test", "features"))
    day = day.model_copy(update={"splits": {"features": day.splits["features"]}})
    publish_tables(str(tmp_path / "features" / "dt=2017-03-09"), "features", {}, histograms=day)
    page = Path(build_report(inputs, str(tmp_path / "report"))).read_text()
    table = page.split('<section id="drift">')[1].split("</section>")[0]
    assert re.findall(r"<th>(.*?)</th>", table.split("</tr>")[0]) == ["validation", "test", "2017-03-09"]
    rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in table.split("</tr>")[1:] if "<td" in row]
    features = [row[0] for row in rows]
    assert sorted(features) == sorted(feature_sizes(SPEC))
    worst = [max(map(float, row[2:])) for row in rows]
    assert worst == sorted(worst, reverse=True)
    expected = histograms(("train", "test")).drift()["test"]
    found = {row[0]: float(row[2]) for row in rows}
    assert found == {name: round(psi, 3) for name, psi in expected.items()}
    assert table.count("<svg") == len(features)


def test_a_feature_day_of_other_features_is_left_out_of_the_drift(tmp_path: Path) -> None:
    inputs, _ = publish_run(tmp_path)
    other = SPEC.model_copy(update={"horizon": SPEC.horizon + 1})
    publish_tables(str(tmp_path / "features" / "dt=2017-03-09"), "features", {}, other)
    page = Path(build_report(inputs, str(tmp_path / "report"))).read_text()
    assert "2017-03-09" not in page.split('<section id="drift">')[1].split("</section>")[0]

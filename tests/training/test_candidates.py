"""Candidates for a rewarded task."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder, read_manifest
from tests.training.tiny import publish_tables, random_table
from training.candidates import CandidateRule, publish_candidates, select_candidates


def feature_day() -> pa.Table:
    rows = random_table(4, seed=0, labels=False)
    return rows.set_column(4, rows.schema.field("eligible"), pa.array([True, True, True, False]))


def predictions(forecasts: list[float]) -> pa.Table:
    keys = feature_day().select(["advertiser_id", "scenario_id", "as_of"])
    return keys.append_column("days_mean", pa.array(forecasts)).append_column("model_version", pa.array(["v1"] * 4))


def test_candidates_are_active_now_and_forecast_to_fade_lowest_first(tmp_path: Path) -> None:
    publish_tables(str(tmp_path / "features"), "features", {"part": (feature_day(), {})})
    publish_tables(str(tmp_path / "predictions"), "predictions", {"part": (predictions([0.9, 3.0, 0.2, 0.0]), {})})
    manifest = publish_candidates(
        features=str(tmp_path / "features"),
        predictions=str(tmp_path / "predictions"),
        out=str(tmp_path / "candidates"),
        rule=CandidateRule(task="days", below=1.0),
        grace_seconds=0.0,
    )
    assert read_manifest(Folder.at(tmp_path / "candidates"), kind="candidates", build_hint="") == manifest
    table = pq.read_table(tmp_path / "candidates" / manifest.files[0].path, partitioning=None)
    assert table["advertiser_id"].to_pylist() == ["0-2", "0-0"]
    assert table["days_mean"].to_pylist() == [0.2, 0.9]


def test_no_candidates_is_an_empty_day() -> None:
    chosen = select_candidates(feature_day(), predictions([5.0] * 4), CandidateRule(task="days"))
    assert len(chosen) == 0


def test_an_unknown_task_is_named() -> None:
    with pytest.raises(UserError, match=r"must be one of \['days'\], however: 'clicks'"):
        select_candidates(feature_day(), predictions([1.0] * 4), CandidateRule(task="clicks"))

from pathlib import Path

import pytest

from jobs.demo import STEPS, main
from m2m_model.contracts.errors import UserError

CONFIG = Path(__file__).parents[2] / "jobs" / "configs" / "complete_journey.toml"


def test_clean_removes_no_folder_that_is_not_a_run(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"is none \(no \.steps\): remove it yourself"):
        main(["--config", str(CONFIG), "--clean", "--set", f"run.out={tmp_path}"])
    assert (tmp_path / "thesis.txt").exists()


def test_clean_removes_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    (run / STEPS).mkdir(parents=True)
    (run / "old").write_text("")
    monkeypatch.setattr("jobs.demo.FREE_BYTES", 1 << 62)  # stops before the first step
    with pytest.raises(UserError, match="free disk space"):
        main(["--config", str(CONFIG), "--clean", "--set", f"run.out={run}"])
    assert [path.name for path in run.iterdir()] == [STEPS]

from pathlib import Path

import pytest

from jobs.config import RunConfig
from jobs.make_raw import main
from jobs.raw_folder import COMPLETE
from m2m_model.contracts.errors import UserError

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"


def test_complete_tables_are_not_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / COMPLETE).write_text("{}")
    assert main(["--config", str(CONFIGS / "complete_journey.toml"), "--set", f"run.out={tmp_path}"]) == 0
    assert "are complete (--force makes them again)" in capsys.readouterr().out


def test_a_store_elsewhere_is_refused() -> None:
    with pytest.raises(UserError, match=r"local folder, however: run\.out is 's3://bucket/demo'"):
        main(["--config", str(CONFIGS / "complete_journey.toml"), "--set", "run.out=s3://bucket/demo"])


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_named_runs_are_valid_and_apart(path: Path) -> None:
    config = RunConfig.read(path)
    assert config.run.name == path.stem


def test_the_papers_sequences_hold_each_scenario_discretized_only() -> None:
    config = RunConfig.read(CONFIGS / "paper.toml")
    for feature in (*config.features.behavior.values(), *config.features.performance.values()):
        assert (feature.scope, feature.dense) == ("each_scenario", False)
    assert (config.model.dense_inputs, config.model.offset, config.model.share_meta_across_tasks) == (
        False,
        "none",
        False,
    )

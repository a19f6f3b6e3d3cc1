"""Newer tables for a run whose TOML stays, and the statuses that a job ends with."""

import errno
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs import init
from jobs.config import run_job
from jobs.exit_codes import ExitCode
from m2m_model.contracts.errors import UserError
from tests.etl.test_intake import sales
from training.nightly.lock import LockedError


def test_newer_tables_go_where_the_toml_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sales(tmp_path)
    keep = ["sales.csv", "--name", "shop", "--keep-toml"]
    with pytest.raises(UserError, match=r"--keep-toml needs shop\.toml, however: there is none"):
        init.main(keep)
    init.main(["sales.csv", "--name", "shop", "--out", "elsewhere"])
    text = Path("shop.toml").read_text()
    sales(tmp_path, days=70)
    with pytest.raises(UserError, match=r"takes the folder and the time zone of shop\.toml"):
        init.main([*keep, "--out", "other"])
    capsys.readouterr()
    assert init.main(keep) == 0
    said = capsys.readouterr().out
    assert "left shop.toml as it is" in said
    assert "shop.toml goes up to 2024-02-29: set raw.last_day to 2024-03-10" in said
    assert Path("shop.toml").read_text() == text
    assert pq.read_table("elsewhere/raw/performance/part-0.parquet", partitioning=None).num_rows == 70 * 4
    assert not Path("out").exists()
    Path("shop.toml").write_text(text.replace("[run]", '[run]\nraw = "warehouse"'))
    Path("warehouse").mkdir()
    with pytest.raises(UserError, match=r"has its raw tables in warehouse; write the newer ones there yourself"):
        init.main(keep)


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("mend it"), ExitCode.REFUSED, "mend it"),
        (LockedError("x is held by y"), ExitCode.LOCKED, "x is held by y: wait for that process"),
        (OSError(errno.ENOSPC, "No space left"), ExitCode.STORE_FAILED, "the disk is full"),
    ],
)
def test_what_a_retry_can_mend_has_another_status_than_what_a_person_must(
    error: Exception, status: ExitCode, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise error

    assert run_job(fail) is status
    assert f"error: {said}" in capsys.readouterr().err

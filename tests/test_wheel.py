"""What a cluster installs: the packages and their data files, and nothing else."""

import zipfile
from pathlib import Path

from tests.wheel import build_wheel


def test_the_wheel_holds_the_four_packages_and_their_files(tmp_path: Path) -> None:
    names = zipfile.ZipFile(build_wheel(tmp_path)).namelist()
    packages = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert packages == {"etl", "training", "m2m_model", "jobs"}
    assert {"jobs/configs/complete_journey.toml", "jobs/configs/paper.toml", "training/report/report.html"} <= set(
        names
    )

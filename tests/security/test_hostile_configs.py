"""Hostile configs: names that lead elsewhere, credentials and secrets where they would be copied into outputs."""

from pathlib import Path

import pytest

from jobs.config import RunConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder
from tests.contracts.test_config import MINIMAL

SECRET = "s3cr3t/K+y"


def read(tmp_path: Path, *overrides: str, text: str = MINIMAL) -> RunConfig:
    path = tmp_path / "run.toml"
    path.write_text(text)
    return RunConfig.read(path, overrides)


@pytest.mark.parametrize(
    "name", ["../../etc", "/etc/cron.d/x", "a/b", "", ".", "..", "-rf", "a\nb", "a;rm -rf b", "x" * 65]
)
def test_run_names_stay_one_folder(tmp_path: Path, name: str) -> None:
    text = MINIMAL.replace('name = "r"', f"name = {name!r}".replace("'", '"'))
    with pytest.raises(UserError, match=r"run\.name: must be up to 64 letters"):
        read(tmp_path, text=text)


@pytest.mark.parametrize("key", ["run.out", "raw.facts.performance.path", "raw.profile.path", "cluster.address"])
@pytest.mark.parametrize(
    "location",
    [
        f"s3://KEY:{SECRET}@bucket/run",
        f"s3://KEY:{SECRET.replace('/', '%2F')}@bucket/run",
        "s3://KEY@bucket/run",
        f"s3://bucket/run?secret_key={SECRET}",
        f"s3://bucket/run?access_key=KEY&session-token={SECRET}",
    ],
)
def test_locations_with_credentials_are_refused_unseen(tmp_path: Path, key: str, location: str) -> None:
    with pytest.raises(UserError, match="must not carry credentials") as caught:
        read(tmp_path, "raw.profile.key=advertiser_id", f"{key}={location}")
    assert key in str(caught.value)
    assert "KEY" not in str(caught.value).replace("AWS_ACCESS_KEY_ID", "").replace("AWS_SECRET_ACCESS_KEY", "")


def test_a_folder_with_credentials_is_refused_unseen() -> None:
    with pytest.raises(UserError, match="must not carry credentials") as caught:
        Folder.at(f"s3://KEY:{SECRET}@bucket/run")
    assert SECRET not in str(caught.value)


def test_a_location_without_credentials_passes(tmp_path: Path) -> None:
    for location in (
        "s3://bucket/run?endpoint_override=localhost:8333&scheme=http",
        "/data/a@b:c",
        "s3://bucket/day@1",
    ):
        assert read(tmp_path, f"run.out={location}").run.out == location


@pytest.mark.parametrize(
    "key", ["spark.hadoop.fs.s3a.secret.key", "spark.hadoop.fs.s3a.access.key", "spark.ssl.keyPassword", "my.token"]
)
def test_secrets_among_spark_settings_are_refused(tmp_path: Path, key: str) -> None:
    text = MINIMAL + f'[spark.conf]\n"{key}" = "{SECRET}"\n'
    with pytest.raises(UserError, match=r"must not stand in a run's TOML") as caught:
        read(tmp_path, text=text)
    assert SECRET not in str(caught.value)


def test_messages_mask_credentials_wherever_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"s3://\*\*\*@bucket") as caught:
        read(tmp_path, f"s3://KEY:{SECRET}@bucket/run")
    assert SECRET not in str(caught.value)
    assert str(UserError("s3://bucket/x is not there")) == "s3://bucket/x is not there"

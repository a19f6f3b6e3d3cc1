import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3 import BUCKET, s3_server

os.environ["RAY_AUTH_MODE"] = "disabled"  # a token in the home folder would turn it on for some processes
os.environ["SPARK_CONF_DIR"] = str(Path(__file__).parent / "spark")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests that take long come first, so that no worker is left alone with one in the end."""
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def s3_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An S3 server for the whole run; what its clients need in their environment."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server.environment


def use_store(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def s3(s3_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """URI of an empty place on the server, with its credentials, and no others, where they belong: the environment."""
    use_store(s3_environment, monkeypatch)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"

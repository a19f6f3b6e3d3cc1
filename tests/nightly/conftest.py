import pytest

from tests.nightly.run import Run, copy, prepare


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return prepare(tmp_path_factory.mktemp("nightly"))


@pytest.fixture
def run(prepared: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with raw tables, a dataset and a model, and no night yet."""
    return copy(prepared, tmp_path_factory.mktemp("run"))

import pytest
from filelock import FileLock

from tests.nightly.run import Run, copy, prepare


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Run:
    """Made once for all workers of the test run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "nightly"
    with FileLock(f"{folder}.lock"):
        return prepare(folder)


@pytest.fixture
def run(prepared: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with raw tables, a dataset and a model, and no night yet."""
    return copy(prepared, tmp_path_factory.mktemp("run"))

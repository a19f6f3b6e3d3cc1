from collections.abc import Iterator

import pytest
from filelock import FileLock

from tests.nightly.processes import ray_cluster
from tests.nightly.run import Run, copy, prepare


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    with ray_cluster() as address:
        yield address


@pytest.fixture
def run(ray_address: str, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Run:
    """A run with raw tables, a dataset and a model, and no night yet: a copy of one that all workers share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "nightly"
    with FileLock(f"{folder}.lock"):
        prepared = prepare(folder, ray_address)
    return copy(prepared, tmp_path_factory.mktemp("run"))

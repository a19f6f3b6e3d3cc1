from tests.nightly.conftest import ray_address, run

__all__ = ["ray_address", "run"]

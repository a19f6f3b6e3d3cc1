from tests.nightly.conftest import prepared, run

__all__ = ["prepared", "run"]

"""Model tests check every shape and type at run time, on one thread and from a fixed seed."""

import pytest
import torch
from jaxtyping import install_import_hook

TENSOR_MODULES = ("encoder", "layers", "losses", "meta", "output", "sequence", "zoo")
# Takes effect for modules that nothing has imported before.
install_import_hook([f"m2m_model.{name}" for name in TENSOR_MODULES], "beartype.beartype")


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)

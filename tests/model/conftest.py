"""Model tests check every shape and type at run time, on one thread and from a fixed seed."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from m2m_model import zoo

TENSOR_MODULES = (
    *("backbone", "distribution", "encoder", "generated", "history", "layers", "losses", "meta", "model", "output"),
    "sequence",
    *(f"zoo.{module.name}" for module in pkgutil.iter_modules(zoo.__path__)),
)


def check_shapes(module: ModuleType) -> None:
    """Have jaxtyping check the module's functions and methods.

    jaxtyping's import hook would do it only for modules not yet imported, and tests collected earlier import these.
    """
    classes = [c for c in vars(module).values() if inspect.isclass(c) and c.__module__ == module.__name__]
    for owner in (module, *classes):
        for name, member in list(vars(owner).items()):
            own = inspect.isfunction(member) and member.__module__ == module.__name__
            if own and "return" in member.__annotations__ and not name.startswith("__"):
                setattr(owner, name, jaxtyped(member, typechecker=beartype))


for _name in TENSOR_MODULES:
    check_shapes(importlib.import_module(f"m2m_model.{_name}"))


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)

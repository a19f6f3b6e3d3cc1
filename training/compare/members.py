"""Fitted members of cells, kept in a scratch folder: an ensemble of one study is made of single models of another.

They are pickles, for the machine and the code that wrote them; what is to be kept goes through ``training.checkpoint``.
"""

import hashlib
import os
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from training.scoring import Forecaster


@dataclass(frozen=True, kw_only=True)
class Member:
    forecaster: Forecaster
    fit_seconds: float


def kept_member(folder: Path | None, identity: str, fit: Callable[[], Forecaster]) -> Member:
    """The member that was kept under ``identity`` (all that it depends on), or else ``fit()``, which is kept.

    Without a ``folder`` it is fitted.
    """
    path = folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.pkl" if folder else None
    if path and path.exists():
        with path.open("rb") as stream:
            member = pickle.load(stream)
        assert isinstance(member, Member)
        return member
    started = time.monotonic()
    forecaster = fit()
    member = Member(forecaster=forecaster, fit_seconds=time.monotonic() - started)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(pickle.dumps(member))
        temporary.rename(path)
    return member

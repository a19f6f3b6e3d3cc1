"""Fitted members of cells, kept in a scratch folder: an ensemble of one study is made of single models of another.

A file is a line of JSON, then weights as torch keeps them, or LightGBM's text; nothing in it runs.
"""

import hashlib
import io
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import lightgbm
import torch

from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.zoo.registry import build_model
from training.baselines.lightgbm import LightGbmForecaster
from training.config import Precision
from training.scoring import Forecaster, ModelForecaster


@dataclass(frozen=True, kw_only=True)
class Member:
    forecaster: Forecaster
    fit_seconds: float
    epochs: int | None = None
    """Of a neural model's kept weights."""


class Form(Protocol):
    """How a kind of forecaster is written."""

    def write(self, forecaster: Forecaster) -> bytes: ...

    def read(self, content: bytes) -> Forecaster: ...


@dataclass(frozen=True, kw_only=True)
class WeightsForm:
    """A neural model's."""

    model: ModelConfig
    spec: DatasetSpec
    precision: Precision

    def write(self, forecaster: Forecaster) -> bytes:
        assert isinstance(forecaster, ModelForecaster)
        stream = io.BytesIO()
        torch.save(forecaster.module.state_dict(), stream)
        return stream.getvalue()

    def read(self, content: bytes) -> Forecaster:
        module = build_model(self.model, self.spec)
        module.load_state_dict(torch.load(io.BytesIO(content), weights_only=True))
        return ModelForecaster(module, precision=self.precision)


@dataclass(frozen=True, kw_only=True)
class TreesForm:
    """LightGBM's."""

    name: str
    spec: DatasetSpec

    def write(self, forecaster: Forecaster) -> bytes:
        assert isinstance(forecaster, LightGbmForecaster)
        texts = [booster.model_to_string() if booster is not None else None for booster in forecaster.boosters]
        return json.dumps(texts).encode()

    def read(self, content: bytes) -> Forecaster:
        boosters = (lightgbm.Booster(model_str=text) if text else None for text in json.loads(content))
        return LightGbmForecaster(spec=self.spec, name=self.name, boosters=tuple(boosters))


def kept_member(
    folder: Path | None, identity: str, form: Form | None, fit: Callable[[], tuple[Forecaster, int | None]]
) -> Member:
    """The member that was kept under ``identity`` (all that it depends on), or else ``fit()``, which is kept: the
    forecaster and, of a neural model, its epochs.

    Without a ``folder``, or a ``form`` to keep it in, it is fitted.
    """
    name = f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.member"
    if folder and form and (folder / name).exists():
        head, _, content = (folder / name).read_bytes().partition(b"\n")
        return Member(forecaster=form.read(content), **json.loads(head))
    started = time.monotonic()
    forecaster, epochs = fit()
    member = Member(forecaster=forecaster, fit_seconds=time.monotonic() - started, epochs=epochs)
    if folder and form:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{name}.{os.getpid()}.tmp"
        said = {"fit_seconds": member.fit_seconds, "epochs": epochs}
        temporary.write_bytes(json.dumps(said).encode() + b"\n" + form.write(forecaster))
        temporary.rename(folder / name)
    return member

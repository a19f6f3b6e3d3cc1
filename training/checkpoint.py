"""Checkpoints of a training run, and the published model.

A checkpoint is a folder: ``model.pt``, ``optimizer.pt`` and ``best.pt`` (tensors, ``best.pt`` once an epoch is
complete), ``spec.json``, ``config.json``, and ``state.json``, written last, with the loop's state and the checksums of
the other files: a checkpoint without it is not one.
"""

import datetime
import hashlib
import io
import json
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from m2m_model.config import ModelConfig
from m2m_model.contracts.config import parse
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.contracts.store import (
    FileEntry,
    Folder,
    Manifest,
    data_path,
    new_generation,
    publish,
    read_manifest,
    remove_superseded,
)
from m2m_model.model import Model
from m2m_model.zoo.registry import build_model
from training.config import TrainingConfig
from training.forecast import ForecastRules
from training.loop import EpochLosses, LoopState, Snapshot

STATE, SPEC, CONFIG = "state.json", "spec.json", "config.json"
MODEL, OPTIMIZER, BEST = "model.pt", "optimizer.pt", "best.pt"
FORECAST_RULES, TRAINING = "forecast_rules.json", "training.json"
KIND = "model"


def run_content(model: ModelConfig, config: TrainingConfig, *, dataset_generation: str) -> dict[str, Any]:
    """What determines the course of a training run, beside the spec; a checkpoint resumes only into the same."""
    return {
        "model": model.model_dump(mode="json"),
        "train": config.train.model_dump(mode="json"),
        "reader": config.reader.model_dump(mode="json"),
        "dataset_generation": dataset_generation,
    }


def run_hash(content: Mapping[str, Any], spec: DatasetSpec) -> str:
    text = json.dumps([content, spec.to_json()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def save_checkpoint(folder: Path, snapshot: Snapshot, spec: DatasetSpec, content: Mapping[str, Any]) -> None:
    """Write a checkpoint into ``folder``, which exists."""
    files = {
        MODEL: _tensor_bytes(snapshot.model),
        OPTIMIZER: _tensor_bytes(snapshot.optimizer),
        SPEC: spec.to_json().encode(),
        CONFIG: _json_bytes(content),
    }
    if snapshot.best is not None:
        files[BEST] = _tensor_bytes(snapshot.best)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    checksums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    (folder / STATE).write_bytes(_json_bytes({"loop": asdict(snapshot.state), "sha256": checksums}))


def load_checkpoint(folder: Folder, spec: DatasetSpec, content: Mapping[str, Any]) -> Snapshot:
    """Read a checkpoint for going on with it.

    Raises:
        UserError: it is damaged or incomplete, or belongs to another spec or configuration.
        OSError: the storage does not give it now.
    """
    try:
        state = json.loads(folder.read_bytes(STATE))
        loop = _loop_state(state["loop"])
        # Its names are not to be trusted with opening files.
        names = [name for name in (MODEL, OPTIMIZER, SPEC, CONFIG, BEST) if name != BEST or BEST in state["sha256"]]
        files = {name: folder.read_bytes(name) for name in names}
        checksums = {name: state["sha256"][name] for name in names}
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder.uri, repr(error)) from None
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != checksums[name]:
            raise _damaged(folder.uri, f"{name} has another checksum")
    stored = DatasetSpec.from_json(files[SPEC].decode(), source=f"{folder.uri}/{SPEC}")
    if stored != spec:
        raise UserError(
            f"checkpoint {folder.uri} was trained on spec {stored.feature_fingerprint}, this dataset has "
            f"{spec.feature_fingerprint} or other label statistics: train without --resume, or restore the dataset"
        )
    if differing := _differing(files[CONFIG], content, f"{folder.uri}/{CONFIG}"):
        raise UserError(
            f"checkpoint {folder.uri} was made with another {', '.join(differing)}: train without --resume, "
            "or restore the configuration"
        )
    return Snapshot(
        model=_load_tensors(files[MODEL], f"{folder.uri}/{MODEL}"),
        optimizer=_load_tensors(files[OPTIMIZER], f"{folder.uri}/{OPTIMIZER}"),
        state=loop,
        best=_load_tensors(files[BEST], f"{folder.uri}/{BEST}") if BEST in files else None,
    )


def newest_first(folders: Iterable[Folder]) -> list[Folder]:
    """The complete checkpoints among ``folders``, most steps first; those without a whole state are passed over.

    Raises:
        OSError: the storage does not give a state now.
    """
    steps = {}
    for folder in folders:
        try:
            loop = json.loads(folder.read_bytes(STATE))["loop"]
            steps[folder] = (int(loop["step"]), int(loop["epoch"]))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            continue
    return sorted(steps, key=lambda folder: steps[folder], reverse=True)


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A published model, ready to forecast."""

    module: Model
    spec: DatasetSpec
    rules: ForecastRules
    name: str
    """Its key in the zoo."""
    version: str
    """Generation id of the published model."""


def publish_model(
    location: str,
    *,
    snapshot: Snapshot,
    spec: DatasetSpec,
    content: Mapping[str, Any],
    rules: ForecastRules,
    grace_seconds: float,
    cards: Mapping[str, str] | None = None,
) -> Manifest:
    """Publish the best weights with all that predicting needs; readers see all of it or the previous model.

    ``cards``: pages for people, by file name (:mod:`training.cards`); copies of the live model's lie beside its
    manifest.
    """
    folder, generation = Folder.at(location), new_generation()
    weights = snapshot.best if snapshot.best is not None else snapshot.model
    training = {
        "epochs": [asdict(losses) for losses in snapshot.state.history],
        "best_validation_loss": snapshot.state.best_loss,
        "parameters": sum(tensor.numel() for tensor in weights.values()),
    }
    files = {
        MODEL: _tensor_bytes(weights),
        SPEC: spec.to_json().encode(),
        CONFIG: _json_bytes(content),
        TRAINING: _json_bytes(training),
        FORECAST_RULES: _json_bytes(rules.model_dump(mode="json")),
    }
    pages = {name: text.encode() for name, text in (cards or {}).items()}
    entries: list[FileEntry] = []
    for name, data in (files | pages).items():
        entry = folder.write_bytes(data_path(generation, name), data)
        entries.append(entry.model_copy(update={"partition": {"role": name}}))
    created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    manifest = Manifest(kind=KIND, generation=generation, created_at=created, files=tuple(entries))
    publish(folder, manifest)
    for name, data in pages.items():
        folder.replace_bytes(name, data)
    remove_superseded(folder, live=generation, grace_seconds=grace_seconds)
    return manifest


def load_model(location: str) -> LoadedModel:
    """Load the live model of a published folder.

    Raises:
        UserError: there is none, or it is damaged.
    """
    folder = Folder.at(location)
    manifest = read_manifest(folder, kind=KIND, build_hint="run m2m train first")
    files = {}
    for entry in manifest.files:
        files[entry.partition.get("role", "")] = folder.read_file(entry, hint="train again")
    try:
        spec = DatasetSpec.from_json(files[SPEC].decode(), source=f"{location}/{SPEC}")
        config = parse(ModelConfig, json.loads(files[CONFIG])["model"], source=f"{location}/{CONFIG}")
        rules = ForecastRules.model_validate_json(files[FORECAST_RULES])
        module = build_model(config, spec)
        module.load_state_dict(_load_tensors(files[MODEL], f"{location}/{MODEL}"))
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _damaged(folder.uri, str(error).splitlines()[0]) from None
    module.eval()
    return LoadedModel(module=module, spec=spec, rules=rules, name=config.name, version=manifest.generation)


def _tensor_bytes(tensors: Mapping[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(tensors), buffer)
    return buffer.getvalue()


def _load_tensors(data: bytes, source: str) -> dict[str, Tensor]:
    try:
        loaded: dict[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise _damaged(source, str(error).splitlines()[0]) from None
    if not isinstance(loaded, dict):
        raise _damaged(source, f"it must hold named tensors, however: {type(loaded).__name__}")
    return loaded


def _differing(stored: bytes, content: Mapping[str, Any], source: str) -> list[str]:
    """Keys of a checkpoint's content that are not the same in ``content``."""
    try:
        return [key for key, value in json.loads(stored).items() if content.get(key) != value]
    except (ValueError, AttributeError) as error:
        raise _damaged(source, str(error)) from None


def _loop_state(loop: dict[str, Any]) -> LoopState:
    return LoopState(**{**loop, "history": [EpochLosses(**losses) for losses in loop["history"]]})


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=1) + "\n").encode()


def _damaged(where: str, why: str) -> UserError:
    return UserError(f"{where} is damaged or incomplete ({why}): remove it and resume from another, or train again")

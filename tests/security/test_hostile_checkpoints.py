"""Hostile checkpoints and models, checksums and all in order: nothing is unpickled, nothing else is opened."""

import hashlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import MANIFEST, Folder
from tests.security.payload import Payload
from tests.training.test_checkpoint import CONTENT, RULES, snapshot
from tests.training.tiny import SPEC
from training.checkpoint import load_checkpoint, load_model, publish_model, save_checkpoint

TENSOR_FILES = ("model.pt", "optimizer.pt", "best.pt")


def saved_by_torch(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_checkpoint(folder, snapshot(), SPEC, CONTENT)
    return folder


def forge(folder: Path, name: str, data: bytes) -> None:
    """Replace a file and its checksum."""
    (folder / name).write_bytes(data)
    state = json.loads((folder / "state.json").read_text())
    state["sha256"][name] = hashlib.sha256(data).hexdigest()
    (folder / "state.json").write_text(json.dumps(state))


def load(folder: Path) -> None:
    load_checkpoint(Folder.at(folder), SPEC, CONTENT)


@pytest.mark.parametrize("name", TENSOR_FILES)
@pytest.mark.parametrize("save", [saved_by_torch, pickle.dumps], ids=["torch", "pickle"])
def test_a_pickle_does_not_run(tmp_path: Path, checkpoint: Path, name: str, save: Any) -> None:
    trace = tmp_path / "trace"
    load(checkpoint)
    forge(checkpoint, name, save({"weight": Payload(trace)}))
    with pytest.raises(UserError, match=f"{name} is damaged"):
        load(checkpoint)
    assert not trace.exists()


@pytest.mark.parametrize("name", TENSOR_FILES)
def test_tensors_must_have_names(checkpoint: Path, name: str) -> None:
    forge(checkpoint, name, saved_by_torch([torch.zeros(1)]))
    with pytest.raises(UserError, match=r"must hold named tensors, however: list"):
        load(checkpoint)


def test_the_list_of_checksums_opens_no_other_file(tmp_path: Path, checkpoint: Path) -> None:
    other = tmp_path / "other"
    other.write_text("private")
    state = json.loads((checkpoint / "state.json").read_text())
    state["sha256"]["../other"] = hashlib.sha256(b"something else").hexdigest()
    (checkpoint / "state.json").write_text(json.dumps(state))
    load(checkpoint)  # as though the line were not there
    del state["sha256"]["spec.json"]
    (checkpoint / "state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="damaged or incomplete"):
        load(checkpoint)


@pytest.mark.parametrize("loop", [{}, {"epoch": 1, "__class__": "x"}, [], None, {"history": [{"epoch": 0}]}])
def test_a_forged_state_is_refused(checkpoint: Path, loop: Any) -> None:
    state = json.loads((checkpoint / "state.json").read_text())
    (checkpoint / "state.json").write_text(json.dumps(state | {"loop": loop}))
    with pytest.raises(UserError, match="damaged or incomplete"):
        load(checkpoint)


@pytest.mark.parametrize("config", [b"[]", b"{", b"null"])
def test_a_forged_config_is_refused(checkpoint: Path, config: bytes) -> None:
    forge(checkpoint, "config.json", config)
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        load(checkpoint)


MODEL_FORGERIES: dict[str, tuple[str, bytes, str]] = {
    "a list for the config": ("config.json", b"[]", "damaged or incomplete"),
    "a model from elsewhere": ("config.json", b'{"model": {"name": "os.system"}}', "must be one of"),
    "a setting that is none": ("config.json", b'{"model": {"hook": "x"}}', "unknown key 'hook'"),
    "another shape": ("config.json", b'{"model": {"embedding_dim": 3}}', "damaged or incomplete"),
    "no rules": ("forecast_rules.json", b"{}", "damaged or incomplete"),
    "no spec": ("spec.json", b"[]", "is not a dataset spec"),
    "numbers for weights": ("model.pt", saved_by_torch({"weight": 1}), "damaged or incomplete"),
}


@pytest.mark.parametrize("case", MODEL_FORGERIES)
def test_a_forged_model_is_refused(tmp_path: Path, case: str) -> None:
    name, data, message = MODEL_FORGERIES[case]
    publish(tmp_path)
    replace(tmp_path, name, data)
    with pytest.raises(UserError, match=message):
        load_model(str(tmp_path))


def test_a_pickle_in_a_model_does_not_run(tmp_path: Path) -> None:
    publish(tmp_path / "model")
    replace(tmp_path / "model", "model.pt", saved_by_torch({"weight": Payload(tmp_path / "trace")}))
    with pytest.raises(UserError, match=r"model\.pt is damaged"):
        load_model(str(tmp_path / "model"))
    assert not (tmp_path / "trace").exists()


def publish(folder: Path) -> None:
    publish_model(str(folder), snapshot=snapshot(), spec=SPEC, content=CONTENT, rules=RULES, grace_seconds=0)


def replace(folder: Path, role: str, data: bytes) -> None:
    """Replace a published file, its size and its checksum."""
    manifest = json.loads((folder / MANIFEST).read_text())
    (entry,) = (file for file in manifest["files"] if file["partition"]["role"] == role)
    (folder / entry["path"]).write_bytes(data)
    entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps(manifest))

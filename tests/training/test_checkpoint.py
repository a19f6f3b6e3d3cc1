"""Checkpoints and the published model: what comes back, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder
from m2m_model.model import parameter_count
from m2m_model.zoo.registry import build_model
from tests.training.tiny import MODEL, SPEC, same_rules
from training.checkpoint import (
    load_checkpoint,
    load_model,
    newest_first,
    publish_model,
    run_content,
    run_hash,
    save_checkpoint,
)
from training.config import TrainConfig, TrainingConfig
from training.loop import EpochLosses, LoopState, Snapshot

CONTENT = run_content(MODEL, TrainingConfig(), dataset_generation="g1")
RULES = same_rules(0.25, 0.9)


def snapshot(step: int = 3) -> Snapshot:
    torch.manual_seed(step)
    module = build_model(MODEL, SPEC)
    optimizer = torch.optim.Adam(module.parameters(), fused=True)
    for parameter in module.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    losses = EpochLosses(epoch=0, step=step, train=0.1 + 0.2, validation=1 / 3)
    state = LoopState(epoch=1, step=step, best_loss=1 / 3, history=[losses], progress=[{"blocks": [1, 2]}])
    best = {name: tensor.clone() + 1 for name, tensor in module.state_dict().items()}
    return Snapshot(model=module.state_dict(), optimizer=optimizer.state_dict(), state=state, best=best)


def test_a_checkpoint_comes_back_bit_identical(tmp_path: Path) -> None:
    saved = snapshot()
    save_checkpoint(tmp_path, saved, SPEC, CONTENT)
    loaded = load_checkpoint(Folder.at(tmp_path), SPEC, CONTENT)
    assert loaded.state == saved.state
    assert all(torch.equal(loaded.model[name], tensor) for name, tensor in saved.model.items())
    assert loaded.best is not None
    assert all(torch.equal(loaded.best[name], tensor) for name, tensor in (saved.best or {}).items())
    for parameter, moments in saved.optimizer["state"].items():
        assert all(torch.equal(loaded.optimizer["state"][parameter][name], value) for name, value in moments.items())


@pytest.mark.parametrize("name", ["model.pt", "optimizer.pt", "best.pt", "spec.json", "config.json"])
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    save_checkpoint(tmp_path, snapshot(), SPEC, CONTENT)
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(bytes(data) if damage == "flip" else path.read_bytes()[:-1])
    with pytest.raises(UserError, match="damaged or incomplete"):
        load_checkpoint(Folder.at(tmp_path), SPEC, CONTENT)


@pytest.mark.parametrize("name", ["state.json", "model.pt"])
def test_a_store_that_does_not_answer_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    save_checkpoint(tmp_path, snapshot(), SPEC, CONTENT)
    read_bytes = Folder.read_bytes

    def silent(folder: Folder, relative: str) -> bytes:
        if relative == name:
            raise OSError("AWS Error NETWORK_CONNECTION: timeout")
        return read_bytes(folder, relative)

    monkeypatch.setattr(Folder, "read_bytes", silent)
    with pytest.raises(OSError, match="timeout"):
        load_checkpoint(newest_first([Folder.at(tmp_path)])[0], SPEC, CONTENT)


def test_a_checkpoint_of_another_spec_or_config_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, snapshot(), SPEC, CONTENT)
    other_spec = SPEC.model_copy(update={"horizon": 14})
    with pytest.raises(UserError, match=f"{SPEC.feature_fingerprint}.*{other_spec.feature_fingerprint}"):
        load_checkpoint(Folder.at(tmp_path), other_spec, CONTENT)
    other = run_content(MODEL, TrainingConfig(train=TrainConfig(seed=9)), dataset_generation="g1")
    with pytest.raises(UserError, match="another train"):
        load_checkpoint(Folder.at(tmp_path), SPEC, other)


def test_complete_checkpoints_are_found_newest_first(tmp_path: Path) -> None:
    folders = []
    for step in (3, 10, 20):
        folder = tmp_path / f"checkpoint_{step}"
        folder.mkdir()
        save_checkpoint(folder, snapshot(step), SPEC, CONTENT)
        folders.append(folder)
    (folders[-1] / "state.json").unlink()
    found = newest_first([Folder.at(folder) for folder in folders])
    assert [Path(folder.path).name for folder in found] == ["checkpoint_10", "checkpoint_3"]
    assert newest_first([Folder.at(tmp_path)]) == []


def test_the_hash_follows_what_determines_training() -> None:
    other = run_content(MODEL, TrainingConfig(train=TrainConfig(seed=1)), dataset_generation="g1")
    newer = run_content(MODEL, TrainingConfig(), dataset_generation="g2")
    assert len({run_hash(content, SPEC) for content in (CONTENT, other, newer)}) == 3


def test_a_published_model_has_the_best_weights(tmp_path: Path) -> None:
    saved = snapshot()
    manifest = publish_model(str(tmp_path), snapshot=saved, spec=SPEC, content=CONTENT, rules=RULES, grace_seconds=0)
    model = load_model(str(tmp_path))
    assert (model.spec, model.rules, model.version) == (SPEC, RULES, manifest.generation)
    assert all(torch.equal(model.module.state_dict()[name], tensor) for name, tensor in (saved.best or {}).items())
    losses = json.loads(next(tmp_path.rglob("training.json")).read_text())
    assert losses["parameters"] == parameter_count(model.module)
    assert losses["epochs"] == [{"epoch": 0, "step": 3, "train": 0.1 + 0.2, "validation": 1 / 3}]


def test_a_missing_or_damaged_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run m2m train first"):
        load_model(str(tmp_path))
    publish_model(str(tmp_path), snapshot=snapshot(), spec=SPEC, content=CONTENT, rules=RULES, grace_seconds=0)
    weights = next(tmp_path.rglob("model.pt"))
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model\.pt"):
        load_model(str(tmp_path))

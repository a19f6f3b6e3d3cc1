"""Rows whose scenario is hidden: what is hidden, from whom, and what it is good for."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor

from m2m_model.batch import Batch
from m2m_model.contracts.spec import MISSING_ID, OUT_OF_VOCABULARY_ID, UNSEEN_SCENARIO, VocabularyFeature
from m2m_model.losses import poisson
from m2m_model.zoo.registry import build_model
from tests.training.tiny import DAY, MODEL, SPEC, publish_tables, random_table
from training.baselines.registry import BASELINES
from training.config import BaselinesConfig, TrainConfig, TrainingConfig
from training.dataset import batch_columns
from training.loop import Loop
from training.readers.base import Progress
from training.scenario_dropout import ATTRIBUTES_DROPPED, drop_scenarios
from training.scoring import Source

WORDS = VocabularyFeature(name="format", expr="format", values=("banner", "text"))
WIDE = SPEC.model_copy(update={"scenario_attributes": (*SPEC.scenario_attributes, WORDS)})
RATES = (1.0, 7.0)
"""Of the first task's labels, by scenario."""


def learnable(rows: int, *, seed: int) -> pa.Table:
    """Labels that only the scenario decides."""
    table = random_table(rows, seed=seed, labels=True)
    rate = np.array(RATES)[table["scenario_index"].to_numpy() - 1]
    labels = pa.array(np.random.default_rng(seed).poisson(rate).astype(float), table.schema.field("label_units").type)
    return table.set_column(table.schema.get_field_index("label_units"), table.schema.field("label_units"), labels)


def batch_of(rows: int, *, seed: int = 0) -> Batch:
    return Batch.from_columns(batch_columns(learnable(rows, seed=seed), SPEC), SPEC)


def unseen(batch: Batch) -> Batch:
    return replace(
        batch,
        scenario=torch.full_like(batch.scenario, UNSEEN_SCENARIO),
        attributes=torch.full_like(batch.attributes, MISSING_ID),
    )


def test_a_hidden_scenario_has_the_ids_of_one_that_training_has_not_seen() -> None:
    plain = batch_of(20_000)
    batch = replace(plain, attributes=torch.cat([plain.attributes, torch.full_like(plain.attributes, 3)], dim=1))
    batch = replace(batch, attributes=batch.attributes.clamp(min=2))
    dropped = drop_scenarios(batch, WIDE, 0.2, np.random.default_rng(1))
    hidden = dropped.scenario == UNSEEN_SCENARIO
    assert hidden.float().mean().item() == pytest.approx(0.2, abs=0.02)
    assert dropped.select(~hidden).attributes.equal(batch.select(~hidden).attributes)
    assert dropped.select(~hidden).scenario.equal(batch.select(~hidden).scenario)
    for column, unknown in enumerate((MISSING_ID, OUT_OF_VOCABULARY_ID)):
        before, after = batch.attributes[hidden, column], dropped.attributes[hidden, column]
        assert (after[after != before] == unknown).all()
        assert (after != before).float().mean().item() == pytest.approx(ATTRIBUTES_DROPPED, abs=0.03)
    for field in fields(Batch):
        if field.name not in ("scenario", "attributes"):
            assert getattr(dropped, field.name) is getattr(batch, field.name)


class OneBatch:
    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    def epoch(self, epoch: int, progress: Sequence[Progress] | None = None) -> Iterator[tuple[Batch, Progress]]:
        yield self.batch, {}


def train(batch: Batch, *, share_meta: bool, loss: Any, **changed: Any) -> Any:
    torch.manual_seed(0)
    model = build_model(MODEL.model_copy(update={"share_meta_across_tasks": share_meta}), SPEC)
    seen: list[Tensor] = []
    trunk = model.body.trunk
    model.body.trunk = lambda rows: seen.append(rows.scenario) or trunk(rows)
    config = TrainConfig(scenario_dropout=0.3, **changed)
    Loop(
        model=model,
        loss=loss,
        spec=SPEC,
        config=config,
        train=OneBatch(batch),
        validation=OneBatch(batch),
        save=lambda snapshot: None,
        tell=lambda event: None,
    ).run()
    return model, seen


@pytest.mark.parametrize("share_meta", [True, False])
def test_the_loss_and_validation_know_the_scenario(share_meta: bool) -> None:
    batch, told = batch_of(64), []
    batch = replace(batch, eligible=torch.ones(64, dtype=torch.bool))

    def loss(output: Tensor, rows: Batch, tasks: slice) -> Tensor:
        told.append(rows.scenario)
        return poisson(output[..., 0], rows.labels[:, tasks]).sum()

    seen = train(batch, share_meta=share_meta, loss=loss, epochs=2)[1]
    assert all(scenario.equal(batch.scenario) for scenario in told)
    steps, validations = seen[::2], seen[1::2]
    assert all((scenario == UNSEEN_SCENARIO).any() for scenario in steps)
    assert not steps[0].equal(steps[1])
    assert all(scenario.equal(batch.scenario) for scenario in validations)


def test_a_model_forecasts_a_new_scenario_from_all_that_it_knows() -> None:
    def loss(output: Tensor, rows: Batch, tasks: slice) -> Tensor:
        return poisson(output[..., 0], rows.labels[:, tasks]).sum()

    options = {"epochs": 150, "learning_rate": 0.02, "early_stopping_patience": 150}
    model, _ = train(batch_of(512), share_meta=True, loss=loss, **options)
    test = batch_of(256, seed=1)
    with torch.inference_mode():
        known, new = (model.eval()(rows)[:, 0, 0].exp() for rows in (test, unseen(test)))
    for index, rate in enumerate(RATES, start=1):
        assert known[test.scenario == index].mean().item() == pytest.approx(rate, rel=0.25)
    assert new.mean().item() == pytest.approx(sum(RATES) / 2, rel=0.25)


def test_trees_forecast_a_new_scenario_from_all_that_they_know(tmp_path: Path) -> None:
    splits = {"train": learnable(3000, seed=1), "validation": learnable(900, seed=2)}
    files = {split: (table, {"split": split, "dt": str(DAY)}) for split, table in splits.items()}
    manifest = publish_tables(str(tmp_path), "dataset", files)
    source = Source(location=str(tmp_path), spec=SPEC, batch_size=1000)
    config = TrainingConfig(
        train=TrainConfig(scenario_dropout=0.3), baselines=BaselinesConfig(lightgbm_rounds=60, lightgbm_inputs=1.0)
    )
    fitted = BASELINES["lightgbm_poisson"](source, manifest, config)
    test = batch_of(500, seed=3)
    known, new = fitted(test).mean[:, 0], fitted(unseen(test)).mean[:, 0]
    for index, rate in enumerate(RATES, start=1):
        assert known[test.scenario == index].mean() == pytest.approx(rate, rel=0.25)
    assert new.mean() == pytest.approx(sum(RATES) / 2, rel=0.25)

"""The loop on its own: exact gradients over uneven ranks, resume after a real kill, early stopping."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from m2m_model.batch import Batch
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.store import Folder
from m2m_model.losses import poisson
from tests.training.ranks import run_ranks
from tests.training.tiny import SPEC, random_table
from training.checkpoint import load_checkpoint, newest_first, save_checkpoint
from training.config import TrainConfig
from training.loop import Event, Loop, Snapshot, blank_row, task_weights
from training.readers.base import Progress
from training.scoring import Source

ROWS, BATCH = 24, 4
CONTENT = {"model": "tiny"}


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, len(SPEC.tasks))

    def forward(self, batch: Batch) -> Tensor:
        out: Tensor = self.head(self.embedding(batch.behavior.long()).mean(dim=(1, 2)))
        return out


def rows() -> Batch:
    table = random_table(ROWS, seed=7, labels=True)
    source = Source(location="", spec=SPEC, batch_size=ROWS)
    return source.batch(table)


class ListReader:
    """Batches of some rows, in an order of the epoch's own; progress holds the number of batches done."""

    def __init__(self, chosen: list[int], batch_size: int = BATCH) -> None:
        self.rows, self.batch_size = rows().select(torch.tensor(chosen, dtype=torch.long)), batch_size

    def epoch(self, epoch: int, progress: Sequence[Progress] | None = None) -> Iterator[tuple[Batch, Progress]]:
        done = max((one["batches"] for one in progress or ()), default=0)
        order = np.random.default_rng(epoch).permutation(len(self.rows))
        for number, start in enumerate(range(0, len(order), self.batch_size), start=1):
            if number > done:
                yield self.rows.select(torch.from_numpy(order[start : start + self.batch_size])), {"batches": number}


def poisson_sum(output: Tensor, batch: Batch, tasks: slice) -> Tensor:
    """Eq. 20 with the default lambda_t."""
    return (poisson(output, batch.labels) * task_weights(SPEC, TrainConfig()).likelihood).sum()


def make_loop(config: TrainConfig, train: Any, **callbacks: Any) -> Loop:
    torch.manual_seed(config.seed)
    quiet = {"save": lambda snapshot: None, "tell": lambda event: None} | callbacks
    return Loop(
        model=Tiny(),
        loss=poisson_sum,
        spec=SPEC,
        config=config,
        train=train,
        validation=ListReader(list(range(0, ROWS, 3))),
        **quiet,
    )


def same(left: Snapshot, right: Snapshot) -> bool:
    def flat(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [part for item in value.values() for part in flat(item)]
        return [value]

    pairs = zip(flat(left.model) + flat(left.optimizer), flat(right.model) + flat(right.optimizer), strict=True)
    equal = all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in pairs)
    return equal and left.state == right.state


def test_training_lowers_the_loss_and_counts_rows() -> None:
    events: list[Event] = []
    config = TrainConfig(epochs=5, early_stopping_patience=5, learning_rate=0.05)
    last = make_loop(config, ListReader(list(range(ROWS))), tell=events.append).run()
    losses = [epoch.validation for epoch in last.state.history]
    assert losses[-1] < losses[0]
    assert [event.rows for event in events if event.validation is not None] == [ROWS] * 5
    assert last.best is not None


def test_the_learning_rate_falls_from_epoch_to_epoch() -> None:
    config = TrainConfig(epochs=3, early_stopping_patience=9, learning_rate=0.05, learning_rate_decay=0.5)
    last = make_loop(config, ListReader(list(range(ROWS)))).run()
    twin = make_loop(config, ListReader(list(range(ROWS))))
    optimizer = torch.optim.Adam(twin.model.parameters(), lr=0.0, betas=config.betas, eps=config.eps)
    for epoch in range(3):
        optimizer.param_groups[0]["lr"] = 0.05 * 0.5**epoch
        for batch, _ in twin.train.epoch(epoch):
            twin._gradient(twin.model, batch, 1 / len(batch), None)
            nn.utils.clip_grad_value_(twin.model.parameters(), config.clip_value)
            optimizer.step()
    for name, weights in twin.model.state_dict().items():
        torch.testing.assert_close(last.model[name], weights, rtol=1e-5, atol=1e-6)


def test_validation_is_over_eligible_rows() -> None:
    class Doubled(ListReader):
        """With each row comes another that is not eligible and has labels beyond all measure."""

        def __init__(self, chosen: list[int]) -> None:
            super().__init__(chosen)
            rows = replace(self.rows, eligible=torch.ones(len(self.rows), dtype=torch.bool))
            other = replace(rows, eligible=~rows.eligible, labels=rows.labels + 1e6)
            self.rows = Batch.concatenate([rows, other])

    chosen = [0, 3, 6, 9]
    config = TrainConfig(epochs=1)
    losses = []
    for reader in (Doubled(chosen), ListReader(chosen)):
        reader.rows = replace(reader.rows, eligible=reader.rows.labels[:, 0] < 1e5)
        loop = make_loop(config, ListReader(list(range(ROWS))))
        loop.validation = reader
        losses.append(loop.run().state.history[0].validation)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_refit_trains_all_epochs_and_keeps_the_last_weights() -> None:
    # Steps this long only make things worse: with validation rows training would stop.
    events: list[Event] = []
    config = TrainConfig(epochs=6, early_stopping_patience=1, learning_rate=1.0)
    loop = make_loop(config, ListReader(list(range(ROWS))), tell=events.append)
    loop.validation = None
    last = loop.run()
    assert [(losses.epoch, losses.validation) for losses in last.state.history] == [(e, None) for e in range(6)]
    assert [event.epoch for event in events if event.ends_epoch] == list(range(6))
    assert len(events) == 6 * (ROWS // BATCH + 1)
    assert last.best is not None
    assert all(torch.equal(weights, last.model[name]) for name, weights in last.best.items())
    whole = make_loop(config.model_copy(update={"early_stopping_patience": 9}), ListReader(list(range(ROWS)))).run()
    assert all(torch.equal(weights, last.model[name]) for name, weights in whole.model.items())
    best = [losses.validation for losses in whole.state.history]
    assert whole.state.best_epochs == 1 + best.index(min(best))


def test_stops_early_and_keeps_the_best_weights() -> None:
    # Steps this long only make things worse.
    config = TrainConfig(epochs=50, early_stopping_patience=2, learning_rate=1.0)
    last = make_loop(config, ListReader(list(range(ROWS)))).run()
    losses = [epoch.validation for epoch in last.state.history]
    assert len(losses) < 50
    assert len(losses) - 1 - int(np.argmin(losses)) == 2
    assert last.state.best_loss == min(losses)


# --- resume -----------------------------------------------------------------------------------------------------------


def train_with_checkpoints(folder: Path, *, die_at: int) -> Snapshot:
    """Train, resuming from the newest checkpoint in ``folder``; kill this very process after step ``die_at``."""
    saved = [0]

    def save(snapshot: Snapshot) -> None:
        saved[0] += 1
        target = folder / f"{snapshot.state.step:06d}-{snapshot.state.epoch}"
        target.mkdir(exist_ok=True)
        save_checkpoint(target, snapshot, SPEC, CONTENT)

    def tell(event: Event) -> None:
        if event.step == die_at and event.validation is None:
            os.kill(os.getpid(), signal.SIGKILL)

    config = TrainConfig(epochs=4, early_stopping_patience=9, checkpoint_every_steps=4, learning_rate_decay=0.5)
    loop = make_loop(config, ListReader(list(range(ROWS))), save=save, tell=tell)
    for newest in newest_first(Folder.at(path) for path in folder.iterdir())[:1]:
        loop.restore(load_checkpoint(newest, SPEC, CONTENT))
    return loop.run()


@pytest.mark.parametrize("die_at", [2, 6, 11, 24])
def test_resume_after_a_kill_ends_bit_identical(tmp_path: Path, die_at: int) -> None:
    broken, unbroken = tmp_path / "broken", tmp_path / "unbroken"
    broken.mkdir()
    unbroken.mkdir()
    code = (
        "import sys, pathlib, torch; torch.set_num_threads(1); from tests.training.test_loop import *; "
        "train_with_checkpoints(pathlib.Path(sys.argv[1]), die_at=int(sys.argv[2]))"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(broken), str(die_at)], check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = train_with_checkpoints(broken, die_at=0)
    expected = train_with_checkpoints(unbroken, die_at=0)
    assert same(resumed, expected)
    assert resumed.best is not None
    assert expected.best is not None
    assert all(torch.equal(resumed.best[name], expected.best[name]) for name in expected.best)


def test_an_epoch_that_starts_over_counts_its_rows_once() -> None:
    class StartsOver(ListReader):
        def epoch(self, epoch: int, progress: Sequence[Progress] | None = None) -> Iterator[tuple[Batch, Progress]]:
            return ((batch, {}) for batch, _ in super().epoch(epoch, None))

    config, saved, events = TrainConfig(epochs=1, checkpoint_every_steps=4), list[Snapshot](), list[Event]()
    reader = StartsOver(list(range(ROWS)))
    make_loop(config, reader, save=saved.append).run()
    assert saved[0].state.rows == 4 * BATCH
    loop = make_loop(config, reader, tell=events.append)
    loop.restore(saved[0])
    last = loop.run()
    assert events[-1].rows == ROWS
    steps = [event.loss * event.rows for event in events if not event.ends_epoch]
    assert last.state.history[0].train == pytest.approx(steps[-1] / ROWS)
    assert last.state.step == 4 + ROWS // BATCH


# --- several ranks ----------------------------------------------------------------------------------------------------


def _rank(rank: int, folder: Path, shares: list[list[int]]) -> None:
    config = TrainConfig(epochs=2, early_stopping_patience=9, l2_network=0.01)
    loop = make_loop(config, ListReader(shares[rank], batch_size=100))
    last = loop.run()
    if rank == 0:
        torch.save({"model": last.model, "train": [e.train for e in last.state.history]}, folder / "out.pt")


@pytest.mark.parametrize(
    "shares",
    [
        [list(range(9)), list(range(9, ROWS))],
        [list(range(ROWS)), []],
        [[], list(range(ROWS))],
    ],
)
def test_uneven_ranks_take_the_step_of_one_worker(tmp_path: Path, shares: list[list[int]]) -> None:
    run_ranks(2, _rank, tmp_path, shares)
    together = torch.load(tmp_path / "out.pt", weights_only=True)
    config = TrainConfig(epochs=2, early_stopping_patience=9, l2_network=0.01)
    alone = make_loop(config, ListReader(list(range(ROWS)), batch_size=100)).run()
    assert together["train"] == pytest.approx([e.train for e in alone.state.history], rel=1e-5)
    for name, weights in alone.model.items():
        torch.testing.assert_close(together["model"][name], weights, rtol=1e-4, atol=1e-6)


def _short_rank(rank: int, folder: Path, shares: list[list[int]]) -> None:
    config = TrainConfig(epochs=1, checkpoint_every_steps=2)
    saved: list[int] = []
    loop = make_loop(config, ListReader(shares[rank], batch_size=3), save=lambda s: saved.append(s.state.step))
    last = loop.run()
    torch.save({"steps": last.state.step, "saved": saved}, folder / f"out{rank}.pt")


def test_a_rank_that_ran_out_goes_on_stepping_and_saving(tmp_path: Path) -> None:
    run_ranks(2, _short_rank, tmp_path, [[0], list(range(1, ROWS))])
    outs = [torch.load(tmp_path / f"out{rank}.pt", weights_only=True) for rank in range(2)]
    assert outs[0] == outs[1] == {"steps": 8, "saved": [2, 4, 6, 8, 8]}


# --- small parts ------------------------------------------------------------------------------------------------------


def test_task_weights_default_to_one_over_the_mean_label() -> None:
    assert [part.tolist() for part in task_weights(SPEC, TrainConfig())] == [[0.25, 0.5], [1.0, 1.0]]
    doubled = task_weights(SPEC, TrainConfig(task_weights={"days": 2.0}))
    assert [part.tolist() for part in doubled] == [[0.25, 0.5], [1.0, 2.0]]
    with pytest.raises(UserError, match="dayz"):
        task_weights(SPEC, TrainConfig(task_weights={"dayz": 3.0}))


def test_blank_row_fits_the_spec() -> None:
    assert len(blank_row(SPEC)) == 1


def test_a_loss_that_is_not_finite_stops_with_advice() -> None:
    loop = make_loop(TrainConfig(), ListReader(list(range(ROWS))))
    with torch.no_grad():
        loop.model.head.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(UserError, match="learning_rate"):
        loop.run()


def test_an_empty_split_is_named() -> None:
    with pytest.raises(UserError, match="train split has no rows"):
        make_loop(TrainConfig(), ListReader([])).run()

"""The training loop: plain torch, one process per rank, no cluster software.

Letters: B rows of a rank's batch, M tasks.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn

from m2m_model.batch import Batch
from m2m_model.contracts.errors import DivergedError, UserError
from m2m_model.contracts.spec import DatasetSpec, task_columns
from m2m_model.losses import TaskWeights
from training.config import TrainConfig
from training.readers.base import Progress, Reader
from training.step import TaskByTask, Update, backward_by_task
from training.sync.base import Synchronizer, total, world
from training.sync.registry import make_synchronizer


@dataclass(frozen=True, kw_only=True)
class EpochLosses:
    epoch: int
    step: int
    train: float
    """Mean over the epoch's rows, the L2 terms left out."""
    validation: float | None
    """None in a refit."""


@dataclass(kw_only=True)
class LoopState:
    """Where training stands; JSON-able, the same on all ranks."""

    epoch: int = 0
    step: int = 0
    progress: list[Progress] | None = None
    """What the ranks' readers had last in an interrupted epoch; None at an epoch's start."""
    loss_sum: float = 0.0
    rows: int = 0
    best_loss: float = math.inf
    epochs_since_best: int = 0
    history: list[EpochLosses] = field(default_factory=list)
    finished: bool = False

    @property
    def best_epochs(self) -> int:
        """After how many epochs the validation loss was best."""
        losses = [losses.validation for losses in self.history if losses.validation is not None]
        return 1 + losses.index(min(losses))


@dataclass(kw_only=True)
class Snapshot:
    """All that a checkpoint holds. ``best`` are the weights of the best validation loss so far, in a refit the last
    epoch's, on rank 0 alone."""

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    state: LoopState
    best: dict[str, Tensor] | None = None


@dataclass(frozen=True, kw_only=True)
class Event:
    """What the loop tells the outside after a step or an epoch."""

    epoch: int
    step: int
    rows: int
    """Rows of this epoch so far, over all ranks."""
    loss: float
    """Mean loss of the epoch so far."""
    ends_epoch: bool = False
    validation: float | None = None
    """After an epoch; None in a refit."""


def blank_row(spec: DatasetSpec) -> Batch:
    """A batch of one row of zeros: what a rank without rows runs through its model, to take part in the step."""
    lengths = {
        "behavior_ids": spec.sequence_length * len(spec.behavior),
        "performance_ids": spec.sequence_length * len(spec.performance),
        "profile_ids": len(spec.profile),
        "attribute_ids": len(spec.scenario_attributes),
        "dense": spec.dense_size,
        **dict.fromkeys(task_columns(spec, "history"), spec.history_size),
    }
    columns = {name: np.zeros((1, length), np.int32) for name, length in lengths.items()}
    return Batch.from_columns(columns | {"scenario_index": np.zeros(1, np.int16)}, spec)


class Loop:
    """Trains ``model`` in place by eq. 19; every rank of the process group makes the same calls.

    How the ranks' steps make one model is the synchronizer's, see :mod:`training.sync.base`.

    Args:
        validation: Rows whose loss says when to stop and which weights are best; None: a refit, which trains all
            ``config.epochs`` and keeps the last weights.
        loss: (the model's output for some tasks of a batch, the batch, these tasks) -> the loss summed over its rows.
        save: called by all ranks after every epoch and every ``checkpoint_every_steps`` steps, where they next meet.
        tell: called on rank 0 after every meeting (each step, where training is synchronous) and epoch.
        sync: what ``config.sync`` names, unless it is there already.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        loss: Callable[[Tensor, Batch, slice], Tensor],
        spec: DatasetSpec,
        config: TrainConfig,
        train: Reader,
        validation: Reader | None,
        save: Callable[[Snapshot], None],
        tell: Callable[[Event], None],
        sync: Synchronizer | None = None,
    ) -> None:
        self.model, self.loss, self.spec, self.config = model, loss, spec, config
        self.train, self.validation = train, validation
        self.save, self.tell = save, tell
        self.rank, self.world = world()
        self.sync = sync or make_synchronizer(model, config)
        self.bf16 = config.precision == "bf16"
        self.state = LoopState()
        self.best: dict[str, Tensor] | None = None
        self.blank = blank_row(spec)

    def restore(self, snapshot: Snapshot) -> None:
        """Continue from a snapshot: as if never interrupted, if the reader can go on within an epoch."""
        self.model.load_state_dict(snapshot.model)
        self.sync.load_optimizer_state(snapshot.optimizer)
        self.state, self.best = snapshot.state, snapshot.best
        if self.state.progress is not None and not any(self.state.progress):  # the epoch's rows come again
            self.state = replace(self.state, progress=None, loss_sum=0.0, rows=0)

    def run(self) -> Snapshot:
        """Train to the last epoch or until validation stops getting better; returns the last snapshot."""
        self.sync.start()
        while not self.state.finished:
            self._train_epoch()
            self._close_epoch(None if self.validation is None else self._validate(self.validation))
            self._save(None)
        return self._snapshot(None)

    def _train_epoch(self) -> None:
        self.model.train()
        state = self.state
        self.sync.set_learning_rate(self.config.learning_rate * self.config.learning_rate_decay**state.epoch)
        batches = iter(self.train.epoch(state.epoch, state.progress))
        progress: Progress | None = None
        while True:
            batch, progress = next(batches, (None, progress))
            met = self.sync.step(batch, self._gradient)
            if met is None:
                continue
            if met.rows == 0:
                return
            before = state.step
            state.step += met.steps
            state.rows += met.rows
            state.loss_sum += met.loss
            if self.rank == 0:
                self.tell(Event(epoch=state.epoch, step=state.step, rows=state.rows, loss=state.loss_sum / state.rows))
            every = self.config.checkpoint_every_steps
            if state.step // every > before // every:
                self._save(progress)

    def _gradient(self, module: nn.Module, batch: Batch | None, scale: float, update: Update | None) -> float:
        """See :data:`training.sync.base.Gradient`."""
        body = getattr(module, "body", None)
        if update is not None and batch is not None and isinstance(body, TaskByTask):
            self.model.zero_grad()
            return self._backward_by_task(body, batch, scale, update) / scale
        self.model.zero_grad(set_to_none=False)
        loss = self._finite(self._loss_sum(module, batch))
        (loss * scale).backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def _backward_by_task(self, body: TaskByTask, batch: Batch, scale: float, update: Update) -> float:
        """The same gradients, of one group of tasks after the other, each updated at once."""
        output: Any = self.model.output

        def loss(views: Float[Tensor, "B N V"], tasks: slice) -> Float[Tensor, ""]:
            parameters = output(views, batch.history, tasks)
            return self._finite(self.loss(parameters, batch, tasks) * scale)

        return backward_by_task(body, batch, loss, update, bf16=self.bf16)

    def _finite(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        if not torch.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss.item()} at step {self.state.step + 1} of epoch {self.state.epoch + 1}: "
                "lower train.learning_rate or set model.offset"
            )
        return loss

    def _loss_sum(self, model: nn.Module, batch: Batch | None) -> Float[Tensor, ""]:
        rows = self.blank if batch is None else batch
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            output: Tensor = model(rows)
        taken = slice(0, 0 if batch is None else len(batch))
        return self.loss(output[taken], rows.select(taken), slice(None))

    def _validate(self, reader: Reader) -> float:
        """Mean loss over the eligible validation rows; ranks may have unequally many, there is no step to agree on."""
        self.model.eval()
        sums = [0.0, 0.0]
        with torch.inference_mode():
            for whole, _ in reader.epoch(0, None):
                batch = whole.select(whole.eligible)
                sums[0] += self._loss_sum(self.model, batch).item()
                sums[1] += len(batch)
        loss, rows = total(sums)
        if not math.isfinite(loss):
            raise DivergedError(
                f"the validation loss is {loss} after epoch {self.state.epoch + 1}: lower train.learning_rate or set "
                "model.offset"
            )
        if rows == 0:
            raise UserError(
                "the validation split has no eligible rows: rebuild the dataset with a longer split.validation"
            )
        return loss / rows

    def _close_epoch(self, validation: float | None) -> None:
        state = self.state
        if state.rows == 0:
            raise UserError("the train split has no rows: rebuild the dataset with a longer split.train")
        train = state.loss_sum / state.rows
        state.history.append(EpochLosses(epoch=state.epoch, step=state.step, train=train, validation=validation))
        if self.rank == 0:
            about = {"epoch": state.epoch, "step": state.step, "rows": state.rows}
            self.tell(Event(**about, loss=train, ends_epoch=True, validation=validation))
        if validation is None or validation < state.best_loss:
            state.best_loss, state.epochs_since_best = math.inf if validation is None else validation, 0
            if self.rank == 0:
                self.best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        else:
            state.epochs_since_best += 1
        state.epoch += 1
        state.progress, state.loss_sum, state.rows = None, 0.0, 0
        stopped = state.epochs_since_best >= self.config.early_stopping_patience
        state.finished = state.epoch >= self.config.epochs or stopped

    def _save(self, progress: Progress | None) -> None:
        everyones: list[Progress | None] = [progress]
        if self.world > 1:
            everyones = [None] * self.world
            dist.all_gather_object(everyones, progress)
        # A rank without a batch since the start or the resume has nothing that the others' progress does not say.
        self.save(self._snapshot([one for one in everyones if one is not None] or None))

    def _snapshot(self, progress: list[Progress] | None) -> Snapshot:
        state = LoopState(**{**vars(self.state), "progress": progress, "history": list(self.state.history)})
        return Snapshot(
            model=self.model.state_dict(), optimizer=self.sync.optimizer_state(), state=state, best=self.best
        )


def task_weights(spec: DatasetSpec, config: TrainConfig) -> TaskWeights:
    """What ``train.task_weights`` says times what makes gradients of log-forecasts of the mean label's size about 1:
    1 / mean training label of a count or rate, its root of a spend, 1 of a binary task or one of only zeros.

    Raises:
        UserError: a weight is configured for a task that the dataset does not have.
    """
    if unknown := sorted(set(config.task_weights) - set(spec.task_names)):
        raise UserError(f"train.task_weights names {unknown[0]!r}, the dataset's tasks are {list(spec.task_names)}")
    powers = {"count": -1.0, "rate": -1.0, "spend": -0.5, "binary": 0.0}
    likelihood = [t.mean_label ** powers[t.kind] if t.mean_label > 0 else 1.0 for t in spec.tasks]
    counts = [config.task_weights.get(name, 1.0) for name in spec.task_names]
    return TaskWeights(torch.tensor(likelihood), torch.tensor(counts))

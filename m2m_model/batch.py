"""A batch of samples as tensors, the only thing that models take.

Letters: B rows, T days, F features of a sequence, P profile features, A scenario attributes, D dense values,
M tasks, H history values of a task (weekly sums, most recent first, then the T-day sum).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec, exposure_columns, task_columns


@dataclass(frozen=True, kw_only=True)
class Batch:
    behavior: Int[Tensor, "B T Fb"]
    performance: Int[Tensor, "B T Fp"]
    profile: Int[Tensor, "B P"]
    attributes: Int[Tensor, "B A"]
    scenario: Int[Tensor, "B"]
    """Scenario index, 0 = unseen in training."""
    eligible: Bool[Tensor, "B"]
    """Rows that forecasts are judged on: what is chosen on validation rows is chosen on these."""
    dense: Float[Tensor, "B D"]
    history: Float[Tensor, "B M H"]
    labels: Float[Tensor, "B M"]
    """Zeros where there are none (prediction)."""
    exposure: Float[Tensor, "B M"]
    """What a rate's label is per; 1 for other tasks and where there are no labels."""

    def __len__(self) -> int:
        return len(self.scenario)

    def select(self, rows: Int[Tensor, "N"] | Bool[Tensor, "B"] | slice) -> Self:
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The rows of one or more batches, in order; a single one is returned as it is."""
        if len(parts) == 1:
            return parts[0]
        return cls(**{field.name: torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)})

    @classmethod
    def from_columns(cls, columns: Mapping[str, np.ndarray], spec: DatasetSpec) -> Self:
        """Build a batch from dataset columns, list columns given as [rows, length] arrays.

        Ids of sequences keep their columns' integer types: widening them takes longer than all else.

        Raises:
            UserError: a list has another length than the spec says, or an id is out of its feature's range.
        """
        rows = len(columns["scenario_index"])

        def ids(name: str, sizes: list[int], steps: int) -> Tensor:
            length = steps * len(sizes)
            flat = np.asarray(columns[name]).reshape(rows, -1) if rows else np.zeros((0, length), np.int32)
            if flat.shape[1] != length:
                raise UserError(f"{name} must have {length} values a row, however: {flat.shape[1]}")
            # Maxima over flat rows, not over the cube's short last axis, which numpy reduces 20 times slower.
            if flat.size and (flat.min() < 0 or (flat.max(axis=0) >= np.tile(sizes, steps)).any()):
                raise UserError(f"{name} holds an id outside its feature's range: dataset and spec do not match")
            return _tensor(flat).view(rows, steps, len(sizes))

        def floats(names: list[str], length: int) -> Tensor:
            made = np.zeros((rows, len(names), length), np.float32)
            for position, name in enumerate(names):
                if name in columns:
                    made[:, position] = np.asarray(columns[name]).reshape(rows, length)
            return torch.from_numpy(made)

        return cls(
            behavior=ids("behavior_ids", [c.size for c in spec.behavior], spec.sequence_length),
            performance=ids("performance_ids", [c.size for c in spec.performance], spec.sequence_length),
            profile=ids("profile_ids", [f.size for f in spec.profile], 1).squeeze(1),
            attributes=ids("attribute_ids", [f.size for f in spec.scenario_attributes], 1).squeeze(1),
            scenario=ids("scenario_index", [len(spec.scenarios) + 1], 1).flatten().int(),
            eligible=_tensor(np.asarray(columns.get("eligible", np.ones(rows)), bool)),
            dense=_tensor(np.asarray(columns["dense"], np.float32).reshape(rows, spec.dense_size)),
            history=floats(list(task_columns(spec, "history")), spec.history_size),
            labels=floats(list(task_columns(spec, "label")), 1).squeeze(2),
            exposure=_exposure(columns, spec, rows),
        )


def _tensor(array: np.ndarray) -> Tensor:
    """Shares the array's memory, but for what belongs to Arrow: torch cannot mark memory as read-only."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _exposure(columns: Mapping[str, np.ndarray], spec: DatasetSpec, rows: int) -> Float[Tensor, "B M"]:
    exposure = torch.ones(rows, len(spec.tasks))
    for index, name in exposure_columns(spec).items():
        if name in columns:
            exposure[:, index] = torch.from_numpy(np.asarray(columns[name], np.float32))
    return exposure

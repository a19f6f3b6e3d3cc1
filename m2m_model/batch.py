"""A batch of samples as tensors, the only thing that models take.

Letters: B rows, T days, F features of a sequence, P profile features, A scenario attributes, D dense values,
M tasks, H history values of a task (weekly sums, most recent first, then the T-day sum).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int
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
    dense: Float[Tensor, "B D"]
    history: Float[Tensor, "B M H"]
    labels: Float[Tensor, "B M"]
    """Zeros where there are none (prediction)."""
    exposure: Float[Tensor, "B M"]
    """What a rate's label is per; 1 for other tasks and where there are no labels."""

    def __len__(self) -> int:
        return len(self.scenario)

    def select(self, rows: Int[Tensor, "N"] | slice) -> Self:
        return type(self)(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    @classmethod
    def from_columns(cls, columns: Mapping[str, np.ndarray], spec: DatasetSpec) -> Self:
        """Build a batch from dataset columns, list columns given as [rows, length] arrays.

        Raises:
            UserError: a list has another length than the spec says, or an id is out of its feature's range.
        """
        rows = len(columns["scenario_index"])

        def ids(name: str, sizes: list[int], steps: int) -> Tensor:
            empty = np.zeros((0, steps * len(sizes)), np.int32)
            array = np.asarray(columns[name]).reshape(rows, -1) if rows else empty
            if array.shape[1] != steps * len(sizes):
                raise UserError(f"{name} must have {steps * len(sizes)} values a row, however: {array.shape[1]}")
            cube = array.reshape(rows, steps, len(sizes))
            if rows and len(sizes) and (cube.min() < 0 or (cube.max(axis=(0, 1)) >= np.array(sizes)).any()):
                raise UserError(f"{name} holds an id outside its feature's range: dataset and spec do not match")
            return torch.from_numpy(cube.astype(np.int32))

        def floats(names: list[str], length: int, dtype: type) -> Tensor:
            parts: list[np.ndarray] = [
                np.asarray(columns[n], dtype=dtype).reshape(rows, length) for n in names if n in columns
            ]
            stacked = np.stack(parts, axis=1) if parts else np.zeros((rows, len(names), length), dtype)
            return torch.from_numpy(stacked.astype(np.float32))

        return cls(
            behavior=ids("behavior_ids", [c.size for c in spec.behavior], spec.sequence_length),
            performance=ids("performance_ids", [c.size for c in spec.performance], spec.sequence_length),
            profile=ids("profile_ids", [f.size for f in spec.profile], 1).squeeze(1),
            attributes=ids("attribute_ids", [f.size for f in spec.scenario_attributes], 1).squeeze(1),
            scenario=torch.from_numpy(np.asarray(columns["scenario_index"]).astype(np.int32)),
            dense=floats(["dense"], spec.dense_size, np.float32).squeeze(1),
            history=floats(list(task_columns(spec, "history")), spec.history_size, np.float64),
            labels=floats(list(task_columns(spec, "label")), 1, np.float64).squeeze(2),
            exposure=_exposure(columns, spec, rows),
        )


def _exposure(columns: Mapping[str, np.ndarray], spec: DatasetSpec, rows: int) -> Float[Tensor, "B M"]:
    exposure = torch.ones(rows, len(spec.tasks))
    for index, name in exposure_columns(spec).items():
        if name in columns:
            exposure[:, index] = torch.from_numpy(np.asarray(columns[name], np.float32))
    return exposure

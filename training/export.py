"""A published model as one file that torch alone can run: ``torch.export``, from Parquet columns to forecasts.

The program takes a row's columns as they lie in a feature day, in the order of ``columns.json`` inside the file, and
gives the forecasts of ``predictions`` in double precision. The number of rows is free. Each row generates its own
weights, since a program cannot follow how the rows of a batch share them (see ``m2m_model.generated``): equal to
rounding, and slower; score a few hundred rows at a time.

Letters: B rows, T days, M tasks, H history values of a task, Q quantiles.
"""

import io
import json
import math
from typing import Any

import torch
from torch import Tensor, nn

from m2m_model.batch import Batch
from m2m_model.contracts.schema import forecast_names
from m2m_model.contracts.spec import AMOUNTS, DatasetSpec, task_columns
from m2m_model.contracts.store import Folder
from m2m_model.model import Model
from training.checkpoint import LoadedModel
from training.forecast import ForecastRules, PointRule

FILE = "model.pt2"
COLUMNS = "columns.json"
"""The file's own description: input columns with types, output columns, model version and fingerprint."""
EXAMPLE_ROWS = 3


class Scorer(nn.Module):
    """A model with its forecast rules.

    Shape:
        columns of B rows, see :func:`input_columns` -> [B, outputs], in the order of ``forecast_names``
    """

    def __init__(self, model: Model, rules: ForecastRules, spec: DatasetSpec) -> None:
        super().__init__()
        self.model, self.spec = model, spec
        for aim, rule in (("point", rules.point), ("smape", rules.smape)):
            for name, values in _rule_tensors(rule).items():
                self.register_buffer(f"{aim}_{name}", values)
        amounts = [index for index, task in enumerate(spec.tasks) if task.kind in AMOUNTS]
        self.register_buffer("amounts", torch.tensor(amounts, dtype=torch.long))
        self.amounts: Tensor

    def forward(self, *columns: Tensor) -> Tensor:
        scenario, behavior, performance, profile, attributes, dense, *history = columns
        tasks, rows = len(self.spec.tasks), scenario.shape[0]
        days = self.spec.sequence_length
        batch = Batch(
            behavior=behavior.view(-1, days, len(self.spec.behavior)),
            performance=performance.view(-1, days, len(self.spec.performance)),
            profile=profile,
            attributes=attributes,
            scenario=scenario.int(),
            eligible=torch.ones(rows, dtype=torch.bool),
            dense=dense,
            history=torch.stack(history, dim=1),
            labels=torch.zeros(rows, tasks),
            exposure=torch.ones(rows, tasks),
        )
        forecasts = self.model.output.forecasts(self.model(batch))
        kinds = [forecasts.mean, self._aimed("point", forecasts.centre), self._aimed("smape", forecasts.smape)]
        parts = [torch.stack(kinds, dim=2).flatten(1)]
        if forecasts.quantiles.shape[2]:
            parts.append(forecasts.quantiles[:, self.amounts].flatten(1))
        return torch.cat(parts, dim=1)

    def _aimed(self, aim: str, values: Tensor) -> Tensor:
        threshold, scale, cap, decides = (
            self.get_buffer(f"{aim}_{name}") for name in ("threshold", "scale", "cap", "decides")
        )
        value = torch.where(decides, 1.0, torch.minimum(scale * values, cap))
        return torch.where(values < threshold, 0.0, value)


def _rule_tensors(rule: PointRule) -> dict[str, Tensor]:
    rules = list(rule.tasks.values())
    return {
        "threshold": torch.tensor([one.threshold for one in rules], dtype=torch.float64),
        "scale": torch.tensor([1.0 if one.scale is None else one.scale for one in rules], dtype=torch.float64),
        "cap": torch.tensor([math.inf if one.cap is None else one.cap for one in rules], dtype=torch.float64),
        "decides": torch.tensor([one.scale is None for one in rules]),
    }


def input_columns(spec: DatasetSpec) -> list[dict[str, Any]]:
    """Columns of a feature day in the program's order: name, type, values per row (None: the column is no list)."""
    lengths = {
        "scenario_index": None,
        "behavior_ids": spec.sequence_length * len(spec.behavior),
        "performance_ids": spec.sequence_length * len(spec.performance),
        "profile_ids": len(spec.profile),
        "attribute_ids": len(spec.scenario_attributes),
    }
    columns = [{"name": name, "type": "int64", "length": length} for name, length in lengths.items()]
    floats = {"dense": spec.dense_size, **dict.fromkeys(task_columns(spec, "history"), spec.history_size)}
    return columns + [{"name": name, "type": "float32", "length": length} for name, length in floats.items()]


def export_model(model: LoadedModel, out: str) -> dict[str, Any]:
    """Write ``model.pt2`` into the folder or URI ``out``, whole or not at all; returns the description inside it."""
    quantiles = model.module.output.bins is not None
    about = {
        "model": model.name,
        "model_version": model.version,
        "feature_fingerprint": model.spec.feature_fingerprint,
        "inputs": input_columns(model.spec),
        "outputs": forecast_names(model.spec, quantiles=quantiles),
    }
    rows = torch.export.Dim("rows", min=1)
    with torch.no_grad():
        program = torch.export.export(
            Scorer(model.module, model.rules, model.spec).eval(),
            _example(model.spec),
            dynamic_shapes={"columns": tuple({0: rows} for _ in about["inputs"])},
        )
    written = io.BytesIO()
    torch.export.save(program, written, extra_files={COLUMNS: json.dumps(about, indent=1)})
    Folder.at(out).replace_bytes(FILE, written.getvalue())
    return about


def _example(spec: DatasetSpec) -> tuple[Tensor, ...]:
    tensors = []
    for column in input_columns(spec):
        kind = torch.int64 if column["type"] == "int64" else torch.float32
        length = () if column["length"] is None else (column["length"],)
        tensors.append(torch.ones(EXAMPLE_ROWS, *length, dtype=kind))
    return tuple(tensors)

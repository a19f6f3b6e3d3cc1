"""Small specs and random batches for model tests."""

from typing import TypeVar

import torch
from torch import nn

from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import (
    ActivitySpec,
    BucketFeature,
    DatasetSpec,
    ExposureSpec,
    SequenceColumn,
    TaskSpec,
    VocabularyFeature,
)

Module = TypeVar("Module", bound=nn.Module)

SMALL = ModelConfig(embedding_dim=4, experts=3, view_dim=6, knowledge_dim=5, meta_layers=2, tower_layers=2)


def make_spec(
    *, length: int = 8, behavior: int = 2, performance: int = 3, tasks: int = 3, weeks: int = 4
) -> DatasetSpec:
    def columns(name: str, count: int) -> tuple[SequenceColumn, ...]:
        return tuple(
            SequenceColumn(
                name=f"{name}{i}", expr="sum(x)", edges=(1.0, 2.0 + i), table=name, scope="own", dense=i == 0
            )
            for i in range(count)
        )

    return DatasetSpec(
        timezone="UTC",
        sequence_length=length,
        horizon=7,
        availability_lag_days=0,
        history_weeks=weeks,
        advertiser_id_type="string",
        scenarios=("display", "feed", "search"),
        behavior=columns("behavior", behavior),
        performance=columns("performance", performance),
        profile=(VocabularyFeature(name="category", expr="category", values=("a", "b")),),
        scenario_attributes=(BucketFeature(name="share", expr="share", edges=(0.5,)),),
        tasks=tuple(
            TaskSpec(
                name=f"task{i}",
                unit="units",
                table="performance",
                expr="x",
                scale=0,
                daily_max=1 if i == 0 else None,
                mean_label=3.0 * (i + 1),
                max_label=7.0 if i == 0 else 100.0,
            )
            for i in range(tasks)
        ),
        activity=ActivitySpec(table="performance", expr="count(*) > 0", min_active_days=1),
    )


def make_mixed_spec(*, weeks: int = 4) -> DatasetSpec:
    """A count, a rate, a binary task and a spend."""
    spec = make_spec(tasks=4, weeks=weeks)
    count, rate, outcome, spend = spec.tasks
    tasks = (
        count,
        rate.model_copy(
            update={"kind": "rate", "exposure": ExposureSpec(expr="y", scale=0), "mean_label": 0.2, "max_label": 1.0}
        ),
        outcome.model_copy(update={"kind": "binary", "outcome": "none", "mean_label": 0.3, "max_label": 1.0}),
        spend.model_copy(update={"kind": "spend", "scale": 2}),
    )
    return spec.model_copy(update={"tasks": tasks})


def shaken(module: Module) -> Module:
    """In double precision, with every parameter random, so that nothing is hidden by a zero."""
    module = module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


def make_batch(spec: DatasetSpec, rows: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Batch:
    """Random valid rows of ``spec``; ids from 0 to the last, labels and history Poisson counts, tenths of them for
    rates, outcomes for binary tasks."""
    random = torch.Generator().manual_seed(seed)

    def ids(sizes: list[int], *shape: int) -> torch.Tensor:
        columns = [torch.randint(0, size, shape, generator=random, dtype=torch.int32) for size in sizes]
        return torch.stack(columns, dim=-1) if sizes else torch.zeros(*shape, 0, dtype=torch.int32)

    history = torch.poisson(torch.full((rows, len(spec.tasks), spec.history_size), 3.0), generator=random)
    labels = torch.poisson(torch.full((rows, len(spec.tasks)), 3.0), generator=random)
    exposure = torch.ones_like(labels)
    for index, task in enumerate(spec.tasks):
        if task.kind == "binary":
            history[:, index], labels[:, index] = history[:, index].clamp(max=1), (labels[:, index] > 2).float()
        elif task.kind == "rate":
            exposure[:, index] = torch.randint(0, 9, (rows,), generator=random)
            history[:, index], labels[:, index] = history[:, index] / 10, labels[:, index] / 10
    return Batch(
        behavior=ids([c.size for c in spec.behavior], rows, spec.sequence_length),
        performance=ids([c.size for c in spec.performance], rows, spec.sequence_length),
        profile=ids([f.size for f in spec.profile], rows),
        attributes=ids([f.size for f in spec.scenario_attributes], rows),
        scenario=torch.randint(0, len(spec.scenarios) + 1, (rows,), generator=random, dtype=torch.int32),
        eligible=torch.rand(rows, generator=random) < 0.7,
        dense=torch.rand(rows, spec.dense_size, generator=random).to(dtype),
        history=history.to(dtype),
        labels=labels.to(dtype),
        exposure=exposure.to(dtype),
    )

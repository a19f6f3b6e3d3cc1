"""Models and batches at the paper's sizes, with a chosen number of distinct knowledge keys.

Letters: B rows, M tasks.
"""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from m2m_model.batch import Batch
from m2m_model.config import LossConfig, ModelConfig
from m2m_model.contracts.spec import ActivitySpec, BucketFeature, DatasetSpec, SequenceColumn, TaskSpec
from m2m_model.losses import JointLoss, LabelStatistics, TaskWeights
from m2m_model.model import Model

SEQUENCE_FEATURES, ATTRIBUTES, BUCKETS = 5, 8, 13
BATCH_ROWS, TASKS = 256, 5


def paper_config(*, shared: bool, tower_layers: int = 2) -> ModelConfig:
    return ModelConfig(share_meta_across_tasks=shared, tower_layers=tower_layers)


def paper_spec() -> DatasetSpec:
    """Two sequences of 40 steps and 5 features, 8 knowledge attributes, 5 tasks."""
    edges = tuple(float(edge) for edge in range(BUCKETS - 3))

    def sequence(name: str) -> tuple[SequenceColumn, ...]:
        return tuple(
            SequenceColumn(name=f"{name}{i}", expr="sum(x)", edges=edges, table=name, scope="own")
            for i in range(SEQUENCE_FEATURES)
        )

    def attributes(name: str) -> tuple[BucketFeature, ...]:
        return tuple(BucketFeature(name=f"{name}{i}", expr=name, edges=edges) for i in range(ATTRIBUTES // 2))

    return DatasetSpec(
        timezone="UTC",
        sequence_length=40,
        horizon=7,
        availability_lag_days=0,
        history_weeks=5,
        advertiser_id_type="string",
        scenarios=("a", "b", "c", "d", "e", "f"),
        behavior=sequence("behavior"),
        performance=sequence("performance"),
        profile=attributes("profile"),
        scenario_attributes=attributes("scenario"),
        tasks=tuple(
            TaskSpec(
                name=f"task{i}", unit="units", table="performance", expr="x", scale=0, mean_label=3.0, max_label=60.0
            )
            for i in range(TASKS)
        ),
        activity=ActivitySpec(table="performance", expr="count(*) > 0", min_active_days=1),
    )


def batch_with_keys(spec: DatasetSpec, keys: np.ndarray, *, seed: int) -> Batch:
    """Random rows of which row i has knowledge key ``keys[i]``, a number below 13^8."""
    random = torch.Generator().manual_seed(seed)
    rows = len(keys)
    digits = torch.from_numpy(keys[:, None] // BUCKETS ** np.arange(ATTRIBUTES) % BUCKETS).int()

    def ids(columns: int) -> Tensor:
        shape = (rows, spec.sequence_length, columns)
        return torch.randint(0, BUCKETS, shape, generator=random, dtype=torch.int32)

    return Batch(
        behavior=ids(len(spec.behavior)),
        performance=ids(len(spec.performance)),
        profile=digits[:, : ATTRIBUTES // 2],
        attributes=digits[:, ATTRIBUTES // 2 :],
        scenario=torch.ones(rows, dtype=torch.int32),
        eligible=torch.ones(rows, dtype=torch.bool),
        dense=torch.zeros(rows, spec.dense_size),
        history=torch.poisson(torch.full((rows, len(spec.tasks), spec.history_size), 3.0), generator=random),
        labels=torch.poisson(torch.full((rows, len(spec.tasks)), 3.0), generator=random),
        exposure=torch.ones(rows, len(spec.tasks)),
    )


def paper_loss(model: Model, weights: Float[Tensor, "M"]) -> JointLoss:
    """Eq. 19 with Poisson losses and these lambda_t."""
    tasks = len(model.output.spec.tasks)
    ones = LabelStatistics(rows=1, label_sums=torch.ones(1, tasks), exposure_sums=torch.ones(tasks))
    return JointLoss(model, LossConfig(), weights=TaskWeights(weights, torch.ones(tasks)), statistics=ones)

"""One LightGBM per task, Poisson objective, on the same rows, the same information and the same offset as the model.

The T * F bucket ids of a sequence are too wide for trees, so each column is summarised by its most recent day and by
its mean level over the last week, the week before and all T days, where the level of an id is 0 for zero or missing
and grows by one a bucket. All else goes in as the model gets it: every dense value, which are the log1p lags and
histories, profile and scenario attributes (words as categories, buckets as levels) and the scenario's index.

Letters: N rows, M tasks, T days, F columns of a sequence, K inputs.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import lightgbm
import numpy as np
from jaxtyping import Float, Int

from m2m_model.batch import Batch
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import ZERO_ID, DatasetSpec
from m2m_model.output import history_rate
from training.baselines.naive import DAYS_OF_A_WEEK, upper_bounds

THREADS = 2
STOPPING_ROUNDS = 20
VALIDATION_SHARE = 4
"""Validation rows are at most the limit on training rows divided by this."""
PARAMETERS = {
    "objective": "poisson",
    "learning_rate": 0.1,
    "num_leaves": 31,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.2,
    "max_bin": 63,
    "force_row_wise": True,
    "deterministic": True,
    "num_threads": THREADS,
    "verbosity": -1,
}


@dataclass(frozen=True, kw_only=True)
class LightGbmForecaster:
    """Boosters by task; None for a task whose training labels are all zero, which it forecasts."""

    spec: DatasetSpec
    boosters: tuple[lightgbm.Booster | None, ...]

    def __call__(self, batch: Batch) -> Float[np.ndarray, "N M"]:
        rows = _Rows.of(batch, self.spec)
        means = np.zeros(rows.labels.shape)
        for task, booster in enumerate(self.boosters):
            if booster is not None and len(batch):
                scores = booster.predict(rows.inputs, raw_score=True, num_threads=THREADS)
                means[:, task] = np.exp(scores + rows.log_offset[:, task])
        bounded: Float[np.ndarray, "N M"] = np.minimum(means, upper_bounds(self.spec))
        return bounded


def fit_lightgbm(
    spec: DatasetSpec,
    train: Iterable[Batch],
    validation: Iterable[Batch],
    *,
    rounds: int,
    max_rows: int,
    seed: int,
    tell: Callable[[str], None] = lambda line: None,
) -> LightGbmForecaster:
    """Train on the first ``max_rows`` rows of ``train``, stopping early on the Poisson loss of ``validation``.

    Raises:
        UserError: a split has no rows.
    """
    learn = _Rows.first(train, spec, max_rows, split="train")
    judge = _Rows.first(validation, spec, max(1, max_rows // VALIDATION_SHARE), split="validation")
    parameters = PARAMETERS | {"seed": seed}
    names = categorical_inputs(spec)
    learn_data = lightgbm.Dataset(learn.inputs, categorical_feature=names, params=parameters)
    judge_data = lightgbm.Dataset(judge.inputs, categorical_feature=names, params=parameters, reference=learn_data)
    boosters: list[lightgbm.Booster | None] = []
    for task, name in enumerate(spec.task_names):
        if not learn.labels[:, task].any():
            boosters.append(None)
            continue
        for data, rows in ((learn_data, learn), (judge_data, judge)):
            data.set_label(rows.labels[:, task].copy()).set_init_score(rows.log_offset[:, task].copy())
        stopping = lightgbm.early_stopping(STOPPING_ROUNDS, verbose=False)
        booster = lightgbm.train(
            parameters, learn_data, num_boost_round=rounds, valid_sets=[judge_data], callbacks=[stopping]
        )
        tell(f"lightgbm_poisson: {name}, {booster.best_iteration} rounds on {len(learn.labels):,} rows")
        boosters.append(booster)
    return LightGbmForecaster(spec=spec, boosters=tuple(boosters))


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What LightGBM needs of some rows."""

    inputs: Float[np.ndarray, "N K"]
    labels: Float[np.ndarray, "N M"]
    log_offset: Float[np.ndarray, "N M"]

    @classmethod
    def of(cls, batch: Batch, spec: DatasetSpec) -> "_Rows":
        return cls(
            inputs=input_matrix(batch),
            labels=batch.labels.numpy(),
            log_offset=history_rate(batch.history.double(), spec).log().numpy(),
        )

    @classmethod
    def first(cls, batches: Iterable[Batch], spec: DatasetSpec, limit: int, *, split: str) -> "_Rows":
        """At most ``limit`` rows; a batch is reduced to its inputs before the next is read."""
        parts, count = [], 0
        for batch in batches:
            parts.append(cls.of(batch.select(slice(0, limit - count)), spec))
            count += len(parts[-1].labels)
            if count == limit:
                break
        if not count:
            raise UserError(f"baseline lightgbm_poisson needs rows, however: the {split} split has none")
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def input_matrix(batch: Batch) -> Float[np.ndarray, "N K"]:
    """Single-precision inputs: scenario, profile, attributes, sequence summaries, dense values, in this order."""
    ids = [batch.scenario.numpy()[:, None], batch.profile.numpy(), batch.attributes.numpy()]
    summaries = [
        summary for sequence in (batch.behavior, batch.performance) for summary in _summaries(sequence.numpy())
    ]
    return np.concatenate([*ids, *summaries, batch.dense.numpy()], axis=1, dtype=np.float32)


def categorical_inputs(spec: DatasetSpec) -> list[int]:
    """Columns of :func:`input_matrix` whose numbers have no order: the scenario and the words of vocabularies."""
    features = (*spec.profile, *spec.scenario_attributes)
    return [0, *(1 + position for position, feature in enumerate(features) if feature.kind == "vocabulary")]


def _summaries(ids: Int[np.ndarray, "N T F"]) -> list[Float[np.ndarray, "N F"]]:
    """Most recent day's level, and the mean levels of the last week, of the week before and of all days."""
    levels = np.maximum(ids - ZERO_ID, 0).astype(np.float32)
    week, before = levels[:, -DAYS_OF_A_WEEK:], levels[:, -2 * DAYS_OF_A_WEEK : -DAYS_OF_A_WEEK]
    means = [part.mean(axis=1) for part in (week, before, levels) if part.shape[1]]
    return [levels[:, -1], *means]

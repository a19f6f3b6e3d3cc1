"""One LightGBM per task, on the same rows, the same information and the same offset as the models.

The T * F bucket ids of a sequence are too wide for trees, so each column is summarised by its most recent day and by
its mean level over the last week, the week before and all T days, where the level of an id is 0 for zero or missing
and grows by one a bucket. All else goes in as the models get it: every dense value, which are the log1p lags and
histories, the quartiles of the weekly values, profile and scenario attributes (words as categories, buckets as levels)
and the scenario's index.

Letters: N rows, M tasks, T days, F columns of a sequence, K inputs.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import lightgbm
import numpy as np
import torch
from jaxtyping import Float, Int

from m2m_model.batch import Batch
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import AMOUNTS, ZERO_ID, DatasetSpec, TaskSpec
from m2m_model.history import recent_level, weekly_quartiles
from m2m_model.output import log_ceiling
from training.baselines.naive import DAYS_OF_A_WEEK, upper_bounds
from training.config import BaselinesConfig
from training.forecast import Forecasts

STOPPING_ROUNDS = 20
VALIDATION_SHARE = 4
"""Validation rows are at most the limit on training rows divided by this."""
FIXED = {
    "max_bin": 63,
    "force_col_wise": True,
    "deterministic": True,
    "verbosity": -1,
}


def _same(values: np.ndarray) -> np.ndarray:
    return values


def _sigmoid(values: np.ndarray) -> np.ndarray:
    result: np.ndarray = 1 / (1 + np.exp(-values))
    return result


def _logit(values: np.ndarray) -> np.ndarray:
    result: np.ndarray = np.log(values / (1 - values))
    return result


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is fitted: ``link(target) = offset + trees``, with the offset on the link's scale."""

    parameters: Mapping[str, Any]
    link: Callable[[np.ndarray], np.ndarray]
    inverse: Callable[[np.ndarray], np.ndarray]
    target: Callable[[np.ndarray], np.ndarray] = field(default=_same)
    floor: float = 0.0
    """Added to the level of an amount before the link, in mean labels of the task."""

    def offset(self, levels: np.ndarray, task: TaskSpec) -> np.ndarray:
        return self.link(levels + self.floor * task.mean_label if task.kind in AMOUNTS else levels)


LOG_LINK_FLOOR = 0.1
"""Added to the level of amounts under a log link, in mean labels. A leaf takes Newton steps of about half of mean label
over mean forecast: from a level of 0.1, to some money after none, the first leads beyond what a double holds."""
OBJECTIVES = {
    "lightgbm_poisson": Objective(
        parameters={"objective": "poisson"}, link=np.log, inverse=np.exp, floor=LOG_LINK_FLOOR
    ),
    "lightgbm_tweedie": Objective(
        parameters={"objective": "tweedie"}, link=np.log, inverse=np.exp, floor=LOG_LINK_FLOOR
    ),
    "lightgbm_l1": Objective(parameters={"objective": "regression_l1"}, link=_same, inverse=_same),
    "lightgbm_l1_log": Objective(
        parameters={"objective": "regression_l1"}, link=np.log1p, inverse=np.expm1, target=np.log1p
    ),
}
"""By the baseline's name, for counts and spends; rates are always Poisson per exposure."""
BINARY = Objective(parameters={"objective": "binary"}, link=_logit, inverse=_sigmoid)


@dataclass(frozen=True, kw_only=True)
class LightGbmForecaster:
    """Boosters by task; None for a task whose training labels are all zero, which it forecasts."""

    spec: DatasetSpec
    name: str
    boosters: tuple[lightgbm.Booster | None, ...]
    quantiles: bool = False

    def __call__(self, batch: Batch) -> Forecasts:
        rows = _Rows.of(batch, self.spec)
        forecasts = np.zeros(rows.labels.shape)
        for index, booster in enumerate(self.boosters):
            if booster is not None and len(batch):
                objective = objective_of(self.spec.tasks[index], self.name)
                scores = booster.predict(rows.inputs, raw_score=True, num_threads=torch.get_num_threads())
                forecasts[:, index] = objective.inverse(
                    scores + objective.offset(rows.levels[:, index], self.spec.tasks[index])
                )
        largest = np.exp([log_ceiling(task, self.spec) for task in self.spec.tasks])
        return Forecasts.single(np.clip(forecasts, 0.0, np.minimum(largest, upper_bounds(self.spec))))


def objective_of(task: TaskSpec, name: str) -> Objective:
    if task.kind == "binary":
        return BINARY
    return OBJECTIVES["lightgbm_poisson" if task.kind == "rate" else name]


def fit_lightgbm(
    name: str,
    spec: DatasetSpec,
    train: Iterable[Batch],
    validation: Iterable[Batch],
    *,
    config: BaselinesConfig,
    seed: int,
    tell: Callable[[str], None] = lambda line: None,
) -> LightGbmForecaster:
    """Train baseline ``name`` on the first rows of ``train``, stopping early on ``validation``'s eligible rows.

    Raises:
        UserError: a split has no rows.
    """
    max_rows = config.lightgbm_max_rows
    learn = _Rows.first(train, spec, max_rows, what=name, split="train")
    judge = _Rows.first(
        _eligible(validation), spec, max(1, max_rows // VALIDATION_SHARE), what=name, split="validation"
    )
    parameters = _parameters(config, seed)
    learn_data, judge_data = learn.dataset(parameters, spec), judge.dataset(parameters, spec)
    judge_data.set_reference(learn_data)
    boosters: list[lightgbm.Booster | None] = []
    for index, task in enumerate(spec.tasks):
        if not learn.labels[:, index].any():
            boosters.append(None)
            continue
        objective = objective_of(task, name)
        for data, rows in ((learn_data, learn), (judge_data, judge)):
            rows.set_task(data, objective, index, task)
        booster = lightgbm.train(
            parameters | dict(objective.parameters),
            learn_data,
            num_boost_round=config.lightgbm_rounds,
            valid_sets=[judge_data],
            callbacks=[lightgbm.early_stopping(STOPPING_ROUNDS, verbose=False)],
        )
        tell(f"{name}: {task.name}, {booster.best_iteration} rounds on {len(learn.labels):,} rows")
        boosters.append(booster)
    return LightGbmForecaster(spec=spec, name=name, boosters=tuple(boosters))


def refit_lightgbm(
    fitted: LightGbmForecaster, batches: Iterable[Batch], *, config: BaselinesConfig, seed: int
) -> LightGbmForecaster:
    """``fitted`` anew, with as many rounds, on the first eligible rows of ``batches``, those of both splits."""
    spec, name = fitted.spec, fitted.name
    rows = _Rows.first(_eligible(batches), spec, config.lightgbm_max_rows, what=name, split="train and validation")
    parameters = _parameters(config, seed)
    data = rows.dataset(parameters, spec)
    boosters: list[lightgbm.Booster | None] = []
    for index, (task, first) in enumerate(zip(spec.tasks, fitted.boosters, strict=True)):
        if first is None:
            boosters.append(None)
            continue
        objective = objective_of(task, name)
        rows.set_task(data, objective, index, task)
        rounds = first.best_iteration if first.best_iteration > 0 else first.num_trees()
        boosters.append(lightgbm.train(parameters | dict(objective.parameters), data, num_boost_round=rounds))
    return LightGbmForecaster(spec=spec, name=name, boosters=tuple(boosters))


def _eligible(batches: Iterable[Batch]) -> Iterator[Batch]:
    return (batch.select(batch.eligible) for batch in batches)


def _parameters(config: BaselinesConfig, seed: int) -> dict[str, Any]:
    return FIXED | {
        "learning_rate": config.lightgbm_learning_rate,
        "num_leaves": config.lightgbm_leaves,
        "min_data_in_leaf": config.lightgbm_min_rows,
        "feature_fraction": config.lightgbm_inputs,
        "seed": seed,
        "num_threads": torch.get_num_threads(),  # one in a study's cells, which run side by side
    }


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What LightGBM needs of some rows."""

    inputs: Float[np.ndarray, "N K"]
    labels: Float[np.ndarray, "N M"]
    levels: Float[np.ndarray, "N M"]
    exposures: Float[np.ndarray, "N M"]

    @classmethod
    def of(cls, batch: Batch, spec: DatasetSpec) -> "_Rows":
        return cls(
            inputs=input_matrix(batch),
            labels=batch.labels.numpy().copy(),
            levels=recent_level(batch.history.double(), spec).numpy(),
            exposures=batch.exposure.numpy(),
        )

    def dataset(self, parameters: Mapping[str, Any], spec: DatasetSpec) -> lightgbm.Dataset:
        return lightgbm.Dataset(self.inputs, categorical_feature=categorical_inputs(spec), params=dict(parameters))

    def set_task(self, data: lightgbm.Dataset, objective: Objective, index: int, task: TaskSpec) -> None:
        """Give their :meth:`dataset` what is fitted of a task."""
        data.set_label(objective.target(self.labels[:, index]))
        data.set_init_score(objective.offset(self.levels[:, index], task))
        data.set_weight(self.exposures[:, index].copy())

    @classmethod
    def first(cls, batches: Iterable[Batch], spec: DatasetSpec, limit: int, *, what: str, split: str) -> "_Rows":
        """At most ``limit`` rows; a batch is reduced to its inputs before the next is read."""
        parts, count = [], 0
        for batch in batches:
            parts.append(cls.of(batch.select(slice(0, limit - count)), spec))
            count += len(parts[-1].labels)
            if count == limit:
                break
        if not count:
            raise UserError(f"baseline {what} needs rows, however: the {split} split has none")
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])})


def input_matrix(batch: Batch) -> Float[np.ndarray, "N K"]:
    """Single-precision inputs: scenario, profile, attributes, sequence summaries, dense values and weekly quartiles,
    in this order."""
    ids = [batch.scenario.numpy()[:, None], batch.profile.numpy(), batch.attributes.numpy()]
    summaries = [
        summary for sequence in (batch.behavior, batch.performance) for summary in _summaries(sequence.numpy())
    ]
    values = [batch.dense.numpy(), weekly_quartiles(batch.history).numpy()]
    return np.concatenate([*ids, *summaries, *values], axis=1, dtype=np.float32)


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

"""From a day's features and predictions to a list: file by file, an advertiser's rows being in one file."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from m2m_model.contracts.errors import UserError
from m2m_model.contracts.schema import KEYS, QUANTILES
from m2m_model.contracts.spec import DatasetSpec
from training.engagement.config import ListConfig
from training.engagement.stretch import stretch_targets

Pair = tuple[str, str]
"""Advertiser id, scenario."""

SEPARATOR = "\x1f"


@dataclass(frozen=True, kw_only=True)
class Obstacles:
    """Who cannot be on the list, whatever the forecast."""

    excluded: pa.Array
    """Advertiser ids as strings."""
    cooling: frozenset[Pair] = frozenset()
    """(advertiser id, scenario) of recent days' lists."""
    among: pa.Array | None = None
    """Advertiser ids that alone are in question; None: all."""


@dataclass
class Selection:
    """The best pairs seen so far, per scenario, and how many were passed over for which reason."""

    rule: ListConfig
    spec: DatasetSpec
    obstacles: Obstacles
    kept: dict[str, pa.Table] = field(default_factory=dict)
    passed_over: dict[str, int] = field(default_factory=dict)

    def add(self, features: pa.Table, predictions: pa.Table) -> None:
        """Rows of one file of the day; both tables have the same keys in the same order.

        Raises:
            UserError: the predictions lack what the rule needs.
        """
        self._check(predictions)
        eligible = features["eligible"].combine_chunks()
        asked = eligible if self.rule.audience == "active" else pc.invert(eligible)
        forecast = predictions[f"{self.rule.task}_mean"]
        within = pc.and_(pc.greater_equal(forecast, self.rule.at_least), pc.less_equal(forecast, self.rule.at_most))
        chosen = pc.and_(asked, within)
        names = [*KEYS, f"{self.rule.task}_mean", *self._quantile_columns(), "model_version"]
        rows = predictions.select(names).append_column("active_days", features["active_days"])
        small = pa.array(self._too_small(features))
        rows = self._pass_over(rows.filter(chosen), small.filter(chosen.combine_chunks()))
        for scenario in pc.unique(rows["scenario_id"]).to_pylist():
            mine = rows.filter(pc.equal(rows["scenario_id"], scenario))
            known = self.kept.get(scenario)
            self.kept[scenario] = self._best(mine if known is None else pa.concat_tables([known, mine]), scenario)

    def _best(self, rows: pa.Table, scenario: str) -> pa.Table:
        """The first of the list's order, ties by advertiser; at most the scenario's budget."""
        direction = "ascending" if self.rule.order == "lowest" else "descending"
        order = pc.select_k_unstable(
            rows,
            k=min(self.rule.budget_of(scenario), len(rows)),
            sort_keys=[(f"{self.rule.task}_mean", direction), ("advertiser_id", "ascending")],
        )
        return rows.take(order)

    def _pass_over(self, rows: pa.Table, small: pa.BooleanArray) -> pa.Table:
        advertisers = rows["advertiser_id"].cast(pa.string())
        pairs = pc.binary_join_element_wise(advertisers, rows["scenario_id"], SEPARATOR)
        cooling = pa.array([SEPARATOR.join(pair) for pair in self.obstacles.cooling], pa.string())
        barred = {
            "excluded": pc.is_in(advertisers, value_set=self.obstacles.excluded).to_numpy(),
            "cooling down": pc.is_in(pairs, value_set=cooling).to_numpy(),
            "too small": small.to_numpy(zero_copy_only=False),
        }
        if self.obstacles.among is not None:
            inside = pc.is_in(advertisers, value_set=self.obstacles.among)
            barred = {"not in the arm": pc.invert(inside).to_numpy()} | barred
        keep = np.ones(len(rows), bool)
        for reason, mask in barred.items():
            self.passed_over[reason] = self.passed_over.get(reason, 0) + int((mask & keep).sum())
            keep &= ~mask
        return rows.filter(pa.array(keep))

    def _too_small(self, features: pa.Table) -> np.ndarray:
        """Whether the row's advertiser, over all its scenarios, is below a least sum of the T days."""
        advertiser = features["advertiser_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        small = np.zeros(len(features), bool)
        for task, least in self.rule.minimum_scale.items():
            sums = pc.list_element(features[f"history_{task}"], self.spec.history_size - 1).to_numpy()
            small |= np.bincount(advertiser, sums)[advertiser] < least
        return small

    def _quantile_columns(self) -> list[str]:
        return [f"{self.rule.reward.task}_{name}" for name in QUANTILES] if self.rule.reward else []

    def _check(self, predictions: pa.Table) -> None:
        tasks = set(self.spec.task_names)
        for task in (self.rule.task, *self.rule.minimum_scale, *([self.rule.reward.task] if self.rule.reward else [])):
            if task not in tasks:
                raise UserError(f"a list's task must be one of {sorted(tasks)}, however: {task!r}")
        if missing := [name for name in self._quantile_columns() if name not in predictions.column_names]:
            raise UserError(
                f"a reward needs the forecast's quantiles, however: there is no {missing[0]!r}; train the model with "
                "model.distribution = true and train.loss.distribution > 0"
            )

    def table(self) -> pa.Table:
        """The list: keys, rank within the scenario, forecast, the personal target and its chance, and the reason."""
        parts = [self._explained(self.kept[scenario]) for scenario in sorted(self.kept) if len(self.kept[scenario])]
        return pa.concat_tables(parts) if parts else list_schema(self.rule, self.spec).empty_table()

    def _explained(self, rows: pa.Table) -> pa.Table:
        rule, spec = self.rule, self.spec
        rank = np.arange(1, len(rows) + 1)
        forecast = rows[f"{rule.task}_mean"].to_numpy()
        columns: dict[str, Any] = {key: rows[key] for key in KEYS} | {"rank": rank, "forecast": forecast}
        targets = chances = None
        if rule.reward:
            task = next(task for task in spec.tasks if task.name == rule.reward.task)
            quantiles = np.stack([rows[name].to_numpy() for name in self._quantile_columns()], axis=1)
            targets, chances = stretch_targets(
                quantiles,
                list(QUANTILES.values()),
                probability=rule.reward.probability,
                step=rule.reward.step,
                highest=task.largest_label(spec.horizon),
                whole=task.scale == 0,
            )
            columns |= {"target": targets, "unaided_probability": chances}
        columns["reason"] = self._reasons(rows["active_days"].to_numpy(), forecast, rank, targets, chances)
        columns["model_version"] = rows["model_version"]
        return pa.table(columns).cast(list_schema(rule, spec))

    def _reasons(
        self,
        active: np.ndarray,
        forecast: np.ndarray,
        rank: np.ndarray,
        targets: np.ndarray | None,
        chances: np.ndarray | None,
    ) -> list[str]:
        spec, rule = self.spec, self.rule
        task = rule.task.replace("_", " ")
        texts = [
            f"active on {days} of the last {spec.sequence_length} days; forecast {value:.2g} {task} in the next "
            f"{spec.horizon} days, number {place} of the {rule.order} in its scenario"
            for days, value, place in zip(active, forecast, rank, strict=True)
        ]
        if targets is None or chances is None or rule.reward is None:
            return texts
        what = rule.reward.task.replace("_", " ")
        return [
            f"{text}; asked for {target:g} {what}, reached unaided with a chance of {chance:.0%}"
            for text, target, chance in zip(texts, targets, chances, strict=True)
        ]


def list_schema(rule: ListConfig, spec: DatasetSpec) -> pa.Schema:
    """Columns of a published list; ``target`` and its chance only with a reward."""
    identifier = pa.string() if spec.advertiser_id_type == "string" else pa.int64()
    reward = [pa.field("target", pa.float64()), pa.field("unaided_probability", pa.float64())] if rule.reward else []
    return pa.schema(
        [
            pa.field("advertiser_id", identifier),
            pa.field("scenario_id", pa.string()),
            pa.field("as_of", pa.date32()),
            pa.field("rank", pa.int64()),
            pa.field("forecast", pa.float64()),
            *reward,
            pa.field("reason", pa.string()),
            pa.field("model_version", pa.string()),
        ]
    )


def pairs(table: pa.Table) -> frozenset[Pair]:
    """The (advertiser id, scenario) pairs of a list."""
    columns = table["advertiser_id"].cast(pa.string()).to_pylist(), table["scenario_id"].to_pylist()
    return frozenset(zip(*columns, strict=True))

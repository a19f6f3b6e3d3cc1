"""The model card and the data card that a training job publishes with its model: what somebody must know to use it.

Both are made from the spec, the dataset's manifest and the run alone, so that they cannot drift from what was trained.
"""

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from m2m_model.contracts.drift import LARGE
from m2m_model.contracts.spec import AttributeFeature, DatasetSpec, SequenceColumn, TaskSpec
from m2m_model.contracts.store import Manifest
from training.forecast import ForecastRules
from training.loop import Snapshot

MODEL_CARD, DATA_CARD = "model_card.md", "data_card.md"
WORST = 5
"""Features whose drift a card names."""


def cards(
    *,
    spec: DatasetSpec,
    dataset: Manifest,
    snapshot: Snapshot,
    content: Mapping[str, Any],
    rules: ForecastRules,
    parameters: int,
) -> dict[str, str]:
    """Both cards by file name; ``content`` is the checkpoint's, see :func:`training.checkpoint.run_content`."""
    return {
        MODEL_CARD: _model_card(spec, dataset, snapshot, content, rules, parameters),
        DATA_CARD: _data_card(spec, dataset),
    }


def _model_card(
    spec: DatasetSpec,
    dataset: Manifest,
    snapshot: Snapshot,
    content: Mapping[str, Any],
    rules: ForecastRules,
    parameters: int,
) -> str:
    state, model, train = snapshot.state, content["model"], content["train"]
    weights = f"The weights are those of the best validation loss, {state.best_loss:.4f}."
    if train["refit"]:
        weights = (
            f"The validation loss was best after {state.best_epochs} epochs, {state.best_loss:.4f}; the weights are "
            "those of as many epochs on the eligible rows of training and validation together."
        )
    version = importlib.metadata.version("m2m-advertisers")
    return _page(
        f"# Model card: {model['name']}",
        f"Forecasts, for every advertiser and scenario, the {spec.horizon} days after a day from the "
        f"{spec.sequence_length} days up to it. Its version is the generation in `manifest.json`; the dataset is in "
        f"[{DATA_CARD}]({DATA_CARD}).",
        "## What it is for",
        "Finding advertisers that are about to become inactive, and setting reachable targets for them. It is fitted "
        "to how advertisers behaved, not to what would help them: whether an incentive works is a question for an "
        "experiment, and a forecast is no reason to treat an advertiser worse.",
        "## What it says",
        _table(("task", "kind", "unit", "zero below", "scale"), (_rule(task, rules) for task in spec.tasks)),
        "`<task>_mean` is the expected value, `<task>_point` is aimed at small absolute errors (0 below the "
        "threshold, else the scale times the forecast, no more than a label can be; both fitted on validation), "
        "`<task>_smape` at SMAPE.",
        "## How it was trained",
        _table(
            ("", ""),
            [
                ("parameters", f"{parameters:,}"),
                ("dataset", f"generation {content['dataset_generation']}, features {spec.feature_fingerprint}"),
                ("training rows", f"{_rows(dataset, 'train'):,}"),
                ("code", f"m2m-advertisers {version}"),
                ("seed", train["seed"]),
                ("epochs", f"{len(state.history)} of at most {train['epochs']}, batches of {train['batch_size']}"),
                ("learning rate", train["learning_rate"]),
                ("agreement of workers", train["sync"]),
                *((f"model.{key}", value) for key, value in model.items() if key != "name"),
            ],
        ),
        "## How well",
        _table(
            ("epoch", "training loss", "validation loss"),
            ((losses.epoch + 1, f"{losses.train:.4f}", f"{losses.validation:.4f}") for losses in state.history),
        ),
        f"{weights} Errors on the test period, beside "
        "simple forecasts, are in the run's evaluation and report; they are not known when a model is trained.",
        "## Limits",
        f"- Scenarios that training has not seen ({', '.join(spec.scenarios)} it has) are forecast from their "
        "attributes "
        "alone.\n"
        "- It is as good as yesterday's world: festivals, price changes and new rules that training days do not "
        "hold are "
        "not in it. Feature days carry their drift from training in their manifests; above "
        f"{LARGE} (PSI) train again.\n"
        "- One seed and one period: the same config with another seed gives somewhat other forecasts.",
    )


def _data_card(spec: DatasetSpec, dataset: Manifest) -> str:
    content = dataset.content
    config = content.get("config", {})
    splits, days = content.get("splits", {}), content.get("as_of_days", {})
    return _page(
        f"# Data card: {content.get('run', 'dataset')} {dataset.generation}",
        f"A row is an advertiser in a scenario on an as-of day: {spec.sequence_length} days of history, "
        f"{spec.availability_lag_days} days of lag, and what happened in the {spec.horizon} days after. Days are laid "
        f"in {spec.timezone}. Built {dataset.created_at}; features {spec.feature_fingerprint}.",
        "## Rows",
        _table(
            ("split", "as-of days", "rows", *spec.scenarios),
            (
                (
                    split,
                    f"{first} .. {last} ({days.get(split, '?')})",
                    f"{_rows(dataset, split):,}",
                    *(f"{content['rows_by_scenario'].get(split, {}).get(s, 0):,}" for s in spec.scenarios),
                )
                for split, (first, last) in splits.items()
            ),
        ),
        f"An advertiser is in it with {spec.activity.min_active_days} or more days of `{spec.activity.expr}` in the "
        "window. Label windows of the splits do not overlap.",
        "## What is forecast",
        _table(
            ("task", "kind", "unit", "a day's value", "mean label", "largest"),
            (
                (t.name, t.kind, t.unit, f"`{t.expr}`", f"{t.mean_label:,.3g}", f"{t.max_label:,.6g}")
                for t in spec.tasks
            ),
        ),
        "## Features",
        _table(
            ("group", "name", "expression", "scope", "ids"),
            [
                *(_column("behavior", column) for column in spec.behavior),
                *(_column("performance", column) for column in spec.performance),
                *(_attribute("profile", feature) for feature in spec.profile),
                *(_attribute("scenario", feature) for feature in spec.scenario_attributes),
            ],
        ),
        "## Where it comes from",
        _table(("raw table", "what was read"), _inputs(content.get("inputs", {}))),
        _dropped(content.get("dropped", {}), config.get("checks", {})),
        "## Drift from training",
        _table(
            ("split", "largest (PSI)"),
            (
                (split, ", ".join(f"{name} {psi:.3f}" for name, psi in list(drift.items())[:WORST]))
                for split, drift in content.get("drift", {}).items()
            ),
        ),
    )


def _rule(task: TaskSpec, rules: ForecastRules) -> tuple[Any, ...]:
    rule = rules.point.tasks[task.name]
    return task.name, task.kind, task.unit, f"{rule.threshold:.3g}", "" if rule.scale is None else rule.scale


def _rows(dataset: Manifest, split: str) -> int:
    return sum(entry.rows for entry in dataset.select(split=split))


def _column(group: str, column: SequenceColumn) -> tuple[Any, ...]:
    scope = f"{column.scope}: {column.scenario}" if column.scenario else column.scope
    return group, column.name, f"`{column.expr}` over {column.table}", scope, column.size


def _attribute(group: str, feature: AttributeFeature) -> tuple[Any, ...]:
    return group, feature.name, f"`{feature.expr}`", feature.kind, feature.size


def _inputs(inputs: Mapping[str, Mapping[str, str] | None]) -> Iterable[Sequence[str]]:
    for table, parts in inputs.items():
        if parts is None:
            yield table, "a catalog table that names no files"
        elif len(parts) == 1:
            yield table, next(iter(parts.values()))
        else:
            yield table, f"{len(parts)} parts, {min(parts)} .. {max(parts)}"


def _dropped(dropped: Mapping[str, int], checks: Mapping[str, str]) -> str:
    if dropped:
        rows = ", ".join(f"{count:,} with {check.replace('_', ' ')}" for check, count in dropped.items())
        return f"Rows left out by `[checks]`: {rows}."
    lenient = [check for check, policy in checks.items() if policy == "drop"]
    return "No row was left out" + (f", though {', '.join(lenient)} might have been." if lenient else ".")


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    # A bar inside a cell would end it.
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _page(*parts: str) -> str:
    return "\n\n".join(parts) + "\n"

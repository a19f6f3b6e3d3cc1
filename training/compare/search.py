"""The same budgeted search of hyperparameters for every contender of a study, on validation rows alone.

Each contender gets as many trials as any other of its kind, over the same space. Trials are proposed by Optuna's TPE
sampler, which draws the first ten at random. It is seeded with the number of the trial, so that a search that was
interrupted goes on as if it had not been, and contenders have the same first ten. A trial is judged by the sum of both
metrics, each of the forecast that is aimed at it.
"""

import csv
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from pydantic import Field, model_validator

from m2m_model.contracts.config import StrictConfig
from m2m_model.contracts.errors import UserError

Setting = float | int | str | bool
WORST = 1e3
"""What the sampler, which takes finite values alone, is told of a trial that diverged."""


class Range(StrictConfig):
    """Values of one hyperparameter: ``choices``, or all from ``low`` to ``high``."""

    choices: tuple[Setting, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> "Range":
        if bool(self.choices) == (self.high > self.low):
            raise ValueError("a range needs either choices or low < high")
        if self.log and not self.low > 0:
            raise ValueError("a range with log needs low > 0")
        return self

    @property
    def distribution(self) -> optuna.distributions.BaseDistribution:
        if self.choices:
            return optuna.distributions.CategoricalDistribution(self.choices)
        return optuna.distributions.FloatDistribution(self.low, self.high, log=self.log)


class SearchSection(StrictConfig):
    trials: int = Field(ge=1)
    """Of each contender."""
    period: str
    """Whose training and validation rows are used."""
    set_dataset: tuple[str, ...] = ()
    """Overrides that make the search's dataset, for instance a larger stride of training days."""
    set: tuple[str, ...] = ()
    """Overrides of every trial, for instance fewer epochs."""
    results: Path
    """Folder of a CSV per contender with all of its trials."""
    model: dict[str, Range] = {}
    """By ``section.key``: the space of neural models."""
    baseline: dict[str, Range] = {}
    """The space of baselines; empty: they have none."""


class Trials:
    """The finished trials of one contender, and what to try next.

    Raises:
        UserError: trials on disk are of other hyperparameters.
    """

    def __init__(self, section: SearchSection, name: str, space: Mapping[str, Range]) -> None:
        self.path = section.results / f"{name}.csv"
        self.space, self.section = space, section
        self.rows: list[dict[str, Any]] = []
        if self.path.exists():
            with self.path.open() as file:
                reader = csv.DictReader(file)
                names = {name for name in reader.fieldnames or () if "." in name}
                if missing := sorted(set(space) - names):
                    raise self._of_another_space(f"there is none of {missing[0]}")
                if gone := sorted(names - set(space)):
                    raise self._of_another_space(f"{gone[0]} is not searched")
                self.rows = [self._typed(row) for row in reader]

    @property
    def finished(self) -> bool:
        return len(self.rows) >= self.section.trials

    def propose(self) -> dict[str, Setting]:
        """The settings of the next trial."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        distributions = {key: values.distribution for key, values in self.space.items()}
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=len(self.rows)))
        for row in self.rows:
            settings = {key: row[key] for key in self.space}
            study.add_trial(
                optuna.trial.create_trial(
                    params=settings, distributions=distributions, value=min(objective(row), WORST)
                )
            )
        return dict(study.ask(distributions).params)

    def add(self, settings: Mapping[str, Setting], outcome: Mapping[str, float]) -> None:
        """Keep a finished trial."""
        self.rows.append({"trial": len(self.rows), **settings, **outcome})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        temporary.rename(self.path)

    @property
    def best(self) -> dict[str, Setting]:
        """The settings of the best trial.

        Raises:
            UserError: no trial came to an end with finite forecasts.
        """
        if not any(math.isfinite(objective(row)) for row in self.rows[: self.section.trials]):
            raise UserError(f"every trial in {self.path} diverged: move it away and search other ranges")
        row = min(self.rows[: self.section.trials], key=objective)
        return {key: row[key] for key in self.space}

    def _typed(self, row: Mapping[str, str]) -> dict[str, Any]:
        typed: dict[str, Any] = {}
        for name, text in row.items():
            values = self.space.get(name)
            by_text = {str(choice): choice for choice in values.choices} if values else {}
            if by_text and text not in by_text:
                raise self._of_another_space(f"{name} was {text}, which is no choice")
            typed[name] = by_text[text] if by_text else float(text)
            if values and not by_text and not values.low <= typed[name] <= values.high:
                raise self._of_another_space(f"{name} was {text}, which is out of range")
        return typed

    def _of_another_space(self, found: str) -> UserError:
        return UserError(
            f"{self.path} must have trials of the hyperparameters that are searched now, however: {found}; move it "
            "away and run m2m search again, or set [search] back"
        )


def objective(outcome: Mapping[str, float]) -> float:
    """What trials are judged by; infinite of one that diverged."""
    total = outcome["nmae"] + outcome["smape"]
    return total if math.isfinite(total) else math.inf


def overrides(settings: Mapping[str, Setting]) -> list[str]:
    """``--set`` arguments for settings."""
    return [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in settings.items()]

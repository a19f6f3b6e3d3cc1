"""A study: which models, on which periods, with which seeds; one TOML file, every cell of it one training run."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from m2m_model.contracts.config import StrictConfig, parse, read_toml
from training.compare.results import CellKey


class Period(StrictConfig):
    """As-of days of one rolling origin, ``[first, last]`` each; the purge rule of datasets holds for them too."""

    train: tuple[datetime.date, datetime.date]
    validation: tuple[datetime.date, datetime.date]
    test: tuple[datetime.date, datetime.date]

    @property
    def overrides(self) -> list[str]:
        """``--set`` arguments that give a run this split."""
        return [f"split.{name}=[{', '.join(map(str, days))}]" for name, days in self if isinstance(days, tuple)]

    @property
    def weeks(self) -> int:
        """Weeks that the test days lie in, counted from its first."""
        return (self.test[1] - self.test[0]).days // 7 + 1


class Contender(StrictConfig):
    """A model of the study: the run's own, changed by ``set``, or a baseline."""

    title: str = ""
    baseline: str = ""
    """A key of ``training.baselines.registry.BASELINES``; empty: the neural model of the run's configuration."""
    set: tuple[str, ...] = ()
    """``section.key=value`` overrides of the run."""
    set_dataset: tuple[str, ...] = ()
    """Overrides that make another dataset, such as ``sequence.length=20``."""
    swept: dict[str, float] = {}
    """Of a sensitivity study: hyperparameters and their values, the x axes of curves."""
    members: int = Field(default=1, ge=1)
    """How many trained models are averaged, each with a seed of its own."""
    seeds: int = Field(default=0, ge=0)
    """How many of the study's seeds; 0: all. A model without randomness needs one."""


class StudySection(StrictConfig):
    name: str
    run: Path
    """The TOML file of the run that every contender starts from."""
    results: Path
    """Folder of finished cells and exhibits."""
    work: Path
    """Folder of datasets and scratch; not kept."""
    seeds: tuple[int, ...] = Field(min_length=1)
    best: str
    """The contender that all others are compared with; chosen on validation."""
    design_period: str
    """The period that is also reported alone."""
    table: str = "table4"
    """Name of the table that the study fills: table4 for models, table5 for ablations."""
    minutes_per_cell: float = Field(default=4.0, gt=0)
    """For the estimate at the start, until cells have been timed."""


class Study(StrictConfig):
    study: StudySection
    periods: dict[str, Period] = Field(min_length=1)
    contenders: dict[str, Contender] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for name, known in ((self.study.best, self.contenders), (self.study.design_period, self.periods)):
            if name not in known:
                raise ValueError(f"study names {name!r}, which must be one of {sorted(known)}")
        return self

    @classmethod
    def read(cls, path: Path, overrides: tuple[str, ...] = ()) -> Self:
        return parse(cls, read_toml(path, overrides), source=str(path))

    def planned(self) -> tuple[CellKey, ...]:
        """All cells, period by period, the first seed of every model before the second of any."""
        keys = [
            CellKey(model=name, period=period, seed=seed)
            for rank, seed in enumerate(self.study.seeds)
            for period in self.periods
            for name, contender in self.contenders.items()
            if not contender.seeds or rank < contender.seeds
        ]
        return tuple(keys)

    def overrides(self, key: CellKey) -> list[str]:
        """``--set`` arguments of a cell's run."""
        contender = self.contenders[key.model]
        return [*contender.set, *contender.set_dataset, f"train.seed={key.seed}"]

    def dataset_folder(self, key: CellKey) -> Path:
        """Where the cell's dataset lies; cells of one period share it unless their contender wants another."""
        other = self.contenders[key.model].set_dataset
        name = "_".join([key.period, *(text.replace(".", "-").replace("=", "-") for text in other)])
        return self.study.work / name

    def dataset_overrides(self, key: CellKey) -> list[str]:
        """``--set`` arguments of the dataset's build."""
        return [*self.periods[key.period].overrides, *self.contenders[key.model].set_dataset]

    @property
    def titles(self) -> Mapping[str, str]:
        return {name: contender.title or name.replace("_", " ") for name, contender in self.contenders.items()}

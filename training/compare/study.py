"""A study: which models, on which periods, with which seeds; one TOML file, every cell of it one training run."""

import datetime
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from m2m_model.contracts.config import StrictConfig, parse, read_toml
from m2m_model.contracts.errors import UserError
from training.compare.floor import Floor
from training.compare.results import CellKey
from training.compare.search import Range, SearchSection, Trials, overrides

LONGEST_NAME = 100
"""Of a dataset's folder; longer ones are hashed."""
OF_THE_BASE = ("periods", "search")
"""Sections that a study has from its base."""


class Period(StrictConfig):
    """As-of days of one rolling origin, ``[first, last]`` each; the purge rule of datasets holds for them too."""

    train: tuple[datetime.date, datetime.date]
    validation: tuple[datetime.date, datetime.date]
    test: tuple[datetime.date, datetime.date]

    @property
    def overrides(self) -> list[str]:
        """``--set`` arguments that give a run this split."""
        return [f"split.{name}=[{', '.join(map(str, days))}]" for name, days in self if isinstance(days, tuple)]


class Contender(StrictConfig):
    """A model of the study: the run's own, changed by ``set``, a baseline, a combination of others, or a synthetic
    world's floor."""

    title: str = ""
    baseline: str = ""
    """A key of ``training.baselines.registry.BASELINES``; empty: the neural model of the run's configuration."""
    floor: Floor | None = None
    """Of a run with ``[synthetic]``: the best forecasts that its world allows, which all others are set beside."""
    set: tuple[str, ...] = ()
    """``section.key=value`` overrides of the run."""
    set_dataset: tuple[str, ...] = ()
    """Overrides that make another dataset, such as ``sequence.length=20``."""
    swept: dict[str, float] = {}
    """Of a sensitivity study: hyperparameters and their values, the x axes of curves."""
    parts: tuple[str, ...] = ()
    """Other contenders, on the study's dataset, whose members forecast together (see
    :class:`training.compare.ensembles.Combination`)."""
    members: int = Field(default=1, ge=1)
    """How many trained models, or fits of the baseline, forecast together, each with a seed of its own."""
    seeds: int = Field(default=0, ge=0)
    """How many of the study's seeds; 0: all. A model without randomness needs one."""
    searched: bool = True
    """Whether its cells have the settings of the best trial of the study's search, if there is one."""
    like: str = ""
    """Another contender, of this study or of one with the same search, whose trials count; empty: its own."""


class AimSection(StrictConfig):
    """What the best contender is to reach, over all periods, each metric in the forecast aimed at it."""

    nmae: float
    smape: float
    ahead: dict[str, float] = {}
    """By contender: the share of its error that the best one's is to be lower by, in both metrics, with an interval
    that leaves 0 out."""


class InView(StrictConfig):
    """Who is compared with whom in one of the study's views."""

    best: str
    others: tuple[str, ...] = Field(min_length=1)


class StudySection(StrictConfig):
    name: str
    base: Path | None = None
    """The TOML file of another study, whose ``[periods]`` and ``[search]`` are this one's too."""
    search_of: Path | None = None
    """The TOML file of a study of other data, whose ``[search]`` chose the settings of this one's contenders too: on
    this study's own data nothing is searched."""
    run: Path
    """The TOML file of the run that every contender starts from."""
    results: Path
    """Folder of finished cells and exhibits."""
    work: Path
    """Folder of datasets and scratch; not kept."""
    set_dataset: tuple[str, ...] = ()
    """Overrides that make the study's datasets, for instance a larger stride of training days."""
    set: tuple[str, ...] = ()
    """Overrides of every contender's run; a contender's own win over them."""
    seeds: tuple[int, ...] = Field(min_length=1)
    best: str
    """The contender that all others are compared with. What it was chosen by belongs in ``notes``, if not by validation
    alone."""
    design_period: str
    """The period that is also reported alone."""
    views: dict[str, tuple[str, ...]] = {}
    """Scenarios that are also averaged apart, for instance ``{head = ["search"], new = ["video"]}``."""
    notes: tuple[str, ...] = ()
    """What a reader of its page must know beside what the page says of itself."""
    table: str = "table4"
    """Name of the table that the study fills: table4 for models, table5 for ablations, figure6 for sensitivity."""
    minutes_per_cell: float = Field(default=4.0, gt=0)
    """For the estimate at the start, until cells have been timed."""


class Study(StrictConfig):
    study: StudySection
    search: SearchSection | None = None
    aim: AimSection | None = None
    compared: dict[str, InView] = {}
    """By view: comparisons beside those of the study's best contender over all scenarios."""
    periods: dict[str, Period] = Field(min_length=1)
    contenders: dict[str, Contender] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        periods = [self.study.design_period]
        if self.search is not None and self.study.search_of is None:
            periods.append(self.search.period)
        contenders = [self.study.best, *(self.aim.ahead if self.aim else ())]
        contenders += [name for of_view in self.compared.values() for name in (of_view.best, *of_view.others)]
        views = set(self.study.views)
        for names, known in ((contenders, set(self.contenders)), (periods, set(self.periods)), (self.compared, views)):
            if unknown := [name for name in names if name not in known]:
                raise ValueError(f"study names {unknown[0]!r}, which must be one of {sorted(known)}")
        whole = {name for name, c in self.contenders.items() if not (c.parts or c.floor or c.set_dataset)}
        for name, contender in self.contenders.items():
            if not contender.parts:
                continue
            if len(contender.parts) < 2 or not whole.issuperset(contender.parts):
                raise ValueError(f"the parts of {name} must be two or more of {sorted(whole)}")
            if others := contender.model_fields_set - {"title", "parts", "seeds"}:
                raise ValueError(f"{name} has parts and nothing of its own, however: {sorted(others)[0]}")
        return self

    @classmethod
    def read(cls, path: Path, overrides: tuple[str, ...] = ()) -> Self:
        return parse(cls, _read(path, overrides), source=str(path))

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
        """``--set`` arguments of a cell's run.

        Raises:
            UserError: the study has a search, and this contender's is not finished.
        """
        contender = self.contenders[key.model]
        searched: list[str] = []
        if trials := self.trials(key.model):
            if not trials.finished:
                done = f"{len(trials.rows)} of {trials.section.trials}"
                raise UserError(
                    f"{trials.path} must have the trials of the study's search for {key.model}, however: {done}; run "
                    "m2m search with the study that has this contender itself"
                )
            searched = overrides(trials.best)
        return [*self.study.set, *searched, *contender.set, *self._set_dataset(key.model), f"train.seed={key.seed}"]

    def trials(self, model: str) -> Trials | None:
        """The contender's trials; None if it takes part in no search."""
        contender = self.contenders[model]
        space: dict[str, Range] = {}
        if self.search is not None and contender.searched and not (contender.floor or contender.parts):
            space = self.search.baseline if contender.baseline else self.search.model
        name = contender.like or model
        return Trials(self.search, name, space) if self.search is not None and space else None

    def dataset_folder(self, key: CellKey) -> Path:
        """Where the cell's dataset lies; cells of one period share it unless their contender wants another."""
        return self.period_folder(key.period, self._set_dataset(key.model))

    def dataset_overrides(self, key: CellKey) -> list[str]:
        """``--set`` arguments of the dataset's build."""
        return [*self.periods[key.period].overrides, *self._set_dataset(key.model)]

    def search_dataset(self, section: SearchSection, model: str) -> tuple[Path, list[str]]:
        """The folder of a contender's dataset for its trials, and ``--set`` arguments of its build."""
        other = self._set_dataset(model, *section.set_dataset)
        return self.period_folder(section.period, other), [*self.periods[section.period].overrides, *other]

    def _set_dataset(self, model: str, *between: str) -> tuple[str, ...]:
        """Overrides of the study, those ``between``, the contender's; of a key that two name the last wins."""
        return (*self.study.set_dataset, *between, *self.contenders[model].set_dataset)

    def period_folder(self, period: str, other: tuple[str, ...] = ()) -> Path:
        """Where a period's dataset lies, that of the run or, with overrides, another."""
        name = "_".join([period, *(re.sub(r"[^A-Za-z0-9_-]+", "-", text) for text in other)])
        if len(name) > LONGEST_NAME:
            name = f"{period}_{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        return self.study.work / name

    @property
    def seen_by_the_search(self) -> tuple[str, ...]:
        """Periods with test days among those that the search's trials were trained or judged on."""
        if self.search is None or self.study.search_of is not None:
            return ()
        searched = self.periods[self.search.period]
        first, last = searched.train[0], searched.validation[1]
        return tuple(name for name, p in self.periods.items() if p.test[0] <= last and p.test[1] >= first)

    @property
    def floors(self) -> tuple[str, ...]:
        """Contenders that are a floor."""
        return tuple(name for name, contender in self.contenders.items() if contender.floor)

    @property
    def titles(self) -> Mapping[str, str]:
        return {name: contender.title or name.replace("_", " ") for name, contender in self.contenders.items()}


def _read(path: Path, overrides: tuple[str, ...] = ()) -> dict[str, Any]:
    """The study's table with the sections that are another's; overrides of these go to the other.

    Raises:
        UserError: it has one of these sections itself.
    """
    table = read_toml(path)
    header = table.get("study", {})
    sources: dict[str, str] = {}
    if "base" in header:
        sources |= dict.fromkeys(OF_THE_BASE, header["base"])
    if "search_of" in header:
        sources["search"] = header["search_of"]
    if own := [section for section in sources if section in table]:
        raise UserError(f"{path} has [{own[0]}], however: it has the [{own[0]}] of {sources[own[0]]}")
    for_others = [override for override in overrides if override.split(".")[0] in sources]
    table = read_toml(path, [override for override in overrides if override not in for_others])
    for section, source in sources.items():
        other = _read(Path(source), tuple(o for o in for_others if o.split(".")[0] == section))
        if section in other:
            table[section] = other[section]
            if section == "search" and "search_of" in other["study"]:
                table["study"]["search_of"] = other["study"]["search_of"]
    return table

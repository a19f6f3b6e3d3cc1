"""Several fitted forecasters as one: ensembles of a kind, and combinations of ensembles."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from m2m_model.batch import Batch
from training.forecast import Forecasts
from training.scoring import Forecaster, ModelForecaster, mixtures


class Together(Forecaster, Protocol):
    """A forecaster that has members."""

    @property
    def several(self) -> bool:
        """Whether an ensemble of it has more than one."""
        ...

    def without_each(self, batch: Batch) -> list[list[Forecasts]]:
        """What it would forecast without each of its members in turn, by the ensembles that they are of; nothing of an
        ensemble of one."""
        ...


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Of models the mixture of their predictive distributions, of other forecasters the mean of their forecasts."""

    members: tuple[Forecaster, ...]

    @property
    def quantiles(self) -> bool:
        return all(member.quantiles for member in self.members)

    @property
    def several(self) -> bool:
        return len(self.members) > 1

    def __call__(self, batch: Batch) -> Forecasts:
        return self.subsets(batch, [range(len(self.members))])[0]

    def without_each(self, batch: Batch) -> list[list[Forecasts]]:
        """See :class:`Together`."""
        return [self.subsets(batch, self.others) if self.several else []]

    @property
    def others(self) -> list[list[int]]:
        """All members but one, each left out in turn; none of an ensemble of one."""
        count = len(self.members)
        return [[other for other in range(count) if other != member] for member in range(count) if self.several]

    def subsets(self, batch: Batch, subsets: Sequence[Sequence[int]]) -> list[Forecasts]:
        """The forecasts of some of the members together, per subset."""
        models = [member for member in self.members if isinstance(member, ModelForecaster)]
        if len(models) == len(self.members):
            return mixtures(models, batch, subsets)
        parts = [member(batch) for member in self.members]
        chosen = ([parts[member] for member in subset] for subset in subsets)
        return [Forecasts(*(np.mean(field, axis=0) for field in zip(*some, strict=True))) for some in chosen]


@dataclass(frozen=True, kw_only=True)
class Combination:
    """Ensembles of different kinds with equal weights (Bates and Granger, Operational Research Quarterly 1969).

    Means are averaged, and so are, as log1p, the centres that the rule for NMAE is applied to. SMAPE actions, which
    averages spoil, and quantiles are those of the first ensemble that has a predictive distribution, or of the first.
    """

    parts: tuple[Ensemble, ...]

    @property
    def quantiles(self) -> bool:
        return any(part.quantiles for part in self.parts)

    @property
    def several(self) -> bool:
        return any(part.several for part in self.parts)

    def __call__(self, batch: Batch) -> Forecasts:
        return self._combined([part(batch) for part in self.parts])

    def without_each(self, batch: Batch) -> list[list[Forecasts]]:
        """See :class:`Together`."""
        found = [part.subsets(batch, [range(len(part.members)), *part.others]) for part in self.parts]
        whole = [forecasts[0] for forecasts in found]
        return [
            [self._combined([*whole[:number], fewer, *whole[number + 1 :]]) for fewer in forecasts[1:]]
            for number, forecasts in enumerate(found)
        ]

    def _combined(self, found: Sequence[Forecasts]) -> Forecasts:
        told = next((forecasts for part, forecasts in zip(self.parts, found, strict=True) if part.quantiles), found[0])
        return Forecasts(
            mean=np.mean([forecasts.mean for forecasts in found], axis=0),
            centre=np.expm1(np.mean([np.log1p(forecasts.centre) for forecasts in found], axis=0)),
            smape=told.smape,
            quantiles=told.quantiles,
        )

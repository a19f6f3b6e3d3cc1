"""Several fitted forecasters as one: ensembles of a kind, and combinations of ensembles."""

from dataclasses import dataclass

import numpy as np

from m2m_model.batch import Batch
from training.forecast import Forecasts
from training.scoring import Forecaster, ModelForecaster, mixed


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Of models the mixture of their predictive distributions, of other forecasters the mean of their forecasts."""

    members: tuple[Forecaster, ...]

    @property
    def quantiles(self) -> bool:
        return all(member.quantiles for member in self.members)

    def __call__(self, batch: Batch) -> Forecasts:
        models = [member for member in self.members if isinstance(member, ModelForecaster)]
        if len(models) == len(self.members):
            return mixed(models, batch)
        parts = [member(batch) for member in self.members]
        return Forecasts(*(np.mean(field, axis=0) for field in zip(*parts, strict=True)))


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

    def __call__(self, batch: Batch) -> Forecasts:
        found = [part(batch) for part in self.parts]
        told = next((forecasts for part, forecasts in zip(self.parts, found, strict=True) if part.quantiles), found[0])
        return Forecasts(
            mean=np.mean([forecasts.mean for forecasts in found], axis=0),
            centre=np.expm1(np.mean([np.log1p(forecasts.centre) for forecasts in found], axis=0)),
            smape=told.smape,
            quantiles=told.quantiles,
        )

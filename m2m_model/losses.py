"""The joint loss (eq. 19) of the tasks' losses and two L2 terms.

By default a task's loss is its likelihood: Poisson of counts and rates (eq. 20); of the kinds of task that the paper
does not have, heavy-tailed spends and binary ones, Tweedie and cross-entropy.

Letters: B rows, M tasks, N some of them, P parameters of a forecast, S scenarios and the unseen one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from m2m_model.batch import Batch
from m2m_model.config import LossConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import AMOUNTS, TaskKind
from m2m_model.encoder import SequenceEmbedding
from m2m_model.meta import MetaUnit
from m2m_model.model import Model
from m2m_model.output import MEAN, POSITIVE, VALUE


@dataclass(frozen=True, kw_only=True)
class LabelStatistics:
    """Sums over the training rows, for weights that the spec's own statistics do not give."""

    rows: int
    label_sums: Float[Tensor, "S M"]
    """By scenario index."""
    exposure_sums: Float[Tensor, "M"]


class ParameterGroups(NamedTuple):
    """What the two L2 terms of eq. 19 are over."""

    meta: tuple[nn.Parameter, ...]
    """W_1: all parameters of the meta units."""
    network: tuple[nn.Parameter, ...]
    """W_2: the other weights, without embeddings and biases."""


def poisson(value: Float[Tensor, "B N"], label: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """``y_hat - y log y_hat`` with ``y_hat = e^value``, eq. 20; times its exposure a rate's."""
    return value.exp() - label * value


def tweedie(value: Float[Tensor, "B N"], label: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """Negative log-likelihood, but for a constant, of a compound Poisson-gamma of power 3/2 with mean ``e^value``."""
    return 2 * label * (-value / 2).exp() + 2 * (value / 2).exp()


def cross_entropy(value: Float[Tensor, "B N"], label: Float[Tensor, "B N"]) -> Float[Tensor, "B N"]:
    """Of a label of 0 or 1 with log-odds ``value``."""
    return functional.softplus(value) - label * value


LIKELIHOODS: dict[TaskKind, Callable[[Tensor, Tensor], Tensor]] = {
    "count": poisson,
    "rate": poisson,
    "binary": cross_entropy,
    "spend": tweedie,
}
PERFECT: dict[TaskKind, Callable[[Tensor], Tensor]] = {
    "count": lambda label: label - torch.special.xlogy(label, label),
    "rate": lambda label: label - torch.special.xlogy(label, label),
    "binary": torch.zeros_like,
    "spend": lambda label: 4 * label.sqrt(),
}
"""The likelihood's loss of a forecast that is the label: uncertainty weights need losses that end at zero."""


NO_WEIGHTS = ("bias", "beta", "gamma", "alpha", "log_variance")
"""How names of parameters end that L2 leaves alone: biases, scales and shifts of normalised values, cross-stitch's
shares, the losses' log-variances."""


class TaskWeights(NamedTuple):
    """lambda_t of eq. 19 in two parts."""

    likelihood: Float[Tensor, "M"]
    """Brings the likelihoods of tasks of different sizes to one scale; other terms are on one by themselves."""
    task: Float[Tensor, "M"]
    """What each task counts, in every term."""


class JointLoss:
    """Sum over rows and tasks of ``lambda_t L_t``, without the L2 terms; divide by the rows for eq. 19.

    Where ``model.log_variance`` s is learned, a task's part is ``e^(-s_t) (L_t - L_t(perfect)) + s_t``.

    Raises:
        UserError: the loss of the distribution is asked for, and the model has none.
    """

    def __init__(self, model: Model, config: LossConfig, *, weights: TaskWeights, statistics: LabelStatistics) -> None:
        if config.distribution and model.output.bins is None:
            raise UserError("train.loss.distribution needs model.distribution = true, however: it is false")
        self.model, self.config, self.weights = model, config, weights
        self.tasks = model.output.spec.tasks
        self.cell_weights = cell_weights(statistics)
        self.mean_exposures = (statistics.exposure_sums / statistics.rows).clamp(min=1e-30)

    def __call__(
        self, parameters: Float[Tensor, "B N P"], batch: Batch, tasks: slice = slice(None)
    ) -> Float[Tensor, ""]:
        """Of the N ``tasks`` that ``parameters`` are of, all by default."""
        terms = self.terms(parameters, batch, tasks)
        if self.model.log_variance is not None:
            log_variance = self.model.log_variance[tasks]
            terms = (terms - self._perfect(batch, tasks)) * (-log_variance).exp() + log_variance
        return (terms * self.weights.task[tasks]).sum()

    def terms(
        self, parameters: Float[Tensor, "B N P"], batch: Batch, tasks: slice = slice(None)
    ) -> Float[Tensor, "B N"]:
        """Each row's loss of each task, before what the task counts."""
        value, labels, config = parameters[..., VALUE], batch.labels[:, tasks], self.config
        terms = self._likelihoods(value, labels, batch, tasks, config.likelihood)
        amounts = self.model.output.amounts[tasks]
        if config.l1 or config.l1_log:
            # Log-odds are left out before the exponential: where() would not keep its infinities out of gradients.
            forecast = value.masked_fill(~amounts, 0.0).exp()
            errors = config.l1 * (forecast - labels).abs() * self.cell_weights[batch.scenario][:, tasks]
            log_errors = config.l1_log * (forecast.log1p() - labels.log1p()).abs()
            terms = terms + torch.where(amounts, errors + log_errors, 0.0)
        if config.distribution and self.model.output.bins is not None:
            bins = self.model.output.bins
            positive, location, log_scale = parameters[..., POSITIVE:MEAN].unbind(dim=-1)
            masses = bins.log_masses(positive, location, log_scale, tasks)
            chosen = masses.gather(-1, bins.outcomes(labels, tasks).unsqueeze(-1)).squeeze(-1)
            of_mean = self._likelihoods(parameters[..., MEAN], labels, batch, tasks, 1.0)
            terms = terms + config.distribution * torch.where(amounts, of_mean - chosen, 0.0)
        return terms

    def _likelihoods(
        self,
        value: Float[Tensor, "B N"],
        labels: Float[Tensor, "B N"],
        batch: Batch,
        tasks: slice,
        of_amounts: float,
    ) -> Float[Tensor, "B N"]:
        columns = []
        for position, index in enumerate(range(len(self.tasks))[tasks]):
            column = LIKELIHOODS[self.tasks[index].kind](value[:, [position]], labels[:, [position]]).squeeze(1)
            columns.append(column * self._likelihood_weights(batch, index, of_amounts))
        return torch.stack(columns, dim=1)

    def _likelihood_weights(self, batch: Batch, index: int, of_amounts: float) -> Tensor:
        weight = self.weights.likelihood[index]
        if self.tasks[index].kind in AMOUNTS:
            weight = weight * of_amounts
        return weight * batch.exposure[:, index] / self.mean_exposures[index]

    def _perfect(self, batch: Batch, tasks: slice) -> Float[Tensor, "B N"]:
        # Also of the mean beside a distribution; bins have no loss below zero.
        of_amounts = self.config.likelihood + self.config.distribution
        columns = [
            PERFECT[self.tasks[index].kind](batch.labels[:, index]) * self._likelihood_weights(batch, index, of_amounts)
            for index in range(len(self.tasks))[tasks]
        ]
        return torch.stack(columns, dim=1)


def cell_weights(statistics: LabelStatistics) -> Float[Tensor, "S M"]:
    """Weights of an absolute error by scenario and task: the inverse root of the cell's label sum.

    Each task's are scaled so that forecasting zero costs 1 a row on average; a cell without labels has weight 0.
    """
    roots = statistics.label_sums.sqrt()
    scale = statistics.rows / roots.sum(dim=0).clamp(min=1e-30)
    return torch.where(roots > 0, scale / roots.clamp(min=1e-30), 0.0).float()


def parameter_groups(model: nn.Module) -> ParameterGroups:
    """The parameters of a model that are regularised, each in one group.

    Of the network, embeddings and what :data:`NO_WEIGHTS` names are left out: pulling a rare id's vector, a bias, a
    scale or a share to zero is no regularisation. Of the meta units all are taken: there biases are generated too.
    """
    meta = _parameters_of(model, MetaUnit)
    left_out = {*meta, *_parameters_of(model, (nn.Embedding, SequenceEmbedding, nn.LayerNorm))}
    network = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter not in left_out and not name.endswith(NO_WEIGHTS)
    ]
    return ParameterGroups(tuple(meta), tuple(network))


def _parameters_of(model: nn.Module, kinds: type[nn.Module] | tuple[type[nn.Module], ...]) -> list[nn.Parameter]:
    return [p for module in model.modules() if isinstance(module, kinds) for p in module.parameters()]

"""The joint loss (eq. 19) of Poisson losses (eq. 20) and two L2 terms.

Letters: N rows, M tasks.
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from m2m_model.encoder import SequenceEmbedding
from m2m_model.meta import MetaUnit


class ParameterGroups(NamedTuple):
    """What the two L2 terms of eq. 19 are over."""

    meta: tuple[nn.Parameter, ...]
    """W_1: all parameters of the meta units."""
    network: tuple[nn.Parameter, ...]
    """W_2: the other weights, without embeddings and biases."""


def poisson_loss(
    log_rates: Float[Tensor, "N M"], labels: Float[Tensor, "N M"], weights: Float[Tensor, "M"]
) -> Float[Tensor, ""]:
    """Sum over rows and tasks of ``lambda_t (y_hat - y log y_hat)``; divide by N for eq. 20."""
    return ((log_rates.exp() - labels * log_rates) * weights).sum()


def parameter_groups(model: nn.Module) -> ParameterGroups:
    """The parameters of a model that are regularised, each in one group.

    Embeddings and biases are left out: pulling a rare id's vector, or a bias, to zero is no regularisation.
    """
    meta = _parameters_of(model, MetaUnit)
    left_out = {*meta, *_parameters_of(model, (nn.Embedding, SequenceEmbedding))}
    network = [
        parameter
        for name, parameter in model.named_parameters()
        if parameter not in left_out and name.rpartition(".")[2] != "bias"
    ]
    return ParameterGroups(tuple(meta), tuple(network))


def _parameters_of(model: nn.Module, kinds: type[nn.Module] | tuple[type[nn.Module], ...]) -> list[nn.Parameter]:
    return [p for module in model.modules() if isinstance(module, kinds) for p in module.parameters()]

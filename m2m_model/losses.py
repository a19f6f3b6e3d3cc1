"""The joint loss (eq. 19) of Poisson losses (eq. 20) and two L2 terms.

Letters: N rows, M tasks.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from m2m_model.meta import MetaUnit


def poisson_loss(
    log_rates: Float[Tensor, "N M"], labels: Float[Tensor, "N M"], weights: Float[Tensor, "M"]
) -> Float[Tensor, ""]:
    """Sum over rows and tasks of ``lambda_t (y_hat - y log y_hat)``; divide by N for eq. 20."""
    return ((log_rates.exp() - labels * log_rates) * weights).sum()


def l2_penalty(model: nn.Module, *, meta: float, network: float) -> Float[Tensor, ""]:
    """``meta * |W_1|^2 + network * |W_2|^2``: the meta units' parameters, and the other weights of the network.

    Embeddings and biases are left out: pulling a rare id's vector, or a bias, to zero is no regularisation.
    """
    terms = [
        coefficient * sum(weight.square().sum() for weight in weights)
        for coefficient, weights in ((meta, meta_weights(model)), (network, network_weights(model)))
        if coefficient > 0
    ]
    return torch.stack([torch.as_tensor(term) for term in terms]).sum() if terms else torch.zeros(())


def meta_weights(model: nn.Module) -> Iterator[nn.Parameter]:
    """W_1: everything that generates weights."""
    return (p for module in model.modules() if isinstance(module, MetaUnit) for p in module.parameters())


def network_weights(model: nn.Module) -> Iterator[Tensor]:
    """W_2: the weights of linear units outside of meta units."""
    return (module.weight for module in model.modules() if isinstance(module, nn.Linear))

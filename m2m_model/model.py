"""A model: a body from the zoo, and the output unit that all of them share.

Letters: B rows, M tasks, P parameters of a forecast.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from m2m_model.batch import Batch
from m2m_model.output import Output


class Model(nn.Module):
    """The parameters of every task's forecast for a batch, see :class:`Output`.

    Shape:
        Batch of B rows -> [B, M, P]
    """

    def __init__(self, body: nn.Module, output: Output, *, uncertainty_weights: bool) -> None:
        super().__init__()
        self.body, self.output = body, output
        tasks = len(output.spec.tasks)
        self.log_variance = nn.Parameter(torch.zeros(tasks)) if uncertainty_weights else None
        """Of each task's loss (Kendall et al., 2018); the loss uses it, forecasts do not."""

    def forward(self, batch: Batch) -> Float[Tensor, "B M P"]:
        parameters: Tensor = self.output(self.body(batch), batch.history)
        return parameters


def parameter_count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

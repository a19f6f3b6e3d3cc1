"""Multi-head self-attention over one sequence (4.1.2, eq. 2-4) and its pooling to a fixed length.

Letters: B rows, T days, X embedding of a day, H heads.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

Pool = Literal["flatten", "mean", "last"]


class SelfAttention(nn.Module):
    """MH(X) = concat(head_1 .. head_h) W^H with scaled dot-product heads; no feed-forward part, no residual.

    Eq. 2 prints the division by sqrt(d) inside the product with V; the standard form is meant.

    Shape:
        [B, T, X] -> [B, T, X]
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim must be divisible by heads, however: {dim=}, {heads=}")
        self.heads = heads
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Float[Tensor, "B T X"]) -> Float[Tensor, "B T X"]:
        q, k, v = self.query_key_value(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        heads = functional.scaled_dot_product_attention(q, k, v)
        y: Tensor = self.output(heads.transpose(1, 2).flatten(-2))
        return y


def pool(x: Float[Tensor, "B T X"], how: Pool) -> Float[Tensor, "B Y"]:
    """A sequence as one fixed-length vector: all days, their mean, or the last."""
    if how == "flatten":
        return x.flatten(1)
    return x.mean(dim=1) if how == "mean" else x[:, -1]


def pooled_dim(length: int, dim: int, how: Pool) -> int:
    return length * dim if how == "flatten" else dim

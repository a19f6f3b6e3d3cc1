"""Multi-head self-attention over one sequence (4.1.2, eq. 2-4) and its pooling to a fixed length.

Letters: B rows, T days, F columns, X embedding of a day, Y pooled dimension.
"""

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from m2m_model.encoder import SequenceEmbedding

Pool = Literal["flatten", "mean", "last"]


class SelfAttention(nn.Module):
    """MH(X) = concat(head_1 .. head_h) W^H with scaled dot-product heads; no feed-forward part, no residual.

    Eq. 2 prints the division by sqrt(d) inside the product with V; the standard form is meant. ``dim`` must be
    divisible by ``heads``.

    Shape:
        [B, T, X] -> [B, T, X]
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        assert dim % heads == 0, f"{dim=}, {heads=}"
        self.heads = heads
        self.query_key_value = nn.Linear(dim, 3 * dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Float[Tensor, "B T X"]) -> Float[Tensor, "B T X"]:
        size = x.shape[-1] // self.heads
        q, k, v = self.query_key_value(x).unflatten(-1, (3, self.heads, size)).permute(2, 0, 3, 1, 4).unbind(0)
        with torch.autocast(x.device.type, enabled=False):  # torch's backward pass takes eight times as long in bf16
            exact = torch.promote_types(q.dtype, torch.float32)
            heads = functional.scaled_dot_product_attention(q.to(exact), k.to(exact), v.to(exact))
        y: Tensor = self.output(heads.transpose(1, 2).flatten(-2))
        return y


class SequenceEncoder(nn.Module):
    """One sequence's part of F (eq. 5): embedding, self-attention (none with ``heads`` 0), pooling.

    Shape:
        ids [B, T, F] -> [B, Y]; Y = T * X for ``flatten``, else X
    """

    def __init__(self, embedding: SequenceEmbedding, *, heads: int, how: Pool) -> None:
        super().__init__()
        self.embedding, self.how = embedding, how
        self.attention = SelfAttention(embedding.output_dim, heads) if heads else None
        self.output_dim = embedding.output_dim * (embedding.length if how == "flatten" else 1)

    def forward(self, ids: Int[Tensor, "B T F"]) -> Float[Tensor, "B Y"]:
        if self.attention is None and self.how == "mean":
            return self.embedding.mean(ids)
        days = self.embedding(ids)
        if self.attention is not None:
            days = self.attention(days)
        return pool(days, self.how)


def pool(x: Float[Tensor, "B T X"], how: Pool) -> Float[Tensor, "B Y"]:
    """A sequence as one fixed-length vector: all days, their mean, or the last."""
    if how == "flatten":
        return x.flatten(1)
    return x.mean(dim=1) if how == "mean" else x[:, -1]

"""Shared-bottom embedding (4.1.1): bucket and word ids to dense vectors.

Letters: B rows, T days, F columns, E embedding dimension.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

EMBEDDING_STD = 0.1


class FeatureEmbedding(nn.Module):
    """Embeddings of F id columns, concatenated. One table serves all columns; each has its own rows of it.

    Shape:
        ids [..., F] -> [..., F * E]
    """

    def __init__(self, sizes: Sequence[int], dim: int) -> None:
        super().__init__()
        self.sizes, self.output_dim = list(sizes), len(sizes) * dim
        self.table = nn.Embedding(sum(sizes), dim)
        nn.init.normal_(self.table.weight, std=EMBEDDING_STD)
        starts = torch.tensor([0, *sizes], dtype=torch.int32).cumsum(0, dtype=torch.int32)[:-1]
        self.register_buffer("starts", starts, persistent=False)
        self.starts: Tensor

    def forward(self, ids: Int[Tensor, "*rows F"]) -> Float[Tensor, "*rows FE"]:
        vectors: Tensor = self.table(ids + self.starts)
        return vectors.flatten(-2)

    def mean(self, ids: Int[Tensor, "B T F"]) -> Float[Tensor, "B FE"]:
        """The mean over days: how often an id occurs times its vector, where looking every day up takes far longer."""
        rows, days, columns = ids.shape
        share = ids.new_tensor(1 / days, dtype=self.table.weight.dtype).expand(rows, days * columns)
        occurs = share.new_zeros(rows, self.table.num_embeddings)
        occurs = occurs.scatter_add(1, (ids + self.starts).flatten(1).long(), share)
        occurs_in, tables = (torch.split(x, self.sizes, dim) for x, dim in ((occurs, 1), (self.table.weight, 0)))
        return torch.cat([n @ table for n, table in zip(occurs_in, tables, strict=True)], dim=-1)


class SequenceEmbedding(nn.Module):
    """A sequence's daily embeddings, each with a trainable embedding of its position concatenated.

    Shape:
        ids [B, T, F] -> [B, T, (F + 1) * E]
    """

    def __init__(self, sizes: Sequence[int], length: int, dim: int) -> None:
        super().__init__()
        self.features = FeatureEmbedding(sizes, dim)
        self.position = nn.Parameter(torch.randn(length, dim) * EMBEDDING_STD)
        self.length, self.output_dim = length, self.features.output_dim + dim

    def forward(self, ids: Int[Tensor, "B T F"]) -> Float[Tensor, "B T X"]:
        position = self.position.expand(ids.shape[0], -1, -1)
        return torch.cat([self.features(ids), position], dim=-1)

    def mean(self, ids: Int[Tensor, "B T F"]) -> Float[Tensor, "B X"]:
        """The mean over days, without the days' vectors."""
        position = self.position.mean(dim=0).expand(ids.shape[0], -1)
        return torch.cat([self.features.mean(ids), position], dim=-1)

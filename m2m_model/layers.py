"""Feed-forward layers of the backbone (4.1.3-4.1.5): expert views, task views, scenario knowledge.

Each f_MLP is one LeakyReLU layer. Letters: B rows, X dimension of F, k expert views, M tasks, V view dimension,
C id columns, S dimension of the scenario knowledge.
"""

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from m2m_model.encoder import EMBEDDING_STD, FeatureEmbedding


class ExpertViews(nn.Module):
    """E_i = f_MLP(F), eq. 6; all k views in one product.

    Shape:
        [B, X] -> [B, k, V]
    """

    def __init__(self, dim: int, *, experts: int, view_dim: int) -> None:
        super().__init__()
        self.experts, self.view_dim = experts, view_dim
        self.linear = nn.Linear(dim, experts * view_dim)

    def forward(self, features: Float[Tensor, "B X"]) -> Float[Tensor, "B k V"]:
        return functional.leaky_relu(self.linear(features)).view(len(features), self.experts, self.view_dim)


class TaskViews(nn.Module):
    """T_t = f_MLP(Embedding(t)), eq. 7: the same for every row.

    Shape:
        () -> [M, V]
    """

    def __init__(self, *, tasks: int, embedding_dim: int, view_dim: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tasks, embedding_dim)
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD)
        self.linear = nn.Linear(embedding_dim, view_dim)

    def forward(self) -> Float[Tensor, "M V"]:
        return functional.leaky_relu(self.linear(self.embedding.weight))


class ScenarioKnowledge(nn.Module):
    """S~ = f_MLP(S, A), eq. 8, from the ids of scenario attributes and advertiser profile.

    Shape:
        [B, C] -> [B, S]
    """

    def __init__(self, sizes: Sequence[int], *, embedding_dim: int, knowledge_dim: int) -> None:
        super().__init__()
        self.embedding = FeatureEmbedding(sizes, embedding_dim)
        self.linear = nn.Linear(self.embedding.output_dim, knowledge_dim)

    def forward(self, ids: Int[Tensor, "B C"]) -> Float[Tensor, "B S"]:
        return functional.leaky_relu(self.linear(self.embedding(ids)))

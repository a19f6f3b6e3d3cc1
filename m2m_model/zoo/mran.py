"""MRAN (Zhao et al., KDD 2019): relations among tasks, among features, and of tasks to features, all by attention.

No implementation is public, and M2M's paper says only that it "contains a task-feature dependence learning module,
which can associate the related features with target tasks separately". Assumed here:

- the tasks are anchor embeddings as in M2M (eq. 7, which M2M's paper takes from MRAN), and are refined by
  self-attention among them: the task-task relation;
- the features that attention runs over are k views of the common encoder's output (eq. 6), refined by self-attention
  among them: the feature-feature relation;
- each refined task queries the refined views: the task-feature dependence. Its tower gets the sum it attends to and
  the refined task, concatenated.

Self-attention is scaled dot-product with one head, added to its input. Letters: B rows, M tasks, k views, V view
dimension, N items.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from m2m_model.backbone import Encoder
from m2m_model.batch import Batch
from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.layers import ExpertViews, GroupedLinear, TaskViews, Towers


class Relation(nn.Module):
    """``y_i = sum_j softmax_j(Q x_i . K z_j / sqrt(V)) W z_j``: how items x depend on items z.

    Shape:
        x [..., N, V], z [..., k, V] -> [..., N, V]
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(dim, dim, bias=False) for _ in range(3))

    def forward(self, x: Float[Tensor, "*rows N V"], z: Float[Tensor, "*#rows k V"]) -> Float[Tensor, "*rows N V"]:
        scores = self.query(x) @ self.key(z).transpose(-1, -2) / math.sqrt(x.shape[-1])
        y: Tensor = scores.softmax(dim=-1) @ self.value(z)
        return y


class MRAN(nn.Module):
    """See the module docstring.

    Shape:
        Batch of B rows -> [B, M, V]
    """

    def __init__(self, config: ModelConfig, spec: DatasetSpec) -> None:
        super().__init__()
        tasks, view_dim = len(spec.tasks), config.view_dim
        self.encoder = Encoder(config, spec)
        self.views = ExpertViews(self.encoder.output_dim, experts=config.experts, view_dim=view_dim)
        self.task_views = TaskViews(tasks=tasks, embedding_dim=config.embedding_dim, view_dim=view_dim)
        self.among_tasks, self.among_features, self.of_tasks_to_features = (Relation(view_dim) for _ in range(3))
        self.joint = GroupedLinear(tasks, 2 * view_dim, view_dim)
        self.towers = Towers(tasks=tasks, view_dim=view_dim, layers=config.tower_layers)

    def forward(self, batch: Batch) -> Float[Tensor, "B M V"]:
        views, tasks = self.views(self.encoder(batch).together()), self.task_views()
        views = views + self.among_features(views, views)
        tasks = tasks + self.among_tasks(tasks, tasks)
        of_rows = tasks.expand(len(views), -1, -1)
        attended = self.of_tasks_to_features(of_rows, views)
        x: Tensor = self.towers(functional.leaky_relu(self.joint(torch.cat([attended, of_rows], dim=-1))))
        return x

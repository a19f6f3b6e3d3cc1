"""What a model of the paper's kind looks at: attention over its expert views, and its knowledge of scenarios.

Letters: N rows, M tasks, k expert views, S dimension of the scenario knowledge.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from m2m_model.batch import Batch
from m2m_model.generated import per_row
from m2m_model.meta import MetaAttention
from m2m_model.zoo.m2m import M2M
from training.checkpoint import LoadedModel
from training.scoring import ROWS_AT_A_TIME, knowledge_order


class Explanation(NamedTuple):
    attention: Float[np.ndarray, "N M k"]
    """alpha of eq. 15; sums to 1 over views."""
    knowledge: Float[np.ndarray, "N S"]
    """S~ of eq. 8."""


def explainable(model: LoadedModel) -> M2M | None:
    """The part of a model that has generated attention and scenario knowledge; None of one that has not."""
    parts = (part for part in model.module.modules() if isinstance(part, M2M))
    return next((part for part in parts if isinstance(part.attention, MetaAttention)), None)


def explain(m2m: M2M, batch: Batch) -> Explanation:
    """Attention and knowledge of every row, in the batch's order."""
    assert isinstance(m2m.attention, MetaAttention)
    m2m.eval()
    order, attention, knowledge = knowledge_order(batch), [], []
    with torch.inference_mode():
        for rows in torch.split(order, ROWS_AT_A_TIME):
            trunk = m2m.trunk(batch.select(rows))
            parts = [
                m2m.attention.weights(trunk.experts, trunk.tasks[tasks], trunk.knowledge, trunk.runs, unit=unit)
                for unit, tasks in enumerate(m2m.task_groups)
            ]
            attention.append(torch.cat(parts, dim=1)[trunk.position])
            knowledge.append(per_row(trunk.knowledge, trunk.runs)[trunk.position])
    back = order.argsort()
    return Explanation(*(torch.cat(found)[back].numpy() for found in (attention, knowledge)))

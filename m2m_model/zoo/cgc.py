"""CGC (Tang et al., RecSys 2020): experts of each task's own beside shared ones, a gate over both for each task."""

from m2m_model.config import ModelConfig
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.zoo.ple import PLE


class CGC(PLE):
    """PLE with one level of experts.

    Shape:
        Batch of B rows -> [B, M, V]
    """

    def __init__(self, config: ModelConfig, spec: DatasetSpec) -> None:
        super().__init__(config.model_copy(update={"extraction_layers": 1}), spec)

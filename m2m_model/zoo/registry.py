"""All models, by name. A new one is one file and one line here: a body that makes [B, M, V] of a batch.

What goes in (:mod:`m2m_model.backbone`), what comes out (:mod:`m2m_model.output`) and the loss
(:mod:`m2m_model.losses`) are the same for all. Names of parameters that L2 should leave alone end as
``m2m_model.losses.NO_WEIGHTS`` says.
"""

from collections.abc import Callable

from torch import nn

from m2m_model.config import ModelConfig
from m2m_model.contracts.errors import UserError
from m2m_model.contracts.spec import DatasetSpec
from m2m_model.model import Model
from m2m_model.output import Output
from m2m_model.zoo.cgc import CGC
from m2m_model.zoo.cross_stitch import CrossStitch
from m2m_model.zoo.m2m import M2M
from m2m_model.zoo.mmoe import MMoE
from m2m_model.zoo.mran import MRAN
from m2m_model.zoo.pepnet import PEPNet
from m2m_model.zoo.ple import PLE
from m2m_model.zoo.shared_bottom import SharedBottom
from m2m_model.zoo.single_task import EmbeddingMlp, SingleTask
from m2m_model.zoo.star import STAR

MODELS: dict[str, Callable[[ModelConfig, DatasetSpec], nn.Module]] = {
    "embedding_mlp": EmbeddingMlp,
    "single_task": SingleTask,
    "shared_bottom": SharedBottom,
    "cross_stitch": CrossStitch,
    "mmoe": MMoE,
    "mran": MRAN,
    "cgc": CGC,
    "ple": PLE,
    "star": STAR,
    "pepnet": PEPNet,
    "m2m": M2M,
}


def build_model(config: ModelConfig, spec: DatasetSpec) -> Model:
    """A freshly initialised model (the seed is the caller's).

    Raises:
        UserError: there is no model of that name.
    """
    if config.name not in MODELS:
        raise UserError(f"model.name must be one of {sorted(MODELS)}, however: {config.name!r}")
    body = MODELS[config.name](config, spec)
    output = Output(spec, config.view_dim, offset=config.offset == "history", distribution=config.distribution)
    return Model(body, output, uncertainty_weights=config.uncertainty_weights)

"""Checks before work starts: a cluster too small makes Ray wait forever, so say what is missing instead."""

import sys
from collections.abc import Mapping

import torch

from m2m_model.contracts.errors import UserError
from training.config import ClusterConfig, Precision

WITHOUT_BF16 = ("AVX2", "NO AVX")
"""CPU capabilities, as torch names them, whose bf16 products are emulated: fifty times as slow as fp32 ones on AVX2."""


def check_resources(config: ClusterConfig, resources: Mapping[str, float], *, workers: int, what: str) -> None:
    """Refuse to start ``workers`` ``what`` (such as training workers) that the cluster's ``resources`` cannot hold.

    Raises:
        UserError: names wanted and present CPUs and the settings that would fit.
    """
    wanted, present = workers * config.cpus_per_worker, resources.get("CPU", 0.0)
    if wanted > present:
        raise UserError(
            f"{workers} {what} of {config.cpus_per_worker:g} CPU need {wanted:g} CPUs, however: the cluster has "
            f"{present:g}; {wanted - present:g} missing. Lower cluster.workers, predict.actors or "
            "cluster.cpus_per_worker, or join a larger cluster with --address"
        )


def warn_of_slow_precision(precision: Precision, *, setting: str) -> None:
    """Say so where ``setting`` asks for bf16 on a machine that would take far longer by it. Workers may be others."""
    capability = torch.backends.cpu.get_cpu_capability()
    if precision == "bf16" and capability in WITHOUT_BF16:
        print(
            f'warning: {setting} = "bf16" needs AVX-512, this machine has {capability} and emulates it, many times '
            f'slower than fp32: if the workers are like it, set {setting} = "fp32"',
            file=sys.stderr,
        )

"""Checks before work starts: a cluster too small makes Ray wait forever, so say what is missing instead."""

from collections.abc import Mapping

from m2m_model.contracts.errors import UserError
from training.config import ClusterConfig


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

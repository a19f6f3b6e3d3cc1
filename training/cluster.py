"""Joining or starting a Ray cluster."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from m2m_model.contracts.errors import UserError
from training.config import ClusterConfig

CONNECT_SECONDS = 5.0


@contextmanager
def connected(config: ClusterConfig) -> Iterator[None]:
    """Join the cluster at ``config.address`` or RAY_ADDRESS, else start one that lives as long as the block.

    A process that is connected already stays so.

    Raises:
        UserError: nothing answers at the address.
    """
    if ray.is_initialized():
        yield
        return
    address = config.address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        _knock(address)
        ray.init(
            address=address,
            include_dashboard=False if address == "local" else None,
            logging_level=logging.ERROR,
            log_to_driver=False,
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({str(error).splitlines()[0]}): start one with "
            "`ray start --head`, or leave out --address for a local one"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Fail at once where nobody listens: Ray would go on trying for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()

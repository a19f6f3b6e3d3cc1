"""A model of training on many machines: measured compute, counted bytes, a network's latency and bandwidth.

Letters: W workers (one per machine), P parameters.
"""

from dataclasses import dataclass

BYTES = {"fp32": 4, "bf16": 2}
BACKWARD = 2 / 3
"""Share of a step in which gradients become ready bucket by bucket, so that sending them can hide behind it."""


@dataclass(frozen=True, kw_only=True)
class Network:
    latency_s: float
    """Of one message between two machines."""
    bytes_per_s: float
    """Of a machine's link, each way."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One worker's training, alone."""

    parameters: int
    rows_per_step: int
    """Of one worker."""
    rows_per_core_s: float
    cores: int
    """Of one worker."""

    @property
    def step_s(self) -> float:
        return self.rows_per_step / (self.rows_per_core_s * self.cores)


def ring_all_reduce_s(network: Network, *, workers: int, size: float) -> float:
    """Seconds for ``size`` bytes: 2 (W - 1) rounds, each of a W-th of them."""
    rounds = 2 * (workers - 1)
    return rounds * (network.latency_s + size / workers / network.bytes_per_s)


def rows_per_s(
    workload: Workload, network: Network, *, workers: int, gradients: str = "fp32", period: int = 1
) -> float:
    """Rows of all workers per second.

    ``period`` 1 is DDP: a step's gradients are sent while its backward pass goes on, and two small sums (the step's
    rows and loss) are not hidden. A larger one is local SGD: weights, always fp32, are averaged every so many steps,
    behind nothing.
    """
    if workers == 1:
        return workload.rows_per_step / workload.step_s
    if period > 1:
        average = ring_all_reduce_s(network, workers=workers, size=workload.parameters * BYTES["fp32"])
        step = workload.step_s + average / period
    else:
        send = ring_all_reduce_s(network, workers=workers, size=workload.parameters * BYTES[gradients])
        sums = 2 * ring_all_reduce_s(network, workers=workers, size=8)
        step = workload.step_s + max(0.0, send - BACKWARD * workload.step_s) + sums
    return workers * workload.rows_per_step / step


def asynchronous_rows_per_s(
    workload: Workload, network: Network, *, workers: int, servers: int, update_s_per_parameter: float
) -> float:
    """Rows per second with parameter servers: every update pulls and pushes all weights, shares the servers' links, and
    takes each server an optimizer step over its part of the parameters. ``train.staleness`` is at least the number of
    workers: with less, some wait.

    A worker's own link binds before the servers' do unless there are fewer servers than workers.
    """
    size = workload.parameters * BYTES["fp32"]
    alone = workload.step_s + 2 * (network.latency_s + size / network.bytes_per_s)
    updated = servers / (workload.parameters * update_s_per_parameter)
    updates = min(workers / alone, servers * network.bytes_per_s / size, updated)
    return updates * workload.rows_per_step

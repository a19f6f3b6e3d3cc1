"""The scaling model against a simulation of the ring, and its limits."""

import pytest

from benchmarks.scaling.network import Network, Workload, asynchronous_rows_per_s, ring_all_reduce_s, rows_per_s

NETWORK = Network(latency_s=50e-6, bytes_per_s=1.25e9)
WORKLOAD = Workload(parameters=1_000_000, rows_per_step=256, rows_per_core_s=300, cores=15)


def simulated_ring(workers: int, size: float) -> float:
    """Every machine sends a chunk to the next, and starts a round when the last one's chunk is there."""
    ready = [0.0] * workers
    for _ in range(2 * (workers - 1)):
        sent = [at + NETWORK.latency_s + size / workers / NETWORK.bytes_per_s for at in ready]
        ready = [max(sent[rank - 1], sent[rank]) for rank in range(workers)]
    return max(ready)


@pytest.mark.parametrize("workers", [2, 3, 40])
def test_a_ring_takes_what_its_rounds_take(workers: int) -> None:
    assert ring_all_reduce_s(NETWORK, workers=workers, size=1e8) == pytest.approx(simulated_ring(workers, 1e8))


def test_one_worker_needs_no_network() -> None:
    assert rows_per_s(WORKLOAD, NETWORK, workers=1) == pytest.approx(300 * 15)


def test_small_models_scale_and_large_ones_are_bound_by_bytes() -> None:
    ideal = 40 * 300 * 15
    assert rows_per_s(WORKLOAD, NETWORK, workers=40) > 0.7 * ideal
    large = Workload(parameters=384_000_000, rows_per_step=256, rows_per_core_s=130, cores=15)
    ddp = rows_per_s(large, NETWORK, workers=40)
    assert rows_per_s(large, NETWORK, workers=40, gradients="bf16") == pytest.approx(2 * ddp, rel=0.1)
    assert rows_per_s(large, NETWORK, workers=40, period=64) > 8 * ddp
    # One server's link carries one update per model's worth of bytes.
    one = asynchronous_rows_per_s(large, NETWORK, workers=40, servers=1, update_s_per_parameter=0.6e-9)
    assert one == pytest.approx(256 * 1.25e9 / (4 * 384e6))
    # Or one optimizer step, where that takes longer.
    one = asynchronous_rows_per_s(large, NETWORK, workers=40, servers=1, update_s_per_parameter=5e-9)
    assert one == pytest.approx(256 / (5e-9 * 384e6))

"""The picture: how much of 40 machines' compute is left after communication, by way to synchronise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

from benchmarks.scaling.network import Network, Workload, asynchronous_rows_per_s, rows_per_s

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

Loads = Mapping[str, Workload]

MACHINES, CORES, ROWS_PER_STEP = 40, 15, 256
"""The paper's 600 cores as 40 workers of 15, each taking the paper's batch."""
NETWORK = Network(latency_s=50e-6, bytes_per_s=10e9 / 8)
"""TCP between two machines of a data centre, a 10 Gbit/s link each."""
SERVERS = 10
UPDATE_S_PER_PARAMETER = 1.9e-9
"""Of one core, bound by memory (benchmarks/training.md)."""


@dataclass(frozen=True, kw_only=True)
class Here:
    """What was measured on this machine, and the workload and link to predict it from."""

    load: Workload
    network: Network
    rows_per_s: Mapping[int, float]
    """By number of workers."""


def paper_loads(*, shared: float, per_task: float, shared_parameters: int, per_task_parameters: int) -> Loads:
    """The paper's model on the paper's machines, at so many rows per core-second."""
    rates = {"shared": (shared, shared_parameters), "per task": (per_task, per_task_parameters)}
    return {
        name: Workload(parameters=parameters, rows_per_step=ROWS_PER_STEP, rows_per_core_s=rate, cores=CORES)
        for name, (rate, parameters) in rates.items()
    }


def draw(here: Here, loads: Loads, path: Path) -> dict[str, float]:
    """Draw the curves to ``path``; returns the efficiency of each at its right end."""
    figure, axes = plt.subplots(1, 1 + len(loads), figsize=(14, 4.4), sharey=True, layout="constrained")
    _draw_here(axes[0], here)
    ends: dict[str, float] = {}
    workers = np.unique(np.geomspace(1, MACHINES, 60).round().astype(int))
    for axis, (name, load) in zip(axes[1:], loads.items(), strict=True):
        for label, rows in _ways(load).items():
            efficiency = [_efficiency(rows(int(count)), load, int(count)) for count in workers]
            axis.plot(workers, efficiency, label=label)
            ends[f"{name}, {label}"] = round(efficiency[-1], 3)
        rate = f"{load.rows_per_core_s:.0f} rows/core-s"
        axis.set_title(f"paper's sizes, {name}: {load.parameters / 1e6:.0f} M parameters, {rate}", size=9)
        axis.set(xscale="log", xlabel=f"workers of {CORES} cores")
        axis.set_xticks([1, 2, 5, 10, 20, 40], labels=["1", "2", "5", "10", "20", "40"])
    for axis in axes:
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7, loc="lower left")
    axes[-1].legend(fontsize=7, loc="upper right", ncols=2)
    axes[0].set(ylim=(0, 1.2), ylabel="rows/s over those of as many workers alone")
    figure.suptitle(
        f"Left: this machine. Right: modelled, {ROWS_PER_STEP} rows a worker and step, {MACHINES} machines of {CORES} "
        f"cores, 10 Gbit/s, 50 us, ring all-reduce, {SERVERS} parameter servers",
        size=9,
    )
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return ends


def _draw_here(axis: Axes, here: Here) -> None:
    workers = [1, 2, 3, 4]
    modelled = [rows_per_s(here.load, here.network, workers=count) for count in workers]
    axis.plot(
        workers, [_efficiency(r, here.load, w) for r, w in zip(modelled, workers, strict=True)], label="DDP, model"
    )
    measured = [_efficiency(rate, here.load, count) for count, rate in here.rows_per_s.items()]
    axis.plot(list(here.rows_per_s), measured, "k^", label="DDP, measured")
    axis.set_title(f"small preset: {here.load.parameters / 1e6:.1f} M parameters", size=9)
    axis.set(xlabel="workers of one core")
    axis.set_xticks(workers)


def _efficiency(rate: float, load: Workload, workers: int) -> float:
    return rate / (workers * load.rows_per_core_s * load.cores)


def _ways(load: Workload) -> dict[str, Callable[[int], float]]:
    return {
        "DDP": lambda workers: rows_per_s(load, NETWORK, workers=workers),
        "DDP, bf16 gradients": lambda workers: rows_per_s(load, NETWORK, workers=workers, gradients="bf16"),
        "local SGD, every 8 steps": lambda workers: rows_per_s(load, NETWORK, workers=workers, period=8),
        "local SGD, every 64 steps": lambda workers: rows_per_s(load, NETWORK, workers=workers, period=64),
        "async": lambda workers: asynchronous_rows_per_s(
            load, NETWORK, workers=workers, servers=SERVERS, update_s_per_parameter=UPDATE_S_PER_PARAMETER
        ),
    }

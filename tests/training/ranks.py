"""Real process groups for tests: one process per rank, gone when their test is."""

import gc
import tempfile
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_ranks(world: int, function: Callable[..., None], *arguments: Any) -> None:
    """Call ``function(rank, *arguments)`` in each of ``world`` processes of one gloo group; raises what one raised."""
    with tempfile.TemporaryDirectory() as folder:
        # Daemons end with the test's process, also where a test ran into its time limit.
        mp.start_processes(  # type: ignore[no-untyped-call]
            _rank, args=(world, f"{folder}/group", function, arguments), nprocs=world, daemon=True, start_method="spawn"
        )


def _rank(rank: int, world: int, meeting: str, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    function(rank, *arguments)
    # A DistributedDataParallel that outlives the group ends the group's threads while it holds the interpreter's lock,
    # which they may be waiting for: both then wait for ever.
    gc.collect()
    dist.barrier()
    dist.destroy_process_group()

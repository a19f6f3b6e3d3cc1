"""Ways to synchronise ranks, on real process groups: exact, or off by a known bound."""

import asyncio
import copy
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from tests.training.ranks import run_ranks
from tests.training.test_loop import ROWS, ListReader, make_loop
from training.config import TrainConfig
from training.loop import Snapshot
from training.sync.coordinator import Coordinator
from training.sync.ddp import Synchronous

SHARES = [list(range(9)), list(range(9, ROWS))]
BATCH = 3


def config(**changed: Any) -> TrainConfig:
    return TrainConfig(epochs=2, early_stopping_patience=9, learning_rate=0.05, learning_rate_decay=0.5, **changed)


def _rank(rank: int, folder: Path, changed: dict[str, Any]) -> None:
    loop = make_loop(config(**changed), ListReader(SHARES[rank], batch_size=BATCH))
    last = loop.run()
    held = 0
    if isinstance(loop.sync, Synchronous):
        states = getattr(loop.sync.optimizer, "optim", loop.sync.optimizer).state.values()
        held = sum(state["exp_avg"].numel() for state in states)
    torch.save({"model": last.model, "optimizer": last.optimizer, "held": held}, folder / f"out{rank}.pt")


def trained(folder: Path, **changed: Any) -> list[dict[str, Any]]:
    """What the two ranks end with."""
    folder.mkdir()
    run_ranks(2, _rank, folder, changed)
    return [torch.load(folder / f"out{rank}.pt", weights_only=True) for rank in range(2)]


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    for name, weights in left.items():
        torch.testing.assert_close(right[name], weights, rtol=0, atol=0)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return trained(tmp_path_factory.mktemp("plain") / "run")


def test_sharded_moments_change_nothing_and_are_held_once(tmp_path: Path, plain: list[dict[str, Any]]) -> None:
    sharded = trained(tmp_path / "run", shard_optimizer=True, bucket_mib=1)
    assert_equal(plain[0]["model"], sharded[0]["model"])
    parameters = sum(weights.numel() for weights in plain[0]["model"].values())
    assert [one["held"] for one in plain] == [parameters, parameters]
    assert sum(one["held"] for one in sharded) == parameters
    # Rank 0's snapshot is the whole state, as a plain optimizer's.
    assert sharded[0]["optimizer"]["state"].keys() == plain[0]["optimizer"]["state"].keys()
    for position, state in plain[0]["optimizer"]["state"].items():
        assert_equal(state, sharded[0]["optimizer"]["state"][position])


def test_gradients_as_bfloat16_stay_near(tmp_path: Path, plain: list[dict[str, Any]]) -> None:
    halved = trained(tmp_path / "run", all_reduce="bf16")
    for name, weights in plain[0]["model"].items():
        moved = (halved[0]["model"][name] - weights).abs().max()
        assert 0 < moved < 0.05  # of steps that are each up to 0.05 long, and 10 of them


# --- local SGD --------------------------------------------------------------------------------------------------------


def _moments(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [state[name] for state in optimizer.state.values() for name in ("step", "exp_avg", "exp_avg_sq")]


def local_sgd_by_hand(period: int) -> dict[str, Tensor]:
    """Two models side by side in one process, averaged by the rows since the last average."""
    loops = [make_loop(config(), ListReader(share, batch_size=BATCH)) for share in SHARES]
    optimizers = [torch.optim.Adam(loop.model.parameters(), lr=0.05, betas=(0.9, 0.998), eps=1e-9) for loop in loops]
    for epoch in range(2):
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 0.05 * 0.5**epoch
        batches = [[batch for batch, _ in loop.train.epoch(epoch)] for loop in loops]
        for start in range(0, max(map(len, batches)), period):
            rows = [0, 0]
            for rank, loop in enumerate(loops):
                for batch in batches[rank][start : start + period]:
                    loop._gradient(loop.model, batch, 1 / len(batch), None)
                    nn.utils.clip_grad_value_(loop.model.parameters(), loop.config.clip_value)
                    optimizers[rank].step()
                    rows[rank] += len(batch)
            with torch.no_grad():
                for both in zip(*(loop.model.parameters() for loop in loops), strict=True):
                    mean = sum(r * p for r, p in zip(rows, both, strict=True)) / sum(rows)
                    for weights in both:
                        weights.copy_(mean)
        for both in zip(*(_moments(optimizer) for optimizer in optimizers), strict=True):
            mean = sum(both) / 2
            for moment in both:
                moment.copy_(mean)
    return dict(loops[0].model.state_dict())


@pytest.mark.parametrize("period", [2, 3])
def test_local_sgd_is_what_it_says(tmp_path: Path, period: int) -> None:
    together = trained(tmp_path / "run", sync="local_sgd", sync_period=period)
    for name, weights in local_sgd_by_hand(period).items():
        torch.testing.assert_close(together[0]["model"][name], weights, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(together[1]["model"][name], together[0]["model"][name], rtol=0, atol=0)


def test_local_sgd_of_one_worker_is_plain_training() -> None:
    snapshots: list[Snapshot] = [
        make_loop(config(**changed), ListReader(list(range(ROWS)), batch_size=BATCH)).run()
        for changed in ({}, {"sync": "local_sgd", "sync_period": 3})
    ]
    assert_equal(snapshots[0].model, snapshots[1].model)


# --- resume -----------------------------------------------------------------------------------------------------------

WAYS = ({}, {"shard_optimizer": True}, {"sync": "local_sgd", "sync_period": 2})


def _resuming_rank(rank: int) -> None:
    for number, changed in enumerate(WAYS):
        saved: list[Snapshot] = []

        def save(snapshot: Snapshot, saved: list[Snapshot] = saved) -> None:
            saved.append(copy.deepcopy(snapshot))

        unbroken = make_loop(config(**changed), ListReader(SHARES[rank], batch_size=BATCH), save=save).run()
        first_epoch = [saved[0]]
        dist.broadcast_object_list(first_epoch, src=0)  # checkpoints are rank 0's
        resumed = make_loop(config(**changed), ListReader(SHARES[rank], batch_size=BATCH))
        resumed.restore(first_epoch[0])
        again = resumed.run()
        if rank == 0:
            assert again.state == unbroken.state, number
            assert_equal(unbroken.model, again.model)


def test_two_ranks_resume_bit_identical() -> None:
    run_ranks(2, _resuming_rank)


# --- bounded staleness ------------------------------------------------------------------------------------------------


async def _train(coordinator: Coordinator, steps: Sequence[int], random_: random.Random) -> list[int]:
    """Ranks with so many steps to take, each of random length; returns every update's staleness."""
    stale: list[int] = []
    updates = at_last_meeting = 0
    barrier = asyncio.Barrier(len(steps))

    async def meet() -> bool:
        """Whether nothing was done since the last meeting."""
        nonlocal at_last_meeting
        await barrier.wait()
        over = updates == at_last_meeting
        await barrier.wait()
        at_last_meeting = updates
        await barrier.wait()
        return over

    async def rank(number: int) -> None:
        nonlocal updates
        for _ in range(steps[number]):
            await coordinator.begin(number)
            seen = updates
            await asyncio.sleep(random_.random() * 1e-3 * (1 + 5 * number))
            await coordinator.turn(number)
            await asyncio.sleep(random_.random() * 1e-4)
            stale.append(updates - seen)
            updates += 1
            if await coordinator.arrived(number):
                await meet()
        over = False
        while not over:
            await coordinator.out_of_rows(number)
            over = await meet()

    await asyncio.gather(*(rank(number) for number in range(len(steps))))
    return stale


@pytest.mark.parametrize("bound", [0, 1, 3, 20])
@pytest.mark.parametrize("seed", range(3))
def test_no_update_is_staler_than_the_bound(bound: int, seed: int) -> None:
    random_ = random.Random(seed)
    steps = [random_.randrange(1, 12) for _ in range(4)]
    coordinator = Coordinator(ranks=4, bound=bound, meet_every=5)
    stale = asyncio.run(asyncio.wait_for(_train(coordinator, steps, random_), 30))
    assert len(stale) == sum(steps)
    assert max(stale) <= bound
    assert max(stale) <= coordinator.largest_staleness <= bound


def test_chunks_are_dealt_once() -> None:
    async def deal() -> list[int]:
        coordinator = Coordinator(ranks=2, bound=0, meet_every=1)
        return list(await asyncio.gather(*(coordinator.deal(epoch) for epoch in (0, 0, 0))))

    assert sorted(asyncio.run(deal())) == [0, 1, 2]


@pytest.mark.ray
def test_one_asynchronous_worker_is_plain_training() -> None:
    """Through a parameter server for each of two shares of the weights; also the moments come back to their places."""
    import ray

    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        plain, pushed = (
            make_loop(config(**changed), ListReader(list(range(ROWS)), batch_size=BATCH)).run()
            for changed in ({}, {"sync": "async", "staleness": 0, "parameter_servers": 2})
        )
    finally:
        ray.shutdown()
    assert_equal(plain.model, pushed.model)
    for position, state in plain.optimizer["state"].items():
        assert_equal(state, pushed.optimizer["state"][position])


def test_unknown_ways_are_refused() -> None:
    with pytest.raises(ValueError, match="sync"):
        TrainConfig.model_validate({"sync": "gossip"})

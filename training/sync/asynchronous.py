"""Asynchronous training with bounded staleness: ranks pull weights from parameter servers and push gradients, each at
its own pace; the servers, Ray actors, take every gradient as an update of its own.

Rows are dealt in chunks to whoever asks, so that a slow rank gets fewer (the Parquet reader). Ranks meet every
``checkpoint_every_steps`` updates and when all rows are trained on; then all have the servers' weights, and what
follows a meeting (validation, checkpoints) means what it means in synchronous training.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
import torch
import torch.distributed as dist
from torch import Tensor, nn

from m2m_model.batch import Batch
from training.config import TrainConfig
from training.optimizer import ClippedAdam, adam_options, make_optimizer, set_rate
from training.sync.base import Gradient, Meeting, broadcast_parameters, total, world
from training.sync.coordinator import Coordinator


class ParameterServer:
    """Some of the parameters, with their optimizer.

    ``alphas``: each one's coefficient of the L2 term; ``state``: Adam's moments and counts, by position.
    """

    def __init__(
        self, weights: Sequence[np.ndarray], alphas: Sequence[float], state: dict[int, Any], config: TrainConfig
    ) -> None:
        torch.set_num_threads(1)
        self.parameters = [nn.Parameter(torch.tensor(array)) for array in weights]
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        groups = [{"params": [p], "alpha": alpha} for p, alpha in zip(self.parameters, alphas, strict=True)]
        self.optimizer = ClippedAdam(groups, **adam_options(config))
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def pull(self) -> list[np.ndarray]:
        return [parameter.detach().numpy() for parameter in self.parameters]

    def push(self, gradients: Sequence[np.ndarray]) -> None:
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            assert parameter.grad is not None
            np.copyto(parameter.grad.numpy(), gradient)
        self.optimizer.step()

    def set_learning_rate(self, rate: float) -> None:
        set_rate(self.optimizer, rate)

    def state(self) -> dict[int, dict[str, Tensor]]:
        """Adam's moments and counts by position of the parameter."""
        state: dict[int, dict[str, Tensor]] = self.optimizer.state_dict()["state"]
        return state


class Asynchronous:
    """A rank's side. Rank 0 owns the actors, which end with it."""

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        self.model, self.config = model, config
        self.optimizer = make_optimizer(model, config)  # carries state in and out
        pairs = [(p, group["alpha"]) for group in self.optimizer.param_groups for p in group["params"]]
        self.parameters, self.alphas = [p for p, _ in pairs], [alpha for _, alpha in pairs]
        self.rank, self.world = world()
        self.shares = shares([parameter.numel() for parameter in self.parameters], config.parameter_servers)
        self.coordinator = self._from_rank_0(self._make_coordinator)
        self.servers: list[Any] = []
        self.rows, self.loss, self.steps = 0, 0.0, 0

    def start(self) -> None:
        if self.world > 1:
            broadcast_parameters(self.parameters)
        self.servers = self._from_rank_0(self._make_servers)

    def set_learning_rate(self, rate: float) -> None:
        if self.rank == 0:
            ray.get([server.set_learning_rate.remote(rate) for server in self.servers])
        if self.world > 1:
            dist.barrier()

    def step(self, batch: Batch | None, gradient: Gradient) -> Meeting | None:
        if batch is None:
            ray.get(self.coordinator.out_of_rows.remote(self.rank))
            return self._meet()
        return self._meet() if self._update(batch, gradient) else None

    def deal(self, epoch: int, count: int) -> Iterator[int]:
        """Positions of the chunks, of ``count``, that this rank is to read; each goes to one rank."""
        while (position := int(ray.get(self.coordinator.deal.remote(epoch)))) < count:
            yield position

    def optimizer_state(self) -> dict[str, Any]:
        if self.rank != 0:
            return {}
        states = ray.get([server.state.remote() for server in self.servers])
        merged = {
            position: state[local]
            for positions, state in zip(self.shares, states, strict=True)
            for local, position in enumerate(positions)
            if local in state
        }
        return {"state": merged, "param_groups": self.optimizer.state_dict()["param_groups"]}

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)

    def _update(self, batch: Batch, gradient: Gradient) -> bool:
        """One gradient on the newest weights, as one update. Returns whether to meet the others now."""
        ray.get(self.coordinator.begin.remote(self.rank))
        self._pull()
        self.loss += gradient(self.model, batch, 1 / len(batch), None)
        self.rows += len(batch)
        self.steps += 1
        pushed = [
            ray.put([_gradient(self.parameters[position]) for position in positions]) for positions in self.shares
        ]
        ray.get(self.coordinator.turn.remote(self.rank))
        ray.get([server.push.remote(part) for server, part in zip(self.servers, pushed, strict=True)])
        return bool(ray.get(self.coordinator.arrived.remote(self.rank)))

    def _pull(self) -> None:
        pulled = ray.get([server.pull.remote() for server in self.servers])
        for positions, arrays in zip(self.shares, pulled, strict=True):
            for position, array in zip(positions, arrays, strict=True):
                np.copyto(self.parameters[position].detach().numpy(), array)

    def _meet(self) -> Meeting:
        rows, loss, steps = total([self.rows, self.loss, self.steps])  # from here on nobody pushes
        self.rows, self.loss, self.steps = 0, 0.0, 0
        self._pull()
        if self.world > 1:
            dist.barrier()
        return Meeting(rows=int(rows), loss=loss, steps=int(steps))

    def _make_coordinator(self) -> Any:
        # No CPU of their own: the workers hold them all. They share the cores of rank 0's machine, or of any.
        return (
            ray.remote(Coordinator)
            .options(num_cpus=0)
            .remote(ranks=self.world, bound=self.config.staleness, meet_every=self.config.checkpoint_every_steps)
        )

    def _make_servers(self) -> list[Any]:
        state = self.optimizer.state_dict()["state"]
        actor = ray.remote(ParameterServer).options(num_cpus=0)
        return [
            actor.remote(
                [self.parameters[position].detach().numpy() for position in positions],
                [self.alphas[position] for position in positions],
                {i: state[p] for i, p in enumerate(positions) if p in state},
                self.config,
            )
            for positions in self.shares
        ]

    def _from_rank_0(self, make: Any) -> Any:
        made = [make() if self.rank == 0 else None]
        if self.world > 1:
            dist.broadcast_object_list(made, src=0)
        return made[0]


def shares(sizes: Sequence[int], servers: int) -> list[list[int]]:
    """Positions of parameters that each server holds: the largest first, each to the one that holds least."""
    servers = min(servers, len(sizes))
    positions: list[list[int]] = [[] for _ in range(servers)]
    held = [0] * servers
    for position in sorted(range(len(sizes)), key=lambda p: -sizes[p]):
        poorest = held.index(min(held))
        positions[poorest].append(position)
        held[poorest] += sizes[position]
    return positions


def _gradient(parameter: Tensor) -> np.ndarray:
    assert parameter.grad is not None
    array: np.ndarray = parameter.grad.numpy()
    return array

"""Who may go when, in asynchronous training: an asyncio object, one for all ranks.

Staleness of an update is the number of updates that the weights got between its gradient's pull and its own arrival. A
gradient that was begun after s updates had arrived must arrive as one of the first s + bound + 1, which is a deadline;
the coordinator lets gradients begin, and be pushed, as long as all that are under way can still meet theirs, pushes
arriving in any order. The gradient with the earliest deadline can always go next, so nobody waits in a ring, and a rank
slower than the others holds them up only when the bound is reached. With bound 0 one rank works at a time, on the
newest weights.
"""

import asyncio
from collections.abc import Iterable


class Coordinator:
    def __init__(self, *, ranks: int, bound: int, meet_every: int) -> None:
        self.ranks, self.bound, self.meet_every = ranks, bound, meet_every
        self.granted, self.arrivals = 0, 0
        """Pushes that were let go, and those that have arrived at the weights."""
        self.computing: dict[int, int] = {}
        self.pushing: dict[int, int] = {}
        """Rank -> deadline of its gradient, in arrivals before its own."""
        self.idle: set[int] = set()
        self.told, self.next_meeting = 0, meet_every
        self.dealt: dict[int, int] = {}
        self.largest_staleness = 0
        self.changed = asyncio.Condition()

    async def begin(self, rank: int) -> None:
        """Wait until ``rank`` may pull the weights for its next gradient."""
        async with self.changed:
            await self.changed.wait_for(lambda: self._in_time([*self.computing.values(), self.arrivals + self.bound]))
            self.computing[rank] = self.arrivals + self.bound

    async def turn(self, rank: int) -> None:
        """Wait until ``rank`` may push its gradient."""
        async with self.changed:
            await self.changed.wait_for(lambda: self._may_push(rank))
            self.pushing[rank] = self.computing.pop(rank)
            self.granted += 1
            self.changed.notify_all()

    async def arrived(self, rank: int) -> bool:
        """``rank``'s update is part of the weights. Returns whether to meet the others now."""
        async with self.changed:
            begun = self.pushing.pop(rank) - self.bound
            self.largest_staleness = max(self.largest_staleness, self.arrivals - begun)
            self.arrivals += 1
            self.changed.notify_all()
            return self._meeting()

    async def out_of_rows(self, rank: int) -> None:
        """Wait until there is a meeting."""
        async with self.changed:
            self.idle.add(rank)
            self.changed.notify_all()
            await self.changed.wait_for(lambda: self.granted >= self.next_meeting or len(self.idle) == self.ranks)
            self._meeting()

    async def deal(self, epoch: int) -> int:
        """Position of the next chunk of an epoch: 0, 1, ..., each given once."""
        position = self.dealt.get(epoch, 0)
        self.dealt = {epoch: position + 1}
        return position

    async def staleness(self) -> int:
        """The largest of any update so far."""
        return self.largest_staleness

    def _meeting(self) -> bool:
        """Whether there is a meeting; counts who was told, and begins anew when all were."""
        if self.granted < self.next_meeting and len(self.idle) < self.ranks:
            return False
        self.told += 1
        if self.told == self.ranks:
            self.told = 0
            self.idle.clear()
            self.next_meeting = (self.granted // self.meet_every + 1) * self.meet_every
        return True

    def _may_push(self, rank: int) -> bool:
        # Whatever is on its way may arrive before this one, and this one before it.
        in_flight = [*self.pushing.values(), self.computing[rank]]
        others = [deadline for other, deadline in self.computing.items() if other != rank]
        return self.granted <= min(in_flight) and self._in_time(others, before=1)

    def _in_time(self, deadlines: Iterable[int], before: int = 0) -> bool:
        """Whether gradients can all arrive in time, one by one, after all pushes so far and ``before`` more."""
        first = self.granted + before
        return all(first + place <= deadline for place, deadline in enumerate(sorted(deadlines)))

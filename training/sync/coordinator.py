"""Who may go when, in asynchronous training: an asyncio object, one for all ranks.

Staleness of an update is the number of updates that the weights got between its gradient's pull and its own turn. A
gradient that was begun after s updates had arrived must have its turn as one of the first s + bound + 1, which is a
deadline; the coordinator lets gradients begin, and take turns, as long as all that are under way can still meet theirs.
The one with the earliest deadline can always go, so nobody waits in a ring, and a rank slower than the others holds
them up only when the bound is reached. With bound 0 one rank works at a time, on the newest weights.
"""

import asyncio
from collections.abc import Iterable


class Coordinator:
    def __init__(self, *, ranks: int, bound: int, meet_every: int) -> None:
        self.ranks, self.bound, self.meet_every = ranks, bound, meet_every
        self.granted, self.settled = 0, 0
        """Turns that were given, and those whose update has arrived at the weights."""
        self.under_way: dict[int, int] = {}
        """Rank -> deadline of its gradient, in turns given before its own."""
        self.idle: set[int] = set()
        self.told, self.next_meeting = 0, meet_every
        self.dealt: dict[int, int] = {}
        self.largest_staleness = 0
        self.begun: dict[int, int] = {}
        self.changed = asyncio.Condition()

    async def begin(self, rank: int) -> None:
        """Wait until ``rank`` may pull the weights for its next gradient."""
        async with self.changed:
            await self.changed.wait_for(
                lambda: _feasible([*self.under_way.values(), self.settled + self.bound], self.granted)
            )
            self.under_way[rank] = self.settled + self.bound
            self.begun[rank] = self.settled

    async def turn(self, rank: int) -> None:
        """Wait until ``rank`` may push its gradient."""
        async with self.changed:
            await self.changed.wait_for(
                lambda: _feasible((d for r, d in self.under_way.items() if r != rank), self.granted + 1)
            )
            del self.under_way[rank]
            self.largest_staleness = max(self.largest_staleness, self.granted - self.begun[rank])
            self.granted += 1
            self.changed.notify_all()

    async def arrived(self, rank: int) -> bool:
        """``rank``'s update is part of the weights. Returns whether to meet the others now."""
        async with self.changed:
            self.settled += 1
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


def _feasible(deadlines: Iterable[int], granted: int) -> bool:
    """Whether gradients can all have their turns in time, one after the other from turn ``granted`` on."""
    return all(granted + place <= deadline for place, deadline in enumerate(sorted(deadlines)))

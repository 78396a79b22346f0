"""`upstream.max_concurrency` among worker processes: the places at the origin, lent from one pool and given back (contract §3).

`Pool` decides, in the one process that has it; `Share` is a process's part, over its own queue. What carries the words between them
(wants, holds, granted) is not known here. A worker that is gone gives back what it held. Nobody starves: what cannot be split evenly goes
round, to whoever has been without it for longest.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from passoproxy.proxy.queueing import Queueing

Who = Hashable
Grants = dict[Who, int]
"""How many places each of those may use from now on to whom that is to be told."""


@dataclass(slots=True)
class _Member:
    """`held` is what may be in use: a place that was called back counts until it is free."""

    wants: int = 0
    granted: int = 0
    held: int = 0
    lent_at: int = 0


class Pool:
    """`most` places, among about `expected` members."""

    def __init__(self, most: int, expected: int) -> None:
        self._most, self._expected = most, max(1, expected)
        self._members: dict[Who, _Member] = {}
        self._count = 0

    @property
    def held(self) -> int:
        """Places that may be in use now."""
        return sum(member.held for member in self._members.values())

    def join(self, who: Who, *, seldom: bool = False) -> Grants:
        """A new member: it gets an even part of what is free, so that its first request need not ask; not so where it asks `seldom`."""
        member = self._members[who] = _Member()
        if not seldom:
            self._lend(member, min(self._free(), max(1, self._most // self._expected)))
        return {who: member.granted, **self._settled()}

    def leave(self, who: Who) -> Grants:
        """A member is gone, and what it held is free."""
        self._members.pop(who, None)
        return self._settled()

    def wants(self, who: Who, count: int) -> Grants:
        """A member could use so many."""
        if who in self._members:
            self._members[who].wants = count
        return self._settled()

    def holds(self, who: Who, count: int) -> Grants:
        """A member uses no more than so many from now on, or what it was granted since."""
        if (member := self._members.get(who)) is not None:
            member.held = max(member.granted, min(member.held, count))
        return self._settled()

    def set_most(self, most: int) -> Grants:
        """Another number of places; those in use too many are given back as they become free."""
        self._most = most
        return self._settled()

    # ---- how they are shared -----------------------------------------------------------------------------------------

    def _settled(self) -> Grants:
        """Lends what is free to those who are short, and calls back what others have beyond their part."""
        before = {who: member.granted for who, member in self._members.items()}
        parts = self._parts()
        for who, member in self._members.items():  # beyond the whole, after there are fewer
            if self._granted() > self._most and member.granted > parts[who]:
                member.granted = max(parts[who], member.granted - (self._granted() - self._most))
        short = [who for who, member in self._members.items() if parts[who] > member.granted]
        needed = sum(parts[who] - self._members[who].granted for who in short)
        for who in sorted(short, key=lambda each: self._members[each].lent_at):
            taken = min(parts[who] - self._members[who].granted, self._free())
            self._lend(self._members[who], taken)
            needed -= taken
        needed -= sum(member.held - member.granted for member in self._members.values())
        for who, member in self._members.items():
            if needed > 0 and member.granted > parts[who]:
                called_back = min(needed, member.granted - parts[who])
                member.granted -= called_back
                needed -= called_back
        return {who: member.granted for who, member in self._members.items() if member.granted != before[who]}

    def _parts(self) -> dict[Who, int]:
        """What each should have of what it wants: equal parts, none more than it wants, the rest to who went without for longest."""
        parts = dict.fromkeys(self._members, 0)
        left = self._most
        order = sorted(self._members, key=lambda each: self._members[each].lent_at)
        while left:
            open_ = [who for who in order if parts[who] < self._members[who].wants]
            if not open_:
                break
            step = max(1, left // len(open_))
            for who in open_[:left]:
                given = min(step, self._members[who].wants - parts[who], left)
                parts[who] += given
                left -= given
        return parts

    def _lend(self, member: _Member, count: int) -> None:
        if count > 0:
            self._count += 1
            member.granted += count
            member.held = max(member.held, member.granted)
            member.lent_at = self._count

    def _free(self) -> int:
        return max(0, self._most - self.held)

    def _granted(self) -> int:
        return sum(member.granted for member in self._members.values())


class Share:
    """One process's part: sets the limit of its queue as places are granted, and tells (`wants`, `holds`) what it could use and does."""

    def __init__(self, queueing: Queueing, most: int, tell: Callable[[str, int], None]) -> None:
        self._queueing, self._most, self._tell = queueing, most, tell
        self._granted = self._held = self._wanted = 0
        queueing.set_places(0)
        queueing.watch = self._look

    def follow(self, most: int) -> None:
        """`upstream.max_concurrency` is another one now; what may be used still has to be granted."""
        self._most = most
        self._look()

    def granted(self, count: int) -> None:
        """So many may be used from now on."""
        self._granted = count
        self._held = max(self._held, count)
        self._queueing.set_places(count)
        self._look()

    def _look(self) -> None:
        used, waiting = self._queueing.use
        wanted = min(self._most, used + waiting)
        if wanted != self._wanted and (wanted > self._granted or wanted < self._wanted):
            self._wanted = wanted
            self._tell("wants", wanted)
        held = max(self._granted, used)
        if held < self._held:
            self._held = held
            self._tell("holds", held)

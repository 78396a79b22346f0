"""The places at the origin among worker processes (contract §3): `PlacePool` lends them in the one process that has it, `PlaceShare` is a process's
part. Another room carries the words between them (wants, holds, granted). A worker that is gone gives back what it held; what cannot be split
evenly goes round, to the process that has been without it for longest.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from passoproxy.proxy.limiter import Limiter

Who = Hashable
Grants = dict[Who, int]
"""How many places each of these may use from now on; a member that is not named keeps what it has."""


@dataclass(slots=True)
class _Member:
    """`held` is what may be in use: a place that was called back counts until it is free."""

    wants: int = 0
    granted: int = 0
    held: int = 0
    lent_at: int = 0


class PlacePool:
    """`most` places, among about `expected` members."""

    def __init__(self, most: int, expected: int) -> None:
        self._most, self._expected = most, max(1, expected)
        self._members: dict[Who, _Member] = {}
        self._lent = 0

    @property
    def held(self) -> int:
        """Places that may be in use now."""
        return sum(member.held for member in self._members.values())

    @property
    def wanted(self) -> int:
        """Places that members could use."""
        return sum(member.wants for member in self._members.values())

    def join(self, who: Who, *, seldom: bool = False) -> Grants:
        """A new member: it gets an even part of what is free, so that its first request need not ask; not so if it asks `seldom`."""
        member = self._members[who] = _Member()
        if not seldom:
            self._lend(member, max(1, self._most // self._expected))
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

    def _settled(self) -> Grants:
        """Lends what is free to those who are short, and calls back what others have beyond their part."""
        members, parts = self._members, self._parts()
        before = {who: member.granted for who, member in members.items()}
        # Fewer places than are granted: down to its part with each, until it is enough.
        self._call_back(parts, sum(before.values()) - self._most)
        for who in sorted(members, key=lambda each: members[each].lent_at):
            self._lend(members[who], parts[who] - members[who].granted)
        short = sum(max(0, parts[who] - member.granted) for who, member in members.items())
        self._call_back(parts, short - sum(member.held - member.granted for member in members.values()))
        return {who: member.granted for who, member in members.items() if member.granted != before[who]}

    def _parts(self) -> dict[Who, int]:
        """What each should have of what it wants: equal parts, none more than it wants, the rest to the member without it for longest."""
        parts, left = dict.fromkeys(self._members, 0), self._most
        order = sorted(self._members, key=lambda each: self._members[each].lent_at)
        while left and (hungry := [who for who in order if parts[who] < self._members[who].wants]):
            step = max(1, left // len(hungry))
            for who in hungry[:left]:
                given = min(step, self._members[who].wants - parts[who], left)
                parts[who] += given
                left -= given
        return parts

    def _lend(self, member: _Member, count: int) -> None:
        if (count := min(count, self._most - self.held)) > 0:
            self._lent += 1
            member.granted += count
            member.held = max(member.held, member.granted)
            member.lent_at = self._lent

    def _call_back(self, parts: dict[Who, int], count: int) -> None:
        for who, member in self._members.items():
            if count > 0 and (called_back := min(count, member.granted - parts[who])) > 0:
                member.granted -= called_back
                count -= called_back


class PlaceShare:
    """One process's part: sets the limit of its limiter as places are granted, and tells (`wants`, `holds`) what it could use and does.

    `closely`: every change of what it could use is told, so that the pool can give back what it had from others.
    """

    def __init__(self, limiter: Limiter, most: int, tell: Callable[[str, int], None], *, closely: bool = False) -> None:
        self._limiter, self._most, self._tell, self._closely = limiter, most, tell, closely
        self._granted = self._held = self._wanted = 0
        limiter.set_limits(max_concurrency=0)
        limiter.watch = self._look

    def follow(self, most: int) -> None:
        """`upstream.max_concurrency` is another one now; what may be used still has to be granted."""
        self._most = most
        self._look()

    def granted(self, count: int) -> None:
        """So many may be used from now on."""
        self._granted = count
        self._held = max(self._held, count)
        self._limiter.set_limits(max_concurrency=count)
        self._look()

    def _look(self) -> None:
        used, waiting = self._limiter.use
        wanted = min(self._most, used + waiting)
        if wanted != self._wanted and (self._closely or wanted > self._granted or wanted < self._wanted):
            self._wanted = wanted
            self._tell("wants", wanted)
        held = max(self._granted, used)
        if held < self._held:
            self._held = held
            self._tell("holds", held)

"""The worker processes as the daemon's parts see them: what is divided among them, and what they told of themselves.

`Part` is what one process is in the crew; `Crew` what the parent has heard. How they speak is `host.workers`' and `daemon`'s business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from passoproxy.core.oauth.alert_levels import Level
from passoproxy.ports import StoreStats
from passoproxy.tokens.holder import Holder

PARENTS_MEMORY = 1024 * 1024
"""Bytes of `cache.memory_size` for a process that serves no clients."""


@dataclass(slots=True)
class Part:
    """One process's part in a daemon with `workers` processes that serve; whether this one `serves`, or is their parent.

    `holder` has the access token in a worker, and is None where the pair is kept in this process; `level` is the alert's, as the parent
    told it last.
    """

    workers: int = 1
    serves: bool = True
    holder: Holder | None = None
    level: Level = Level.NONE

    @property
    def is_worker(self) -> bool:
        """Whether this process has a parent."""
        return self.workers > 1 and self.serves

    def memory(self, whole: int) -> int:
        """Its part of `cache.memory_size`, in bytes."""
        return whole // self.workers if self.serves else min(whole, PARENTS_MEMORY)

    def spill(self, whole: int) -> int:
        """Its part of what spilled bodies may take of the disk, in bytes."""
        return whole // self.workers

    def connections(self, whole: int) -> int:
        """Its part of `upstream.max_connections`: the workers' together are no fewer."""
        return -(-whole // self.workers)


ALONE = Part()
"""A daemon of one process."""


@dataclass(slots=True)
class Told:
    """What one process says of itself now, beside what it counted."""

    in_flight: int = 0
    traffic: Mapping[str, Any] = field(default_factory=dict)
    memory: StoreStats = field(default_factory=lambda: StoreStats(tier="memory"))


class Crew:
    """What the workers of this process told last, by their places."""

    def __init__(self) -> None:
        self._told: dict[int, Told] = {}

    def heard(self, place: int, told: Told) -> None:
        """One told how it stands."""
        self._told[place] = told

    def forget(self, place: int) -> None:
        """One is gone."""
        self._told.pop(place, None)

    @property
    def in_flight(self) -> int:
        """Requests of clients that they answer now."""
        return sum(told.in_flight for told in self._told.values())

    def traffic(self, own: Mapping[str, object]) -> Mapping[str, object]:
        """What goes on at the origin, `own` and theirs together."""
        if not self._told:
            return own
        all_of: list[Mapping[str, Any]] = [own, *(told.traffic for told in self._told.values())]
        until = [each["cool_down_until"] for each in all_of if each.get("cool_down_until") is not None]
        summed = {name: sum(each.get(name, 0) for each in all_of) for name in ("in_flight", "waiting", "connections")}
        return {**own, **summed, "cool_down_until": max(until, default=None)}

    def memory(self, own: StoreStats) -> StoreStats:
        """What all of them hold in memory."""
        all_of = [own, *(told.memory for told in self._told.values())]
        return StoreStats(
            sum(each.entries for each in all_of),
            sum(each.bytes_used for each in all_of),
            sum(each.evictions for each in all_of),
            own.tier,
        )

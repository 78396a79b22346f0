"""Worker processes: what is divided among them (`Part` is one process's share), and what each reported of itself (`WorkerReport`).

`host.workers` starts and replaces processes; `workers` and `worker` speak over the channel between parent and worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from passoproxy.core.oauth.alert_levels import Level
from passoproxy.ports import StoreStats
from passoproxy.tokens.holder import Holder
from passoproxy.values import dataclass

PARENTS_MEMORY = 1024 * 1024
"""Bytes of `cache.memory_size` for a process that serves no clients."""


@dataclass(slots=True)
class Part:
    """One process's share of a daemon with `workers` processes that serve. The parent of several does not serve.

    In a worker `holder` has the access token, and `level` is the alert level that the parent reported last.
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

    def disk(self, whole: int) -> int:
        """Its part of what may lie on disk beside the entries, in bytes."""
        return whole // self.workers

    def connections(self, whole: int) -> int:
        """Its part of `upstream.max_connections`, rounded up."""
        return -(-whole // self.workers)


ALONE = Part()
"""A daemon of one process."""


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """The present state of one worker, beside what it counted."""

    in_flight: int = 0
    traffic: Mapping[str, Any] = field(default_factory=dict)
    memory: StoreStats = field(default_factory=lambda: StoreStats(tier="memory"))
    most_used: Sequence[tuple[str, str, int]] = ()


def all_traffic(own: Mapping[str, object], reports: Collection[WorkerReport]) -> Mapping[str, object]:
    """The traffic at the origin of this process and its workers."""
    if not reports:
        return own
    all_of: list[Mapping[str, Any]] = [own, *(each.traffic for each in reports)]
    until = [each["cool_down_until"] for each in all_of if each.get("cool_down_until") is not None]
    summed = {name: sum(each.get(name, 0) for each in all_of) for name in ("in_flight", "waiting", "connections")}
    return {**own, **summed, "cool_down_until": max(until, default=None)}


def all_memory(own: StoreStats, reports: Collection[WorkerReport]) -> StoreStats:
    """The entries in the memory of this process and its workers."""
    all_of = [own, *(each.memory for each in reports)]
    entries, used = sum(each.entries for each in all_of), sum(each.bytes_used for each in all_of)
    return StoreStats(entries, used, sum(each.evictions for each in all_of), own.tier)


def all_used(own: Iterable[tuple[str, str, int]], reports: Collection[WorkerReport]) -> Counter[tuple[str, str]]:
    """How often clients asked lately, by method and target, for what they ask this process and its workers for most."""
    counted = Counter[tuple[str, str]]()
    for part in (own, *(each.most_used for each in reports)):
        for method, target, count in part:
            counted[method, target] += count
    return counted

"""Softening: the terms of stored answers with soft purges counted in, and how one more comes into force.

What a soft purge does to terms is said in `core.cache.soft_purges`; where they are kept is the store's business behind `Keeping`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.cache.soft_purges import SoftPurge, SoftPurges, cut
from passoproxy.core.cache.terms import Terms, terms
from passoproxy.ports import Clock, EntryStore

LOOK_EVERY = 1.0
"""Seconds between two looks at what other processes have purged."""

_NOTHING = Selector(key="soft purge")
"""Means no entry: keys are digests. A purge of it tells every process that what it remembers of stored answers may not hold."""


class Keeping(Protocol):
    """Where soft purges outlive the process."""

    def load(self, now: float) -> SoftPurges: ...
    async def add(self, purge: SoftPurge) -> SoftPurges: ...
    async def changed(self, now: float) -> SoftPurges | None: ...


class Softening:
    """Judges by the soft purges in force. `changed` is told whenever there are others: terms made before do not hold then."""

    def __init__(self, store: EntryStore, kept: Keeping, clock: Clock, changed: Callable[[], None]) -> None:
        self._store, self._kept, self._clock, self._changed = store, kept, clock, changed
        self.purges = kept.load(clock.wall())

    def ended(self, entry: Entry) -> float | None:
        """When a soft purge ended the freshness of `entry`; None where none did."""
        return self.purges.ended(entry) if self.purges else None

    def terms(self, entry: Entry, policy: RoutePolicy, mode: CacheMode) -> Terms:
        """As `core.cache.terms`, ended where a soft purge counts against the entry."""
        return cut(terms(entry, policy, mode), self.ended(entry))

    async def soften(self, selector: Selector) -> None:
        """From now on nothing is fresh that `selector` means and that was asked for until now. Raises EntryStoreFailure."""
        self._take(await self._kept.add(SoftPurge(selector, self._clock.wall())))
        await self._store.purge(_NOTHING)

    async def keep_looking(self) -> None:
        """Heeds, for as long as it is let, what other processes purge."""
        while True:
            await self._clock.sleep(LOOK_EVERY)
            if (found := await self._kept.changed(self._clock.wall())) is not None:
                self._take(found)

    def _take(self, purges: SoftPurges) -> None:
        self.purges = purges
        self._changed()

"""Softening: the terms of stored answers with soft purges counted in, and how one more comes into force.

What a soft purge does to terms is said in `core.cache.soft_purges`; where they are kept is the store's business behind `Keeping`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.cache.soft_purges import SoftPurge, SoftPurges
from passoproxy.core.cache.terms import Terms, cut, terms
from passoproxy.ports import Clock


class Keeping(Protocol):
    """Where soft purges outlive the process, and are shared with whoever shares the entries."""

    def current(self, now: float) -> SoftPurges:
        """Those in force; the same object for as long as nothing has changed. Does not wait for anything far away."""
        ...

    async def add(self, purge: SoftPurge) -> None:
        """One more; in force wherever the entries are shared when it returns. Raises EntryStoreFailure."""
        ...


class Softening:
    """Judges by the soft purges in force. `changed` is told whenever there are others: terms made before do not hold then."""

    def __init__(self, kept: Keeping, clock: Clock, changed: Callable[[], None]) -> None:
        self._kept, self._clock, self._changed = kept, clock, changed
        self.purges = kept.current(clock.wall())

    def look(self) -> None:
        """To be called when others may have purged."""
        purges = self._kept.current(self._clock.wall())
        if purges is not self.purges:
            self.purges = purges
            self._changed()

    def ended(self, entry: Entry) -> float | None:
        """When a soft purge ended the freshness of `entry`; None where none did. Asked once for each entry, and looks itself."""
        self.look()
        return self.purges.ended(entry) if self.purges else None

    def terms(self, entry: Entry, policy: RoutePolicy, mode: CacheMode) -> Terms:
        """As `core.cache.terms`, ended where a soft purge counts against the entry."""
        return cut(terms(entry, policy, mode), self.ended(entry))

    async def soften(self, selector: Selector) -> None:
        """From now on nothing is fresh that `selector` means and that was asked for until now. Raises EntryStoreFailure."""
        try:
            await self._kept.add(SoftPurge(selector, self._clock.wall()))
        finally:
            self.look()

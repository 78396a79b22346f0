"""How a purge of a cache folder goes: everything at once, a few rows before it is answered, many behind its answer.

Whichever way it goes, it is in force when it is answered: for whoever looks, in any process, and for what was under way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from passoproxy.core.cache.entry import Selector
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.disk_jobs import Premises
from passoproxy.stores.entries.disk_lookup import Lookup
from passoproxy.stores.entries.disk_purge_jobs import CountingPurge, LoggingPurge, StartingAnew, TakingOut
from passoproxy.stores.entries.disk_sifting import ROWS, Sifting
from passoproxy.stores.entries.scribe import Job

T = TypeVar("T")

FEW = 400
"""So many rows are removed before a purge is answered, and each is told to other processes; with more, they forget all that they remember."""


class Purging:
    """`call` does work in a reader's thread, `write` has the scribe carry a job out, `clear` tells of an undone purge."""

    def __init__(
        self,
        premises: Premises,
        lookup: Lookup,
        call: Callable[[Callable[[], Any]], Awaitable[Any]],
        write: Callable[[Job], Awaitable[Any]],
        clear: Callable[[], None],
        few: int = FEW,
    ) -> None:
        self._premises, self._lookup, self._few = premises, lookup, few
        self._call, self._write, self._clear = call, write, clear

    async def purge(self, selector: Selector) -> int:
        """Removes what `selector` means; how many visible entries went."""
        if means_everything(selector):
            try:
                return int(await self._write(StartingAnew(self._premises)))
            except EntryStoreFailure:
                return await self._one_by_one(
                    selector
                )  # a folder in which nothing can be made anew may still let rows go
        number = await self._write(LoggingPurge(self._premises, selector))
        if not number or selector.key is not None:
            return await self._one_by_one(selector, logged=True)
        few = await self._call(partial(self._lookup.few, selector, self._few))
        return await self._many(selector) if few is None else await self._take_out(selector, few)

    async def _many(self, selector: Selector) -> int:
        number = await self._write(LoggingPurge(self._premises, selector, at_once=True))
        if not number:
            return await self._one_by_one(selector, logged=True)
        count = int(await self._call(partial(self._lookup.purged_by, selector, number)))
        await self._write(CountingPurge(self._premises, number, count))
        self._clear()
        return count

    async def _one_by_one(self, selector: Selector, *, logged: bool = False) -> int:
        """Needs nothing but rows that can be read: where nothing can be written, bodies go without their rows."""
        if not logged:
            await self._write(LoggingPurge(self._premises, selector))
        count, sifting = 0, Sifting(selector)
        while not sifting.done:
            count += await self._take_out(selector, await self._call(partial(self._lookup.sift, sifting)))
        return count

    async def _take_out(self, selector: Selector, rowids: list[int]) -> int:
        count = 0
        for at in range(0, len(rowids), ROWS):
            count += await self._write(TakingOut(self._premises, rowids[at : at + ROWS], selector))
        return count


def means_everything(selector: Selector) -> bool:
    """Whether there is no entry that `selector` does not mean."""
    return selector in (Selector(), Selector(prefix=""), Selector(prefix="*"))

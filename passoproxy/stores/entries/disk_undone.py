"""The purges that are in force and not carried out, as readers and writers see them: which rows are gone although they lie there."""

from __future__ import annotations

from collections.abc import Sequence

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.stores.entries import purge_log
from passoproxy.stores.entries.disk_rows import Row, Rows


class Undones:
    """Purges with their numbers, the oldest first. False where there are none, which is nearly always so."""

    __slots__ = ("purges",)

    def __init__(self, purges: Sequence[tuple[int, Selector]] = ()) -> None:
        self.purges = purges

    @classmethod
    def of(cls, rows: Rows) -> Undones:
        """Those that the database holds. Blocks."""
        return cls([(each.number, purge_log.decode(each.selector)) for each in rows.purging.undone()])

    def __bool__(self) -> bool:
        return bool(self.purges)

    def means(self, row: Row, entry: Entry) -> bool:
        """Whether one of them means the entry in `row`: it is gone then."""
        return self.taker(row, entry) > 0

    def taker(self, row: Row, entry: Entry) -> int:
        """The number of the purge that took the entry in `row`, 0 if none did."""
        taken = (number for number, selector in self.purges if row.stored_after < number and selector.matches(entry))
        return next(taken, 0)


NONE = Undones()

"""Going through the rows that a selector may mean, a slice at a time, by an index where there is one."""

from __future__ import annotations

from passoproxy.core.cache.entry import Selector
from passoproxy.stores.entries.disk_rows import Row, Rows
from passoproxy.stores.entries.hints import judged, range_of
from passoproxy.stores.entries.names import key_name

HINTS = 1000
"""Hints sifted at once: about a millisecond."""

ROWS = 50
"""Rows taken up at once: a few milliseconds to open or remove."""


class Sifting:
    """One way through the table. `done` once nothing is left; what a selector means is only certain when the entry was asked."""

    def __init__(self, selector: Selector) -> None:
        self._selector = selector
        self.done = self._ended = False
        span = range_of(selector)
        self._by_key = selector.key is not None
        self._by_hints = not self._by_key and selector != Selector()
        self._hints: bytes = span[0] if span else b""
        self._end: bytes | None = span[1] if span else None
        self._rowid = 0
        self._waiting: list[int] = []

    def rowids(self, rows: Rows) -> list[int]:
        """Where the next rows lie, at most `ROWS`; may be empty before it is done."""
        if not self._waiting:
            self._waiting = self._next(rows)
        slice_, self._waiting = self._waiting[:ROWS], self._waiting[ROWS:]
        self.done = self._ended and not self._waiting
        return slice_

    def rows(self, rows: Rows) -> list[Row]:
        """The next rows, at most `ROWS`; may be empty before it is done."""
        return [row for rowid in self.rowids(rows) if (row := rows.at(rowid)) is not None]

    def _next(self, rows: Rows) -> list[int]:
        if self._by_key:
            self._ended = True
            return [row.rowid for row in rows.of_key(key_name(self._selector.key or ""))]
        if not self._by_hints:
            found = rows.rowids_after(self._rowid, HINTS)
            self._ended = len(found) < HINTS
            self._rowid = found[-1] if found else self._rowid
            return found
        pairs = rows.hints_after(self._hints, self._rowid, self._end, HINTS)
        self._ended = len(pairs) < HINTS
        if pairs:
            self._hints, self._rowid = pairs[-1]
        return sorted(rowid for hints, rowid in pairs if judged(self._selector, hints) is not False)

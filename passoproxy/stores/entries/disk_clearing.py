"""Carrying out, behind everybody's back, the purges that are in force already: their rows and bodies go, slice by slice.

A thread of its own looks for rows, in SQLite and so without the interpreter's lock; the scribe removes them between its other work, and the
thread the bodies, which takes longer. What a killed process has left undone, the next one finishes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from passoproxy.core.cache.entry import Selector
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries import purge_log
from passoproxy.stores.entries.background import Background
from passoproxy.stores.entries.disk_database import Database
from passoproxy.stores.entries.disk_jobs import Premises
from passoproxy.stores.entries.disk_matching import meant, perhaps
from passoproxy.stores.entries.disk_purge_jobs import CarryingOut
from passoproxy.stores.entries.disk_purge_rows import Place, Undone
from passoproxy.stores.entries.faults import translated
from passoproxy.stores.entries.hints import range_of
from passoproxy.stores.entries.scribe import Job

AGAIN_SECONDS = 30.0
_WINDOW = 5000
_TOGETHER = 500
_PAUSE = 0.001
_START_SECONDS = 0.25
"""A memory tier takes its own entries out meanwhile, and has the interpreter for itself."""


class Clearing(Background):
    """`give` hands the scribe a job.

    Looks for undone purges at the start, when asked, and now and then. A purge in whose midst it is stopped stays in force.
    """

    def __init__(
        self, premises: Premises, database: Database, give: Callable[[Job], None], on_fault: Callable[[str], None]
    ) -> None:
        self._premises, self._database, self._give, self._on_fault = premises, database, give, on_fault
        super().__init__("cache-clearing")

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self._clear_all()
            except EntryStoreFailure:
                pass  # tried again in a while; what is purged is gone in any case
            except Exception as fault:
                self._on_fault(f"{type(fault).__name__}: {fault}")
            if self._wake.wait(AGAIN_SECONDS):
                self._stopping.wait(_START_SECONDS)
        self._database.leave()

    def _clear_all(self) -> None:
        with translated(self._premises.folder):
            undone = self._database.rows().purging.undone()
        for purge in undone:
            if not self._clear(purge):
                return

    def _clear(self, purge: Undone) -> bool:
        """Removes all rows of one purge; False where it has to be tried again."""
        selector = purge_log.decode(purge.selector)
        first, last = range_of(selector) or (b"", None)
        at: Place | None = Place(first, 0)
        while at is not None and (last is None or at.hints < last):
            at, rowids, asked = self._window(at, selector)
            for start in range(0, max(len(rowids), len(asked)), _TOGETHER):
                end = start + _TOGETHER
                if not self._carried_out(purge, selector, rowids[start:end], asked[start:end]):
                    return False
                if self._stopping.wait(_PAUSE):
                    return False
        return self._carried_out(purge, selector, [], [])

    def _window(self, after: Place, selector: Selector) -> tuple[Place | None, list[int], list[int]]:
        """Where the next part of the index ends, what is meant there, and what has to be asked."""
        with translated(self._premises.folder):
            purging = self._database.rows().purging
            end = purging.window(after, _WINDOW)
            rowids = purging.between(after, end, meant(selector))
            return end, rowids, purging.between(after, end, perhaps(selector))

    def _carried_out(self, purge: Undone, selector: Selector, rowids: list[int], asked: list[int]) -> bool:
        done, gone = threading.Event(), None

        def on_end(bodies: list[str] | None) -> None:
            nonlocal gone
            gone = bodies
            done.set()

        self._give(CarryingOut(self._premises, purge.number, selector, rowids, asked, on_end))
        while not done.wait(0.1):
            if self._stopping.is_set():
                return False
        if gone is None:
            return False
        for body in gone:
            self._premises.bodies.remove(body)
        return True

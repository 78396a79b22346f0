"""What the scribe is asked to write for purges; how they go together is said in `disk_purging` and `disk_clearing`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from passoproxy.core.cache.entry import Selector
from passoproxy.stores.entries import purge_log
from passoproxy.stores.entries.disk_database import Database
from passoproxy.stores.entries.disk_jobs import Premises
from passoproxy.stores.entries.disk_rows import Row, Rows
from passoproxy.stores.entries.faults import Damaged, translated
from passoproxy.stores.entries.hints import judged
from passoproxy.stores.entries.names import mark_of
from passoproxy.stores.entries.scribe import Changes, Job
from passoproxy.stores.entries.shared_page import ANYTHING, PURGED


class LoggingPurge(Job):
    """Writes a purge down, so that it counts for answers that any process asked for before it. The result is its number.

    With `at_once` it is in force with that for what is stored as well, and carried out later. In need, the result is 0.
    """

    def __init__(self, premises: Premises, selector: Selector, *, at_once: bool = False) -> None:
        self._premises, self._selector, self._at_once = premises, selector, at_once

    def apply(self, rows: Rows, changes: Changes) -> int:
        selector = purge_log.encode(self._selector)
        number = rows.purging.log(max(self._premises.page.purges, changes.purges), selector)
        changes.purges = number
        if self._at_once:
            rows.purging.begin_purge(number, selector)
        return number

    def in_need(self, rows: Rows) -> int:
        """A purge that is counted and not in the log means everything that is under way."""
        self._premises.page.raise_purges(self._premises.page.purges + 1)
        self._premises.page.tell([PURGED], changed=False)
        return 0


class CountingPurge(Job):
    """Writes down how many rows an undone purge has left, and tells everyone that anything may be gone."""

    def __init__(self, premises: Premises, number: int, count: int) -> None:
        self._premises, self._number, self._count = premises, number, count

    def apply(self, rows: Rows, changes: Changes) -> None:
        rows.purging.count_remaining(self._number, self._count)
        changes.changed.append(ANYTHING)

    def in_need(self, rows: Rows) -> None:
        """The count is for people."""
        self._premises.page.tell([ANYTHING], changed=True)


class CarryingOut(Job):
    """Removes rows of an undone purge, which nobody sees any more. `asked` are those whose entry has to be asked whether it was meant.

    `on_end` is told, in the scribe's thread, which bodies are nobody's any more, for whoever asked to remove them; None where it could not be done.
    With no rows at all the purge has come to its end.
    """

    def __init__(
        self,
        premises: Premises,
        number: int,
        selector: Selector,
        rowids: Sequence[int],
        asked: Sequence[int],
        on_end: Callable[[list[str] | None], None],
    ) -> None:
        self._premises, self._number, self._selector = premises, number, selector
        self._rowids, self._asked, self._on_end = rowids, asked, on_end
        self._gone: list[str] = []

    def apply(self, rows: Rows, changes: Changes) -> None:
        if not self._rowids and not self._asked:
            rows.purging.end_purge(self._number)
            return
        self._gone = rows.purging.take_out_many([*self._rowids, *self._meant(rows)], self._number)
        rows.purging.count_remaining(self._number, -len(self._gone))

    def _meant(self, rows: Rows) -> Iterator[int]:
        for row in map(rows.at, self._asked):
            entry = self._premises.opened(row) if row is not None else None
            if row is not None and (entry is None or self._selector.matches(entry)):
                yield row.rowid

    def finish(self, held: bool) -> None:
        self._on_end(self._gone if held else None)


class StartingAnew(Job):
    """Empties the folder at once: another database, and the bodies set aside. Carried out alone. The result is how many entries there were."""

    alone = True

    def __init__(self, premises: Premises) -> None:
        self._premises = premises

    def instead(self, database: Database) -> int:
        """Counts first as a purge that is in no log, which means everything that is under way, in any process."""
        rows = database.rows()
        with translated(self._premises.folder):
            count, set_aside = self._counted(rows)
            self._premises.page.raise_purges(self._premises.page.purges + 1)
            self._premises.page.tell([PURGED], changed=False)
        database.replace(rows)
        with contextlib.suppress(OSError):  # else they are bodies without rows, and swept up as such
            self._premises.bodies.set_aside()
            self._premises.page.add_pending(set_aside)
        return count

    def _counted(self, rows: Rows) -> tuple[int, int]:
        try:
            with translated(self._premises.folder):
                return rows.entry_count(), rows.body_bytes()
        except Damaged:
            return 0, 0


class TakingOut(Job):
    """Removes those of the rows at `rowids` that `selector` means; the result is how many visible entries went."""

    def __init__(self, premises: Premises, rowids: Iterable[int], selector: Selector) -> None:
        self._premises, self._rowids, self._selector = premises, tuple(rowids), selector

    def apply(self, rows: Rows, changes: Changes) -> int:
        count = 0
        for row, visible in self._meant(rows):
            rows.take_out(row)
            count += visible
            changes.changed.append(mark_of(row.name))
        return count

    def _meant(self, rows: Rows) -> Iterable[tuple[Row, bool]]:
        for rowid in self._rowids:
            row = rows.at(rowid)
            if row is None:
                continue
            meant = judged(self._selector, row.hints) if self._selector.key is None else None
            if meant is not None:  # the hints tell all that was asked: no need to open a hundred thousand entries
                if meant:
                    yield row, True
                continue
            entry = self._premises.opened(row)
            if entry is None or self._selector.matches(entry):
                yield row, entry is not None

    def in_need(self, rows: Rows) -> int:
        count = 0
        for row, visible in self._meant(rows):
            rows.disk.remove(row.filename)
            count += visible
        self._premises.page.tell([ANYTHING], changed=True, heeded_by_all=True)
        return count

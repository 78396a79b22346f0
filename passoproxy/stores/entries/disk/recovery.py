"""Removing what cannot be seen: rows that a purge hides, and what a crash or damage left in a cache folder.

Purges are swept when the thread is asked, and looked for every half minute, because a killed process may have left one. Leftovers are
looked for at a start after which no process closed the store in order, and when something was lost: bodies without a row, rows without a value or a
body, values without a row, wrong totals. Both work in small steps, so that other threads get their turns. A body that is being stored, by any
process, is locked and left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.change_feed import SharedPage
from passoproxy.stores.entries.disk.bodies import Bodies
from passoproxy.stores.entries.disk.database import Database
from passoproxy.stores.entries.disk.index import Index, Purge, Row
from passoproxy.stores.entries.disk.threads import Background, Reports
from passoproxy.stores.entries.disk.writer import Job, Transaction
from passoproxy.stores.entries.serialization import mark_of, row_of_body

PURGES_SECONDS = 30.0
_SLICE = 64
_ROWS_TOGETHER = 200
_PAUSE = 0.002
_TOLD_SECONDS = 0.2
"""So soon after its commit every process is told of a purge, unless its own was killed."""


class Recovery(Background):
    """`give` hands the writer a job."""

    def __init__(
        self,
        folder: Path,
        bodies: Bodies,
        page: SharedPage,
        database: Database,
        give: Callable[[Job], None],
        reports: Reports,
    ) -> None:
        self._folder, self._bodies, self._page, self._database = folder, bodies, page, database
        self._give, self._reports = give, reports
        self._is_lost = threading.Event()
        if not page.is_clean or page.pending:
            self._is_lost.set()
        self._counted: set[int] = set()
        super().__init__("cache-recovery")

    def sweep(self, purge: Purge) -> None:
        """The rows that `purge` hides are counted, and can be deleted."""
        self._counted.add(purge.sequence)
        self.ask()

    def on_loss(self) -> None:
        """Something was lost: leftovers are to be looked for."""
        self._is_lost.set()
        self.ask()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._attempt(self.sweep_purges)
            if self._is_lost.is_set():
                self._is_lost.clear()
                if not self._attempt(self.recover) or self._stopping.is_set():
                    self._is_lost.set()  # it did not, or may not, have come to its end
            asked = self._wake.wait(PURGES_SECONDS)
            self._wake.clear()
            if asked and self._is_lost.is_set():
                self._stopping.wait(1)  # one loss is mostly followed by more
        self._database.leave()

    def stop(self) -> bool:  # type: ignore[override]
        """Ends the thread; whether nothing is known to be left over."""
        super().stop()
        return not self._is_lost.is_set()

    def _attempt(self, step: Callable[[], object]) -> bool:
        """Whether `step` came to its end."""
        try:
            step()
        except (OSError, EntryStoreFailure):
            return False  # tried again later; what is purged is hidden in any case
        except Exception as fault:
            self._reports.at_fault(fault)
            return False
        return True

    def _written(self, apply: Callable[[Transaction], object]) -> bool:
        """Waits until the writer has carried `apply` out; False where it could not, or this thread is stopped."""
        done = threading.Event()
        job = Job(apply, on_end=done.set)
        self._give(job)
        while not done.wait(0.1):
            if self._stopping.is_set():
                return False
        return job.error is None

    def _write(self, apply: Callable[[Transaction], object]) -> None:
        """The same for what has to be tried again later if it cannot be written."""
        if not self._written(apply):
            raise EntryStoreFailure(f"{self._folder}: what is left over could not be removed")

    # ---- purges -------------------------------------------------------------------------------------------------------------

    def sweep_purges(self) -> None:
        """Deletes the rows that purges in force hide, the oldest purge first."""
        self._tell_of_purges()
        for purge in self._database.run(lambda index: index.to_sweep(self._counted)):
            if not self._sweep(purge):
                return
            self._counted.discard(purge.sequence)

    def _tell_of_purges(self) -> None:
        """A process that was killed may have told nobody of its last purge, after which nothing that the purge means would be stored."""
        last = self._database.run(lambda index: index.last_purge())
        if last > self._page.purges and not self._stopping.wait(_TOLD_SECONDS):
            self._page.make_up(last)

    def _sweep(self, purge: Purge) -> bool:
        """Deletes all rows that one purge hides; False where it has to be tried again."""
        ids = self._database.run(lambda index: index.ids(purge.selector, before=purge.sequence))
        for at in range(0, len(ids), _ROWS_TOGETHER):
            some = ids[at : at + _ROWS_TOGETHER]
            if not self._written(partial(self._delete, some, purge.sequence)) or self._stopping.wait(_PAUSE):
                return False
        return self._written(lambda txn: txn.index.end_purge(purge.sequence))

    def _delete(self, ids: Sequence[int], before: int, txn: Transaction) -> None:
        txn.remove(ids, before)

    # ---- leftovers ------------------------------------------------------------------------------------------------------------

    def recover(self) -> bool:
        """Removes what does not belong together. One process at a time; False where another one is at it, which is as good."""
        folder = os.open(self._bodies.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            self._page.lower_pending(self._recover_incoming())
            for shard in self._bodies.shards():
                self._recover_shard(shard)
            self._recover_rows()
            self._recover_values()
            if not self._database.run(lambda index: index.totals_are_right()):
                self._write(lambda txn: txn.index.add_up())
            return True
        finally:
            os.close(folder)

    def _recover_incoming(self) -> int:
        """Removes bodies that no process is writing any more; the bytes of those that are being written."""
        total = 0
        for path in self._paused(self._bodies.incoming):
            with self._bodies.claimed(path) as mine, contextlib.suppress(OSError):
                if mine:
                    os.unlink(path)
                else:
                    total += os.stat(path).st_size
        return total

    def _recover_shard(self, shard: str) -> None:
        with contextlib.suppress(OSError):
            for path in self._paused(self._bodies.folder / shard):
                body = f"{shard}/{path.name}"
                if not self._has_row(body):
                    with self._bodies.claimed(path) as mine:
                        if mine and not self._has_row(body):  # its row may have been committed since
                            os.unlink(path)

    def _has_row(self, body: str) -> bool:
        name = row_of_body(body)
        row = None if name is None else self._database.run(lambda index: index.find(name))
        return row is not None and row.body == body

    def _recover_rows(self) -> None:
        last = 0

        def next_lost(index: Index) -> list[int] | None:
            nonlocal last
            rows = index.after(last, _SLICE)
            last = rows[-1].id if rows else last
            return [row.id for row in rows if not self._is_whole(row, index.values.get(row.name))] if rows else None

        while not self._stopping.is_set() and (lost := self._database.run(next_lost)) is not None:
            if lost:
                self._write(partial(self._remove_lost, lost))
            time.sleep(_PAUSE)

    def _remove_lost(self, ids: Sequence[int], txn: Transaction) -> None:
        """Removes those of the rows that have no value or no body."""
        rows = txn.remove([row.id for row in txn.index.rows(ids) if not self._is_whole(row, txn.value(row.name))])
        txn.lost += [mark_of(row.name) for row in rows]

    def _is_whole(self, row: Row, value: object) -> bool:
        with contextlib.suppress(OSError):
            if value is not None and row.body:
                return os.stat(self._bodies.folder / row.body, follow_symlinks=False).st_size == row.size
            return value is not None
        return False

    def _recover_values(self) -> None:
        """Values without a row, by the order of their names: a few at a time, as an open query would keep the journal from being emptied."""

        def orphans(index: Index) -> list[str]:
            return [name for name in self._paused_names(index.values.iterkeys()) if name and index.find(name) is None]

        names = self._database.run(orphans)
        for at in range(0, len(names), _ROWS_TOGETHER):
            self._write(partial(self._remove_values, names[at : at + _ROWS_TOGETHER]))

    def _remove_values(self, names: Sequence[str], txn: Transaction) -> None:
        txn.values.update((name, None) for name in names if txn.index.find(name) is None)

    def _paused_names(self, names: Iterable[str]) -> Iterator[str]:
        for count, name in enumerate(names, 1):
            if self._stopping.is_set():
                return
            if count % _SLICE == 0:
                time.sleep(_PAUSE)
            yield name

    def _paused(self, folder: Path) -> Iterator[Path]:
        """What lies in `folder`, with pauses in which the loop's thread gets its turns; ends early when the store is closed."""
        with os.scandir(folder) as found:
            for count, item in enumerate(found, 1):
                if self._stopping.is_set():
                    return
                if count % _SLICE == 0:
                    time.sleep(_PAUSE)
                yield Path(item.path)

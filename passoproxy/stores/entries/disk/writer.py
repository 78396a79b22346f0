"""The one thread that writes to a cache folder: jobs that wait are carried out together, in the order in which they came (group commit).

diskcache's values are committed within the transaction of the index, so that whatever is stored can be found, purged and evicted. Then values
that have no row any more are removed, other processes are told by the shared page, bodies are removed, and last the callers hear the result.
What a crash leaves between these steps cannot be seen by anybody, and is removed by `recovery`; of a purge of which nobody was told, the
next purge or `recovery` tells.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diskcache

from passoproxy.core.cache.entry import Selector
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.change_feed import PURGED, SIZE, SOFTENED, SharedPage
from passoproxy.stores.entries.disk.bodies import Bodies, Incoming
from passoproxy.stores.entries.disk.database import Database, translated
from passoproxy.stores.entries.disk.index import PAGE_BYTES, Index, Row
from passoproxy.stores.entries.disk.threads import Reports, resolve
from passoproxy.stores.entries.serialization import mark_of

MOST_TOGETHER = 256
GATHERED_SECONDS = 0.01
"""After a round of several jobs the next ones are waited for so long, because a commit costs more than what it commits."""

TICK_SECONDS = 1.0
TOUCH_SECONDS = 5.0
_PAGES_TOGETHER = 1000
_TOUCHES_TOGETHER = 64
_MOST_TOUCHES = 32_768
_LEAST_TOUCHES = 1024
_JOURNAL_BYTES = 1 << 20
_VICTIMS = 64
_MOST_SPARE = 4 << 20
_WORTH_SHORTENING = 256 << 10
_LEFT_FREE = 2 << 20
"""Bytes of the disk for the journals, without which nothing can be deleted either."""

ROW_BYTES = 3072
"""Bytes that an entry takes in both databases beside its body: an estimate to make room by, corrected by what the files really take."""


@dataclass(slots=True)
class Transaction:
    """What the jobs of one transaction change. `values` are diskcache's to come, None for those to be deleted."""

    index: Index
    last_purge: int
    values: dict[str, bytes | None] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    """Body files that have no row any more."""
    stored: list[str] = field(default_factory=list)
    """Body files that have one now."""
    changed: list[int] = field(default_factory=list)
    """Marks of primary keys of which something visible was removed or changed."""
    lost: list[int] = field(default_factory=list)
    """The same for what this process's memory may hold too, where a purge finds it by its row no more."""
    added: list[int] = field(default_factory=list)
    purged: int = 0
    """The sequence of the last purge, if there was one."""
    softened: bool = False

    def value(self, name: str) -> object:
        """The value of an entry as this transaction leaves it."""
        return self.values[name] if name in self.values else self.index.values.get(name)

    def remove(self, ids: Iterable[int], before: int | None = None) -> list[Row]:
        """Removes rows with their values and bodies; see `Index.remove`."""
        rows = self.index.remove(ids, before)
        for row in rows:
            if row.body:
                self.removed.add(row.body)
            if row.name:
                self.values[row.name] = None
        return rows

    def remove_visible(self, ids: Iterable[int]) -> None:
        """The same for rows that may be seen: other processes are told."""
        self.changed += [mark_of(row.name) for row in self.remove(ids)]

    def put(self, name: str, value: bytes, body: str) -> None:
        """The value of a row that was just inserted, and its body file, '' for none."""
        self.values[name] = value
        if body:
            self.stored.append(body)
            self.removed.discard(body)


@dataclass(slots=True, eq=False)
class Job:
    """Something to write: `apply` changes the transaction and returns the caller's result; it may run again.

    It adds so many bytes to the databases (`row_bytes`) and to body files (`need`), for which room is made first. `body` is a body file that it
    stores: if the job fails or returns None, the file is dropped.
    """

    apply: Callable[[Transaction], object]
    need: int = 0
    row_bytes: int = 0
    body: Incoming | None = None
    future: asyncio.Future[Any] | None = None
    on_end: Callable[[], None] | None = None
    result: object = None
    error: BaseException | None = None

    def end(self) -> None:
        if self.body is not None:
            if self.error is None and self.result is not None:
                self.body.release()
            else:
                self.body.drop()
        if self.on_end is not None:
            self.on_end()


class Writer:
    """The thread, from the moment it is made. `touched` are the primary keys that were asked for; it takes them from there."""

    def __init__(
        self,
        folder: Path,
        database: Database,
        bodies: Bodies,
        page: SharedPage,
        max_bytes: int,
        touched: set[str],
        reports: Reports,
        on_stored: Callable[[Sequence[str]], None],
        on_loss: Callable[[], None],
    ) -> None:
        """`on_stored` is told of new body files, and of rows; `on_loss`: something is to be recovered."""
        self._folder, self._database, self._bodies, self._page = folder, database, bodies, page
        self._max_bytes = max_bytes
        self._touched, self._reports, self._on_stored, self._on_loss = touched, reports, on_stored, on_loss
        self._together_bytes = max(1 << 20, max_bytes // 16)
        self._ticked_at = self._touched_at = time.monotonic()
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="cache-writer", daemon=True)
        self._thread.start()

    # ---- in any thread ----------------------------------------------------------------------------------------------------

    def submit(self, job: Job) -> asyncio.Future[Any]:
        """The result of `job`, which is carried out even if the caller is cancelled."""
        job.future = asyncio.get_running_loop().create_future()
        self._waiting.put(job)
        return job.future

    def give(self, job: Job) -> None:
        """A job of which only `on_end` hears."""
        self._waiting.put(job)

    def volume(self, index: Index) -> int:
        """Bytes of all files of the folder, with bodies that are being written."""
        return index.volume() + SIZE + self._page.pending

    def has_room(self, index: Index, need: int) -> bool:
        """Whether so many bytes more fit."""
        return self._lacking(index, need) <= 0

    def stop(self) -> None:
        """Ends the thread after the jobs that were given so far. Blocks."""
        self._waiting.put(None)
        self._thread.join()

    # ---- the thread ---------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        going = True
        while going:
            jobs: list[Job] = []
            with contextlib.suppress(queue.Empty):
                job = self._waiting.get(timeout=TICK_SECONDS)
                while job is not None and len(jobs) < MOST_TOGETHER - 1:
                    jobs.append(job)
                    job = self._waiting.get_nowait()
                if job is None:
                    going = False
                else:
                    jobs.append(job)
            for batch in self._batches(jobs):
                with self._told():
                    self._carry_out(batch)
            _tell(jobs)
            if time.monotonic() - self._ticked_at >= TICK_SECONDS:
                with self._told():
                    self._tick()
            if going and len(jobs) > 1:
                time.sleep(GATHERED_SECONDS)
        with self._told():
            self._write_touches()
            self._database.leave()

    def _batches(self, jobs: Sequence[Job]) -> Iterator[list[Job]]:
        """As many jobs together as room can be made for at once."""
        batch: list[Job] = []
        size = 0
        for job in jobs:
            size += job.need + job.row_bytes
            if batch and size > self._together_bytes:
                yield batch
                batch, size = [], job.need + job.row_bytes
            batch.append(job)
        if batch:
            yield batch

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as fault:
            self._reports.at_fault(fault)

    def _carry_out(self, batch: list[Job]) -> None:
        failure: BaseException | None = EntryStoreFailure("the cache met a fault of its own; the log names it")
        txn = None
        try:
            self._page.is_clean = False
            need, row_bytes = sum(job.need for job in batch), sum(job.row_bytes for job in batch)
            if (need or row_bytes) and not self._database.run(lambda index: self._make_room(index, need, row_bytes)):
                self._on_loss()  # unless large bodies are being written, what is counted is wrong
                for job in batch:
                    if job.need:
                        job.error = EntryStoreFailure(
                            f"{self._folder}: full of answers that are being stored right now"
                        )
            able = [job for job in batch if job.error is None]
            txn, failure = self._database.run(lambda index: self._commit(index, able)), None
        except EntryStoreFailure as fault:
            failure = fault
            self._reports.failed(str(fault), pause=True)
        finally:
            for job in batch:
                job.error = job.error or failure
                job.end()
        if txn is not None:
            self._tell(txn)

    # ---- one transaction ------------------------------------------------------------------------------------------------------

    def _commit(self, index: Index, jobs: Sequence[Job]) -> Transaction:
        """Values are committed within the transaction of the index, so that a row is visible only with its value; they are deleted after it."""
        txn = None
        while txn is None:  # once more without a job that is at fault
            txn = self._applied(index, [job for job in jobs if job.error is None])
        if not self._database.is_current(index):  # of what was committed to it nobody knows, and a purge must be known
            raise EntryStoreFailure(f"{self._folder}: the cache's database was replaced while it was written to")
        try:
            deleted = [name for name, value in txn.values.items() if value is None]
            if deleted:
                with self._values_transaction(index):
                    for name in deleted:
                        index.values.delete(name)
        except (sqlite3.Error, diskcache.Timeout):
            self._on_loss()  # values that no row names are removed later
        return txn

    def _applied(self, index: Index, jobs: Sequence[Job]) -> Transaction | None:
        """What the jobs changed, committed; None if one of them failed, which has its `error` then, and nothing was changed."""
        is_put = False
        try:
            with index.transaction():
                txn = Transaction(index, index.last_purge())
                if self._page.owed > txn.last_purge:  # it could not be written when it was asked for
                    txn.purged = txn.last_purge = index.log_purge(Selector(), self._page.owed - 1)
                for job in jobs:
                    try:
                        job.result = job.apply(txn)
                    except (sqlite3.Error, EntryStoreFailure):
                        raise
                    except Exception as fault:
                        job.error = self._own_failure(fault)
                        index.roll_back()
                        return None
                put = {name: value for name, value in txn.values.items() if value is not None}
                if put:
                    with self._values_transaction(index):
                        for name, value in put.items():
                            index.values.set(name, value)
                    is_put = True
        except BaseException:
            if is_put:
                self._on_loss()  # values that have no row, or not the one that they had
            raise
        return txn

    @contextlib.contextmanager
    def _values_transaction(self, index: Index) -> Iterator[None]:
        try:
            with index.values.transact():
                yield
        except BaseException:
            index.values.close()  # diskcache leaves a transaction open that it could not commit; it ends with the connection
            raise

    def _own_failure(self, fault: Exception) -> EntryStoreFailure | None:
        try:
            with translated(self._folder):
                raise fault
        except EntryStoreFailure as failure:
            self._reports.failed(str(failure), pause=isinstance(fault, OSError))
            return failure

    def _tell(self, txn: Transaction) -> None:
        with contextlib.suppress(OSError):
            if txn.purged:
                self._page.raise_purges(txn.purged)
                self._page.tell([PURGED], changed=False)
            if txn.softened:
                self._page.soften()
                self._page.tell([SOFTENED], changed=False)
            if txn.changed:
                self._page.tell(txn.changed, changed=True)
            if txn.lost:
                self._page.tell(txn.lost, changed=True, heeded_by_all=True)
            if txn.added:
                self._page.tell(txn.added, changed=False)
        for body in txn.removed:
            self._bodies.remove(body)
        if txn.stored or txn.values or txn.purged:
            self._on_stored(txn.stored)

    # ---- room -------------------------------------------------------------------------------------------------------------------

    def _make_room(self, index: Index, need: int, row_bytes: int) -> bool:
        """Evicts the entries that were not used for longest until so many bytes of files and of rows fit; whether they fit."""
        if self._lacking(index, need + 2 * row_bytes) <= 0:  # a row is written twice, to the journal first
            return True
        if index.disk_free() < _LEFT_FREE + need + 2 * row_bytes:
            index.shorten_journals(0)
        if self._over(index, need, row_bytes) > 0:
            self._write_touches()  # or what was used since would go before what was stored since
        spare = min(self._max_bytes // 64, _MOST_SPARE)  # a little more goes, so that not every entry evicts one
        while (over := self._over(index, need, row_bytes)) > 0:
            if not self._evict(index, over + spare):
                return over <= spare  # large bodies may have grown meanwhile
        return True

    def _over(self, index: Index, need: int, row_bytes: int) -> int:
        """How many bytes too many there would be, once the files are as short as they can be."""
        free = index.free_bytes() - row_bytes
        over = self._lacking(index, need + max(0, -free))
        if over > 0 and free > _WORTH_SHORTENING:
            index.give_back(min(over, free) // PAGE_BYTES + 1)
            over = self._lacking(index, need)
        return over

    def _lacking(self, index: Index, need: int) -> int:
        """How many bytes are lacking, of `max_bytes` or of a disk that is smaller; zero or less if so many fit."""
        return max(self.volume(index) - self._max_bytes, _LEFT_FREE - index.disk_free()) + need

    def _evict(self, index: Index, goal: int) -> list[Row]:
        """Removes up to `_VICTIMS` entries, no more than are needed for `goal` bytes."""
        chosen: list[Row] = []
        for row in index.least_used(_VICTIMS):
            if goal <= 0:
                break
            chosen.append(row)
            goal -= row.size + ROW_BYTES // 2
        if not chosen:
            return []
        gone = self._commit(index, [Job(lambda txn: txn.remove([row.id for row in chosen]))])
        for body in gone.removed:
            self._bodies.remove(body)
        marks = [mark_of(row.name) for row in chosen if row.name]
        self._page.tell(marks, changed=True, heeded_by_all=True)
        self._reports.evicted(len(marks))
        return chosen

    # ---- now and then ---------------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        """Writes down what was used, keeps files short, notices that the folder was taken away."""
        self._ticked_at = time.monotonic()
        with contextlib.suppress(OSError):
            self._page.mend()
        with contextlib.suppress(EntryStoreFailure):  # a file that is larger than it has to be is no loss
            self._database.run(lambda index: index.give_back(_PAGES_TOGETHER, keep=True))
            with contextlib.suppress(OSError):
                self._page.renew_if_lost()  # else those who come later would have another one; the folder is ours still
        if time.monotonic() - self._touched_at >= TOUCH_SECONDS:
            self._write_touches(all_=False)

    def _write_touches(self, *, all_: bool = True) -> None:
        """Writes down what was used; if not `all_`, only some of it if jobs wait."""
        keys = list(self._touched)
        if len(keys) > _MOST_TOUCHES:
            self._touched.clear()

        def write(index: Index) -> None:
            for at in range(0, len(keys), _TOUCHES_TOGETHER):
                if not all_ and at >= _LEAST_TOUCHES and not self._waiting.empty():
                    return
                some = keys[at : at + _TOUCHES_TOGETHER]
                self._touched.difference_update(some)
                with index.transaction():
                    index.use(some)
            self._touched_at = time.monotonic()
            index.shorten_journals(_JOURNAL_BYTES)

        with contextlib.suppress(EntryStoreFailure):  # when an entry was used is no loss
            self._database.run(write)


def _tell(jobs: Sequence[Job]) -> None:
    """One wake-up of a loop for all its futures."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Job]] = {}
    for job in jobs:
        if job.future is not None:
            by_loop.setdefault(job.future.get_loop(), []).append(job)
    for loop, ended in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(_resolve, ended)


def _resolve(jobs: Sequence[Job]) -> None:
    for job in jobs:
        assert job.future is not None
        resolve(job.future, job.result, job.error)

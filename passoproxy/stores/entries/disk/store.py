"""Entries on disk, in a folder that several processes may share.

    index.db    which entries there are, what was purged               index
    cache.db    the value of each entry: its sealed head, a small body  diskcache, by its documented interface
    bodies/     longer bodies, named by their digest                   bodies
    incoming/   bodies that are being written
    page        what processes tell one another                         change_feed

Threads: two that read, one that writes (`writer`), one that removes what is hidden or left over (`recovery`), one that syncs. The loop reads
small answers itself (`find_nowait`) for as long as that is quick, because a thread costs more than what it reads; it waits for no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from typing import Any, TypeVar

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.soft_purge import SoftPurge, SoftPurges
from passoproxy.errors import CannotCreate, EntryStoreFailure
from passoproxy.folders import own_folder
from passoproxy.ports import Body, BytesBody, Observer, StoreStats, nobody
from passoproxy.stores.entries.change_feed import ANYTHING, SharedPage
from passoproxy.stores.entries.disk.answers import Answer, Answers
from passoproxy.stores.entries.disk.bodies import Bodies, Incoming, Syncing, open_body, sync
from passoproxy.stores.entries.disk.database import Busy, Database, translated
from passoproxy.stores.entries.disk.index import INDEX, INLINE_BYTES, Index, Purge, Row, is_hidden
from passoproxy.stores.entries.disk.recovery import Recovery
from passoproxy.stores.entries.disk.threads import Lane, Reports
from passoproxy.stores.entries.disk.writer import ROW_BYTES, Job, Transaction, Writer
from passoproxy.stores.entries.serialization import (
    Seal,
    body_in,
    body_name,
    mark_of,
    proof_in,
    row_name,
    with_body,
    with_variant,
    youngest_first,
)

T = TypeVar("T")
_Found = tuple[Entry, bytes | None]

PAGE = "page"
PIECE_BYTES = 256 * 1024
FEW = 400
"""So many entries are removed before a purge is answered, and each is told to other processes; with more, they drop all that is in memory."""

QUICK_SECONDS, SLOW_SECONDS = 0.002, 1.0
_TURNS, _BRIEF_TURNS = 5, 2
"""How often a purge waits for a database that another process holds locked, `patience` each time."""

_MOST_IN_LOOP = 16
"""Variants of a key that the loop reads itself: each may be as long as `INLINE_BYTES`."""

_READERS = 2
_LISTED_TOGETHER = 50


def _nothing(txn: Transaction) -> None: ...


def _whole_body(value: object, digest: str) -> bytes | None:
    """The body that lies in a value, if it has this digest."""
    body = body_in(value)
    return body if body is not None and sha256(body).hexdigest() == digest else None


class DiskWriter:
    """At most two pieces of a body are in memory: one being gathered, one being written."""

    __slots__ = ("_asked_seq", "_body", "_entry", "_gathered", "_is_open", "_parts", "_put", "_store")

    def __init__(self, store: DiskStore, entry: Entry, asked_seq: int) -> None:
        self._store, self._entry, self._asked_seq = store, entry, asked_seq
        self._parts: list[bytes] = []
        self._gathered = 0
        self._body: Incoming | None = None
        self._put: asyncio.Task[Incoming] | None = None
        self._is_open = True

    async def write(self, data: bytes) -> None:
        self._check()
        self._parts.append(data)
        self._gathered += len(data)
        if self._gathered >= PIECE_BYTES:
            await self._hand_over()

    def _check(self) -> None:
        if not self._is_open:
            raise EntryStoreFailure("this answer's place in the cache was given up already")

    async def _hand_over(self) -> None:
        await self._settle()
        piece, self._parts, self._gathered = b"".join(self._parts), [], 0
        self._put = asyncio.ensure_future(self._store.append(self._body, piece))

    async def _settle(self) -> None:
        """Waits for the piece that is being written. A caller that is cancelled meanwhile loses neither the piece nor the file."""
        if self._put is not None:
            self._body = await asyncio.shield(self._put)
            self._put = None

    async def commit(self, entry: Entry | None = None) -> Entry | None:
        self._check()
        rest = b"".join(self._parts)
        if self._put is not None or self._body is not None:
            if rest:
                await self._hand_over()
            await self._settle()
        self._is_open = False
        body, self._body = self._body, None
        return await self._store.commit(self._entry, entry or self._entry, self._asked_seq, body or rest)

    async def abandon(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        self._parts = []
        with contextlib.suppress(EntryStoreFailure):
            await self._settle()
        body, self._body = self._body, None
        if body is not None:
            self._store.drop(body)


class DiskStore:
    """An `EntryStore` in `directory`, which also keeps soft purges.

    `secret` (16 bytes or more, not kept in that folder) proves that values are ours. `patience` is how many seconds another process
    that writes is waited for. Raises CannotCreate where the folder cannot be made; what fails later is an `EntryStoreFailure` or a miss.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        secret: bytes,
        observer: Observer = nobody,
        monotonic: Callable[[], float] = time.monotonic,
        patience: float = 2.0,
        few: int = FEW,
        answer_bytes: int = 0,
    ) -> None:
        self._folder = directory = own_folder(directory, "cache.directory")
        self._few, self._reports = few, Reports(observer, monotonic)
        self._seal, self._bodies = Seal(secret), Bodies(directory)
        try:
            self._bodies.make_folders()
            self.feed = self._page = SharedPage(directory / PAGE)
        except OSError as error:
            raise CannotCreate(
                f"{directory}: the cache's folder cannot be made or written ({error.strerror}); "
                "give passoproxy a folder of its own with cache.directory"
            ) from error
        self._closed = False
        self._none_in_force_at = self._removed = -1
        self._asks_again_at, self._blocks = 0.0, 0
        self._soft_purges, self._softened = SoftPurges(), -1
        self._touched: set[str] = set()
        self.touch: Callable[[str], None] = self._touched.add
        """Notes that a primary key was served without this store being asked; costs nothing."""
        self._database = Database(
            directory, max_bytes, patience, self._make_folders, self._on_new_database, self._reports
        )
        self._recovery = Recovery(directory, self._bodies, self._page, self._database, self._give, self._reports)
        self._syncing = Syncing(directory)
        self._writer = Writer(
            directory,
            self._database,
            self._bodies,
            self._page,
            max_bytes,
            self._touched,
            self._reports,
            self._syncing.note,
            self._recovery.on_loss,
        )
        self._lane = Lane("cache-reader", _READERS, self._database.leave)
        self._answers = Answers(self._bodies.incoming, answer_bytes, self._lane.call)
        self._recovery.start()

    # ---- finding ------------------------------------------------------------------------------------------------------------

    async def select(self, key: str) -> Sequence[Entry]:
        found, lost = await self._ask(partial(self._select, key))
        if lost:
            self._give(Job(partial(self._remove_lost, lost)))
        if found:
            self._touched.add(key)
        return found

    def _select(self, key: str, index: Index) -> tuple[tuple[Entry, ...], list[int]]:
        found, lost = self._find(key, index)
        return youngest_first([entry for entry, _ in found]), lost

    def _find(self, key: str, index: Index, *, most: int = -1) -> tuple[list[_Found], list[int]]:
        """The entries of a primary key with their bodies, as far as those lie in the value; and the rows whose value is not there or not ours."""
        purges = self._in_force(index)  # before the rows: one that ends meanwhile is not missed
        found, lost = [], []
        rows = index.values_of(key, most)
        if rows is None:
            raise EntryStoreFailure(f"{self._folder}: so many variants are looked for in a thread")
        for id_, name, asked_seq, value in rows:
            opened = self._opened(name, value)
            if opened is None:
                lost.append(id_)
            elif opened[0].key == key and not is_hidden(purges, asked_seq, opened[0]):
                found.append(opened)
        return found, lost

    def _opened(self, name: str, value: object) -> _Found | None:
        """The entry in a value, with the body if that lies there; None if the value was not closed by us for this row, or is damaged."""
        entry = self._seal.open(name, value)
        if entry is None or entry.size > INLINE_BYTES:
            return None if entry is None else (entry, None)
        body = _whole_body(value, entry.digest)
        return None if body is None else (entry, body)

    def find_nowait(self, key: str) -> list[_Found] | None:
        """Entries and bodies as `select` and `read` give them, a body only if it is small; None where that may take long, or something is lost.

        For the thread of the loop.
        """
        answer = self._run_nowait(partial(self._find, key, most=_MOST_IN_LOOP))
        if answer is None or answer[1]:
            return None
        if answer[0]:
            self._touched.add(key)
        return answer[0]

    def read_nowait(self, entry: Entry) -> bytes | None:
        """The body of `entry` if it is small and lies in the value, or in a file that the system has in memory.

        For the thread of the loop.
        """
        if entry.size > INLINE_BYTES:
            name = body_name(row_name(entry), entry.digest)
            return self._run_nowait(lambda index: self._bodies.read_nowait(name, entry.digest, entry.size))
        body = self._run_nowait(partial(self._read_value, entry))
        return None if body is None else body.data

    def keep_answer(self, digest: bytes, entry: Entry, made: tuple[Any, ...], *, with_body: bool) -> None:
        """Keeps what was made of `entry`, the only one of its primary key, as the answer to a request with this digest; `with_body`: the entry's
        body belongs to it.

        `made` is text, bytes, numbers. For the thread of the loop.
        """
        row = row_name(entry)
        of_body = entry.digest if with_body else None
        self._answers.keep(digest, Answer(entry.key, row, self._seal.proof(entry, row), of_body, entry.size, made))

    def answer_nowait(self, digest: bytes) -> tuple[str, tuple[Any, ...], bytes] | None:
        """Primary key and `made` of the answer that was kept under `digest`, and the entry's body if that belongs to it (else it is empty), if that
        very entry is still stored, and is the only one of its key; None also where that may take long.

        For the thread of the loop.
        """
        return self._run_nowait(partial(self._answer, digest))

    def _answer(self, digest: bytes, index: Index) -> tuple[str, tuple[Any, ...], bytes] | None:
        answer = self._answers.find(digest)
        if answer is None or self._in_force(index):
            return None
        value, body = index.lone_value(answer.row), b""
        if not isinstance(value, bytes) or not compare_digest(proof_in(value), answer.proof):
            return None
        if (of_body := answer.digest) is not None:
            if answer.size > INLINE_BYTES:
                found = self._bodies.read_nowait(body_name(answer.row, of_body), of_body, answer.size)
            else:
                found = _whole_body(value, of_body)
            if found is None:
                return None
            body = found
        self._touched.add(answer.key)
        return answer.key, answer.made, body

    def _run_nowait(self, work: Callable[[Index], T]) -> T | None:
        """What `work` returns; None if the disk was slow a moment ago, or anything is not as it should be."""
        if self._closed or (began := time.perf_counter()) < self._asks_again_at:
            return None
        if (removed := self._page.generation) != self._removed:
            self._removed = removed
            self._database.look_again()  # what others dropped must not be kept in memory, where they do not know of it
        found = self._database.run_nowait(work)
        self._note_time(began)
        return found

    def _note_time(self, began: float) -> None:
        """A slow disk is left to the threads for a while, so that the loop waits for it a hundredth of its time at most."""
        if (took := time.perf_counter() - began) > QUICK_SECONDS:
            blocks, self._blocks = self._blocks, resource.getrusage(resource.RUSAGE_THREAD).ru_inblock
            if self._blocks != blocks or took > SLOW_SECONDS:  # else another process had the processor
                self._asks_again_at = began + took * 100

    def _in_force(self, index: Index) -> Sequence[Purge]:
        """The purges in force. While the last purge is one at which there were none, there are none: that costs nothing to know."""
        purges = self._page.purges
        if purges == self._none_in_force_at:
            return ()
        owed = self._page.owed
        if owed and owed > index.last_purge():  # it could not be written
            return (Purge(owed, Selector()),)
        found = index.in_force()
        if not found:
            self._none_in_force_at = purges
        return found

    def _remove_lost(self, ids: Sequence[int], txn: Transaction) -> None:
        """Removes those of the rows whose value is not there or not ours."""
        txn.remove_visible(row.id for row in txn.index.rows(ids) if self._opened(row.name, txn.value(row.name)) is None)

    async def read(self, entry: Entry) -> Body | None:
        if entry.size <= INLINE_BYTES:
            body: Body | None = await self._ask(partial(self._read_value, entry))
        else:
            body = await self._call(partial(self._read, entry))
        if body is None:
            with contextlib.suppress(EntryStoreFailure):  # without its body it is a miss in any case
                await self._write(Job(partial(self._discard, entry, entry.digest)))
        return body

    def _read_value(self, entry: Entry, index: Index) -> BytesBody | None:
        name = row_name(entry)
        opened = self._opened(name, index.values.get(name))
        if opened is None or opened[1] is None or opened[0].digest != entry.digest:
            return None
        return BytesBody(opened[1])

    def _read(self, entry: Entry) -> Body | None:
        with translated(self._folder):
            return open_body(self._bodies, self._lane, entry)

    async def entries(self, selector: Selector) -> AsyncIterator[Entry]:
        ids = await self._ask(lambda index: index.ids(selector))
        for at in range(0, len(ids), _LISTED_TOGETHER):
            for entry in await self._ask(partial(self._listed, selector, ids[at : at + _LISTED_TOGETHER])):
                yield entry

    def _listed(self, selector: Selector, ids: Sequence[int], index: Index) -> list[Entry]:
        purges = self._in_force(index)
        rows = index.rows(ids)
        opened = ((row, self._seal.open(row.name, index.values.get(row.name))) for row in rows)
        return [
            entry
            for row, entry in opened
            if entry is not None and selector.matches(entry) and not is_hidden(purges, row.asked_seq, entry)
        ]

    async def stats(self) -> StoreStats:
        entries, used = await self._ask(self._counted)
        return StoreStats(entries, used, self._reports.evictions)

    async def by_route(self, names: Sequence[str]) -> dict[str, int]:
        return await self._ask(lambda index: index.by_route(names))

    def _counted(self, index: Index) -> tuple[int, int]:
        purges = self._in_force(index)
        entries = index.count(Selector(), *purges) if purges else index.totals()[0]
        return entries, self._writer.volume(index)

    # ---- storing ------------------------------------------------------------------------------------------------------------

    async def create(self, entry: Entry) -> DiskWriter:
        self._ready()
        if self._reports.is_paused():
            raise EntryStoreFailure(f"{self._folder}: nothing is stored for a moment, because writing failed just now")
        return DiskWriter(self, entry, self._page.purges)

    async def append(self, body: Incoming | None, piece: bytes) -> Incoming:
        """Appends a piece to `body` (a new one if None). Raises EntryStoreFailure; `body` stays the writer's to drop."""
        appended = await self._call(partial(self._append, body, piece, make_room=True))
        if appended is None:
            await self._write(Job(lambda txn: None, need=len(piece)))
            appended = await self._call(partial(self._append, body, piece, make_room=False))
        assert appended is not None
        return appended

    def _append(self, body: Incoming | None, piece: bytes, *, make_room: bool) -> Incoming | None:
        """None where room has to be made first."""
        if make_room and not self._database.run(lambda index: self._writer.has_room(index, len(piece))):
            return None
        began = None
        try:
            with translated(self._folder):
                if body is None:
                    body = began = self._bodies.begin()
                body.append(piece)
                self._page.add_pending(len(piece))
        except EntryStoreFailure as failure:
            if began is not None:
                began.drop()
            self._reports.failed(str(failure), pause=True)
            raise
        return body

    async def commit(self, began: Entry, entry: Entry, asked_seq: int, body: Incoming | bytes) -> Entry | None:
        """Stores `entry` with its body, in a file or in memory, unless a purge after `asked_seq` counts against it: then it returns None."""
        if isinstance(body, Incoming):
            job = Job(_nothing, 0, ROW_BYTES, body, on_end=partial(self._written, body.size))
        elif len(body) > INLINE_BYTES:
            job = Job(_nothing, len(body), ROW_BYTES)
        else:
            job = Job(_nothing, 0, ROW_BYTES + len(body))
        job.apply = partial(self._store, began, entry, asked_seq, body, job)
        try:
            stored: Entry | None = await self._write(job)
        except EntryStoreFailure:
            if self._closed and job.body is not None:
                job.body.drop()
            raise
        return stored

    def _written(self, size: int) -> None:
        """The body's bytes count as stored from now on, and no more as being written."""
        with contextlib.suppress(OSError):
            self._page.add_pending(-size)

    def _store(
        self, began: Entry, entry: Entry, asked_seq: int, data: Incoming | bytes, job: Job, txn: Transaction
    ) -> Entry | None:
        if self._is_purged(txn, began, entry, asked_seq):
            return None
        name, file, inline = row_name(entry), "", None
        if isinstance(data, bytes) and len(data) <= INLINE_BYTES:
            digest, size, inline = sha256(data).hexdigest(), len(data), data
        else:
            if job.body is None:
                assert isinstance(data, bytes)
                job.body = self._bodies.begin()
                job.body.append(data)
            digest, size = job.body.digest, job.body.size
            file = body_name(name, digest)
            self._bodies.settle(job.body, file)
        if (entry.digest, entry.size) != (digest, size):
            entry = replace(entry, digest=digest, size=size)
        mark = mark_of(name)
        if rows := txn.index.variants(entry.key):
            self._make_way(rows, entry, mark, txn)
        txn.index.insert(name, entry, txn.last_purge)
        value = self._seal.close(entry, name)
        txn.put(name, value if inline is None else with_body(value, inline), file)
        txn.added.append(mark)
        return entry

    def _make_way(self, rows: Sequence[Row], entry: Entry, mark: int, txn: Transaction) -> None:
        """Removes the rows that `entry` replaces, and those that a purge hides."""
        visible, hidden = [], []
        purges = self._in_force(txn.index)
        for row in rows:
            variant = self._seal.open(row.name, txn.value(row.name))
            if variant is not None and not is_hidden(purges, row.asked_seq, variant):
                visible.append((row, variant))
            else:
                hidden.append(row.id)
        kept = {variant.identifier for variant in with_variant([variant for _, variant in visible], entry)[1:]}
        gone = [row.id for row, variant in visible if variant.identifier not in kept]
        if gone:
            txn.changed.append(mark)
        if hidden or gone:
            txn.remove([*hidden, *gone])

    def _is_purged(self, txn: Transaction, began: Entry, entry: Entry, asked_seq: int) -> bool:
        missed = max(self._page.purges, txn.last_purge) - asked_seq
        if missed == 0:
            return False
        purges = txn.index.purges_since(asked_seq)
        if len(purges) < missed:  # one that could not be written down, or that is in the log no more
            return True
        return any(selector.matches(each) for selector, soft in purges if not soft for each in (began, entry))

    def drop(self, body: Incoming) -> None:
        """Gives a body up that is not stored."""
        if self._closed:
            body.drop()
        else:
            self._lane.call(partial(self._drop, body))

    def _drop(self, body: Incoming) -> None:
        self._written(body.size)
        body.drop()

    # ---- changing -------------------------------------------------------------------------------------------------------------

    async def update(self, entry: Entry) -> None:
        await self._write(Job(partial(self._update, entry)))

    def _update(self, entry: Entry, txn: Transaction) -> None:
        name = row_name(entry)
        row = txn.index.find(name)
        stored = self._seal.open(name, txn.value(name)) if row is not None else None
        if row is None or stored is None or is_hidden(self._in_force(txn.index), row.asked_seq, stored):
            return
        whole = replace(entry, digest=stored.digest, size=stored.size)
        txn.index.rewrite(row, whole, txn.last_purge)
        value, body = self._seal.close(whole, name), body_in(txn.value(name))
        txn.values[name] = value if body is None else with_body(value, body)
        txn.changed.append(mark_of(name))

    async def discard(self, entry: Entry) -> None:
        try:
            await self._write_patiently(partial(self._discard, entry, None), _BRIEF_TURNS)
        except EntryStoreFailure:
            await self._purge_without_database()

    def _discard(self, entry: Entry, if_digest: str | None, txn: Transaction) -> None:
        row = txn.index.find(row_name(entry))
        if row is not None and if_digest in (None, row.digest):
            txn.remove_visible([row.id])

    # ---- purging ----------------------------------------------------------------------------------------------------------------

    async def purge(self, selector: Selector, *, brief: bool = False) -> int:
        """In force in every process once its row is committed. What it hides is removed with that if it is little, else behind the answer."""
        try:
            purge, count = await self._write_patiently(
                partial(self._purge, selector), _BRIEF_TURNS if brief else _TURNS
            )
        except EntryStoreFailure:
            self._ready()
            count = 0
            with contextlib.suppress(EntryStoreFailure):
                count = await self._ask(lambda index: index.count(selector, *self._in_force(index)))
            await self._purge_without_database()
        else:
            if count is None:
                count = await self._ask(partial(self._count_hidden, purge))
                self._recovery.sweep(purge)
        return int(count)

    def _purge(self, selector: Selector, txn: Transaction) -> tuple[Purge, int | None]:
        """The purge, and how many visible entries it removed; None if they are many, which are hidden from now on."""
        earlier = txn.index.in_force()
        purge = Purge(self._log_purge(selector, None, txn), selector)
        ids = txn.index.ids(selector, *earlier, before=purge.sequence, most=self._few + 1)
        if len(ids) > self._few:
            txn.changed.append(ANYTHING)
            return purge, None
        txn.remove_visible(ids)
        txn.index.end_purge(purge.sequence)
        return purge, len(ids)

    def _count_hidden(self, purge: Purge, index: Index) -> int:
        earlier = [other for other in index.in_force() if other.sequence < purge.sequence]
        return index.count(purge.selector, *earlier, before=purge.sequence)

    def _log_purge(self, selector: Selector, soft: SoftPurge | None, txn: Transaction) -> int:
        if not txn.purged:
            # One that nobody was told of may be repeated by this one, which finds no rows then that it could tell of.
            self._page.make_up(txn.index.last_purge())
        txn.purged = txn.last_purge = txn.index.log_purge(selector, max(self._page.purges, txn.last_purge), soft)
        return txn.purged

    async def _write_patiently(self, apply: Callable[[Transaction], object], turns: int) -> Any:
        """What must be written, or everything goes: a process that holds a database locked is waited for longer than else."""
        for _ in range(turns - 1):
            with contextlib.suppress(Busy):
                return await self._write(Job(apply))
        return await self._write(Job(apply))

    async def _purge_without_database(self) -> None:
        """A purge, of everything, on a disk that takes no more: in force by the shared page, and databases of which nothing can be seen go."""
        await self._call(self._page.owe)
        with contextlib.suppress(EntryStoreFailure):
            await self._ask(self._database.drop)
        self._database.leave()  # a removed file takes room for as long as a thread has it open
        for _ in range(_READERS):
            self._lane.call(self._database.leave)

    async def add(self, purge: SoftPurge) -> None:
        """One more soft purge: durable, and in force in every process, when it returns. Raises EntryStoreFailure: then it may be lost with the power."""
        await self._write(Job(partial(self._add, purge)))
        await self._call(self._sync_index)

    def _sync_index(self) -> None:
        with translated(self._folder):
            sync(self._folder / f"{INDEX}-wal")

    def _add(self, purge: SoftPurge, txn: Transaction) -> None:
        self._log_purge(purge.selector, purge, txn)
        txn.index.merge_soft_purges()
        txn.softened = True

    def current(self, now: float) -> SoftPurges:
        """The soft purges in force; everything asked for until `now` where they cannot be read. Reads the index only when there are new ones."""
        softened = self._page.softened
        if softened != self._softened:
            self._database.look_again()
            try:  # only the first time may it take long
                ask = self._database.run if self._softened < 0 else self._database.run_nowait
                found = ask(lambda index: index.soft_purges())
            except EntryStoreFailure:
                found = None
            if found is None:
                return SoftPurges([SoftPurge(Selector(), now)])
            self._soft_purges, self._softened = found, softened
        return self._soft_purges

    # ---- what other processes did -------------------------------------------------------------------------------------------

    def generation(self) -> int:
        return self._page.generation

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._answers.close()
        self._lane.refuse()
        self._database.leave()  # this thread's, for soft purges
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        is_recovered = self._recovery.stop()
        self._lane.stop()
        self._writer.stop()
        self._syncing.stop()
        self._page.is_clean = is_recovered
        self._page.close()

    # ---- between the threads ----------------------------------------------------------------------------------------------------

    async def _call(self, work: Callable[[], T]) -> T:
        self._ready()
        return await self._lane.call(work)

    async def _ask(self, question: Callable[[Index], T]) -> T:
        return await self._call(partial(self._database.run, question))

    async def _write(self, job: Job) -> Any:
        self._ready()
        return await self._writer.submit(job)

    def _give(self, job: Job) -> None:
        self._writer.give(job)

    def _ready(self) -> None:
        if self._closed:
            raise EntryStoreFailure(f"{self._folder}: the cache is closed")
        if self._reports.loop is None:
            self._reports.loop = asyncio.get_running_loop()

    def _on_new_database(self) -> None:
        """All entries are gone; their bodies are left over."""
        self._page.tell([ANYTHING], changed=True, heeded_by_all=True)
        self._page.soften()
        self._recovery.on_loss()

    def _make_folders(self) -> None:
        """Before a database is opened: the folder may have been taken away under us."""
        try:
            if own_folder(self._folder, "cache.directory") != self._folder:
                raise EntryStoreFailure(
                    f"{self._folder}: belongs to another user now; see who may change the folder above it"
                )
        except CannotCreate as fault:
            raise EntryStoreFailure(str(fault)) from fault
        self._bodies.make_folders()
        self._page.renew_if_lost()

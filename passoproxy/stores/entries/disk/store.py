"""Carrying out, behind everybody's back, the purges that are in force already: their rows and bodies go, slice by slice.

A thread of its own looks for rows, in SQLite and so without the interpreter's lock; the scribe removes them between its other work, and the
thread the bodies, which takes longer. What a killed process has left undone, the next one finishes.

How a purge of a cache folder goes: everything at once, a few rows before it is answered, many behind its answer.

Whichever way it goes, it is in force when it is answered: for whoever looks, in any process, and for what was under way.

One answer on its way to disk: gathered in memory up to a piece, streamed to a file in a thread beyond it.

Entries on disk: metadata in a database, bodies as files, in one folder that several processes may share.

This is where the parts meet: `disk_database` and `disk_rows` (metadata, eviction), `disk_bodies` (files), `scribe` (the one thread that
writes), `lanes` (threads that read), `disk_purging` and `disk_clearing` (purges), `shared_page` (what processes tell one another), `disk_syncing`
(durability), `disk_sweeping` (what a crash left).
The loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.events import EntriesEvicted, Event, StoreFailed, TaskFailed
from passoproxy.errors import CannotCreate, EntryStoreFailure
from passoproxy.folders import own_folder
from passoproxy.ports import Body, Observer, StoreStats, nobody
from passoproxy.stores.entries import serialization
from passoproxy.stores.entries.change_feed import ANYTHING, SIZE, SharedPage
from passoproxy.stores.entries.disk.commit import Committing
from passoproxy.stores.entries.disk.files import Bodies, Incoming, Syncing
from passoproxy.stores.entries.disk.index import ROWS, Database, Place, Sifting, Undone, meant, perhaps, translated
from passoproxy.stores.entries.disk.lookup import Lookup
from passoproxy.stores.entries.disk.recovery import Sweeping
from passoproxy.stores.entries.disk.threads import Background, Lane
from passoproxy.stores.entries.disk.writer import (
    CarryingOut,
    Correcting,
    CountingPurge,
    Discarding,
    Job,
    LoggingPurge,
    MakingRoom,
    Premises,
    Scribe,
    StartingAnew,
    Storing,
    SweepingOut,
    TakingOut,
    Updating,
)
from passoproxy.stores.entries.serialization import Seal, range_of

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
        selector = serialization.decode_purge(purge.selector)
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


PIECE_BYTES = 256 * 1024


class Desk(Protocol):
    """What a writer needs of its store."""

    async def put_down(self, body: Incoming | None, piece: bytes) -> Incoming:
        """Appends a piece to `body` (begun where None). Raises EntryStoreFailure; `body` stays the writer's to drop."""
        ...

    async def store(
        self, began: Entry, entry: Entry, purges: int, body: Incoming | None, rest: bytes
    ) -> Entry | None: ...
    def drop(self, body: Incoming) -> None: ...


class DiskWriter:
    """At most two pieces of a body are in memory: one being gathered, one being written."""

    __slots__ = ("_body", "_desk", "_entry", "_gathered", "_parts", "_purges", "_put", "_state")

    def __init__(self, desk: Desk, entry: Entry, purges: int) -> None:
        self._desk, self._entry, self._purges = desk, entry, purges
        self._parts: list[bytes] = []
        self._gathered = 0
        self._body: Incoming | None = None
        self._put: asyncio.Task[Incoming] | None = None
        self._state = "open"

    async def write(self, data: bytes) -> None:
        if self._state != "open":
            raise EntryStoreFailure("this answer's place in the cache was given up already")
        self._parts.append(data)
        self._gathered += len(data)
        if self._gathered >= PIECE_BYTES:
            await self._hand_over()

    async def _hand_over(self) -> None:
        await self._settle()
        piece, self._parts, self._gathered = b"".join(self._parts), [], 0
        self._put = asyncio.ensure_future(self._desk.put_down(self._body, piece))

    async def _settle(self) -> None:
        """Waits for the piece that is being written. A caller that is cancelled meanwhile loses neither the piece nor the file."""
        if self._put is not None:
            self._body = await asyncio.shield(self._put)
            self._put = None

    async def commit(self, entry: Entry | None = None) -> Entry | None:
        if self._state != "open":
            raise EntryStoreFailure("this answer's place in the cache was given up already")
        await self._settle()
        self._state = "ended"
        body, self._body = self._body, None
        return await self._desk.store(self._entry, entry or self._entry, self._purges, body, b"".join(self._parts))

    async def abandon(self) -> None:
        if self._state != "open":
            return
        self._state = "ended"
        self._parts = []
        if self._put is not None:
            with contextlib.suppress(EntryStoreFailure):
                self._body = await asyncio.shield(self._put)
            self._put = None
        if self._body is not None:
            self._desk.drop(self._body)
            self._body = None


PAGE = "page"
_READERS = 2
PAUSE_SECONDS = 5.0
"""How long nothing is stored after the folder could not be written."""


class DiskStore:
    """An `EntryStore` in `directory`.

    `secret` (16 bytes or more, not kept in that folder) proves that rows are ours. `patience` is how many seconds another process
    that writes is waited for; a purge of up to `few` entries has removed them when it is answered. Raises CannotCreate where the folder
    cannot be made; what fails later is an `EntryStoreFailure` or a miss.
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
    ) -> None:
        self._folder = directory = own_folder(directory, "cache.directory")
        self._observer, self._monotonic = observer, monotonic
        seal, bodies = Seal(secret), Bodies(directory)
        try:
            bodies.make_folders()
            self._page = SharedPage(directory / PAGE)
        except OSError as error:
            raise CannotCreate(
                f"{directory}: the cache's folder cannot be made or written ({error.strerror}); "
                "give passoproxy a folder of its own with cache.directory"
            ) from error
        self._premises = Premises(directory, bodies, self._page, seal)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._paused_until = 0.0
        self._evictions = 0
        self._touched: set[str] = set()
        self.touch: Callable[[str], None] = self._touched.add
        """Tells that a primary key was served without this store being asked; costs nothing."""
        self._database = Database(
            directory, max_bytes, patience, self._other_bytes, self._make_folders, self._on_new_database
        )
        self._syncing = Syncing(directory)
        self._sweeping = Sweeping(
            directory, bodies, self._page, self._database, self._sweep_out, self._correct, self._on_fault
        )
        self._committing = Committing(
            self._premises,
            self._database,
            max_bytes,
            self._taken_touches,
            self._on_evicted,
            self._on_failure,
            self._syncing.note,
            self._sweeping.ask,
        )
        self._lane = Lane("cache-reader", _READERS, self._database.leave)
        self._lookup = Lookup(self._premises, self._database, self._lane, self._on_failure)
        self._scribe = Scribe(self._committing.carry_out, self._committing.tick, self._committing.leave, self._on_fault)
        self._clearing = Clearing(self._premises, self._database, self._scribe.give, self._on_fault)
        self._purging = Purging(self._premises, self._lookup, self._call, self._write, self._clearing.ask, few)
        self._sweeping.start()
        self._clearing.start()

    # ---- what callers ask ------------------------------------------------------------------------------------------

    async def select(self, key: str) -> Sequence[Entry]:
        found, foreign = await self._call(partial(self._lookup.select, key))
        if foreign:
            self._sweep_out(foreign)
        if found:
            self._touched.add(key)
        return found

    async def read(self, entry: Entry) -> Body | None:
        body = await self._call(partial(self._lookup.open_body, entry))
        if body is None:
            with contextlib.suppress(EntryStoreFailure):  # without its body it is a miss in any case
                await self._write(Discarding(self._premises, entry, if_digest=entry.digest))
        return body

    async def create(self, entry: Entry) -> DiskWriter:
        self._ready()
        if self._monotonic() < self._paused_until:
            raise EntryStoreFailure(f"{self._folder}: nothing is stored for a moment, because writing failed just now")
        return DiskWriter(self, entry, self._page.purges)

    async def update(self, entry: Entry) -> None:
        await self._write(Updating(self._premises, entry))

    async def discard(self, entry: Entry) -> None:
        await self._write(Discarding(self._premises, entry))

    async def purge(self, selector: Selector, *, brief: bool = False) -> int:
        return await self._purging.purge(selector)

    async def entries(self, selector: Selector) -> AsyncIterator[Entry]:
        sifting = Sifting(selector)
        while not sifting.done:
            for entry in await self._call(partial(self._lookup.sifted, sifting, selector)):
                yield entry

    async def stats(self) -> StoreStats:
        entries, used = await self._call(self._lookup.counted)
        return StoreStats(entries, used, self._evictions)

    def generation(self) -> int:
        return self._page.generation

    def events(self) -> int:
        """A number that grows with everything that happens to what is stored, in any process; as cheap as `generation`."""
        return self._page.events

    def purges(self) -> int:
        """A number that grows with every purge, in any process; as cheap as `generation`."""
        return self._page.purges

    def foreign_since(self, seen: int) -> tuple[int, list[int] | None]:
        """The present `events`, and the marks (`names.mark_of`) of what others changed since `seen`; None: anything may have changed."""
        return self._page.foreign_since(seen)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        self._clearing.stop()
        self._sweeping.stop()
        self._lane.stop()
        self._scribe.stop()
        self._syncing.stop()
        self._page.close()

    # ---- what writers ask -------------------------------------------------------------------------------------------

    async def put_down(self, body: Incoming | None, piece: bytes) -> Incoming:
        """See `disk_writer.Desk`."""
        if not await self._call(partial(self._lookup.has_room, len(piece))):
            await self._write(MakingRoom(len(piece)))
        return await self._call(partial(self._lookup.append, body, piece))

    async def store(self, began: Entry, entry: Entry, purges: int, body: Incoming | None, rest: bytes) -> Entry | None:
        """See `disk_writer.Desk`."""
        try:
            stored: Entry | None = await self._write(Storing(self._premises, began, entry, purges, body, rest))
        except EntryStoreFailure as failure:
            if self._closed and body is not None:
                body.drop()
            raise failure
        return stored

    def drop(self, body: Incoming) -> None:
        """See `disk_writer.Desk`."""
        if self._closed:
            body.drop()
        else:
            self._lane.call(partial(self._lookup.drop, body))

    # ---- between the threads ----------------------------------------------------------------------------------------

    async def _call(self, work: Callable[[], T]) -> T:
        self._ready()
        return await self._lane.call(work)

    async def _write(self, job: Job) -> Any:
        self._ready()
        return await self._scribe.submit(job)

    def _ready(self) -> None:
        if self._closed:
            raise EntryStoreFailure(f"{self._folder}: the cache is closed")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()

    def _tell(self, event: Event) -> None:
        """From any thread: observers are told in the loop's."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._observer, event)

    def _on_failure(self, detail: str, pause: bool) -> None:
        now = self._monotonic()
        if not pause or now >= self._paused_until:
            self._tell(StoreFailed(detail))
        if pause:
            self._paused_until = now + PAUSE_SECONDS

    def _on_fault(self, detail: str) -> None:
        self._tell(TaskFailed("cache store", detail))

    def _on_evicted(self, count: int) -> None:
        self._evictions += count
        self._tell(EntriesEvicted(count))

    def _on_new_database(self) -> None:
        """All entries are gone; their bodies are swept up."""
        self._page.tell([ANYTHING], changed=True, heeded_by_all=True)
        self._sweeping.ask()

    def _make_folders(self) -> None:
        """Before a database is opened: the folder may have been taken away under us."""
        try:
            if own_folder(self._folder, "cache.directory") != self._folder:
                raise EntryStoreFailure(
                    f"{self._folder}: belongs to another user now; see who may change the folder above it"
                )
        except CannotCreate as fault:
            raise EntryStoreFailure(str(fault)) from fault
        self._premises.bodies.make_folders()
        self._page.renew_if_lost()

    def _other_bytes(self) -> int:
        """What counts beside database and bodies."""
        return SIZE + self._page.pending

    def _sweep_out(self, rowids: Sequence[int]) -> None:
        self._scribe.give(SweepingOut(self._premises, rowids))

    def _correct(self) -> None:
        self._scribe.give(Correcting())

    def _taken_touches(self, most: int) -> list[str]:
        taken = list(self._touched)[:most]
        self._touched.difference_update(taken)
        return taken

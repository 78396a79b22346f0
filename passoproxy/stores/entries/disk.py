"""Entries on disk: metadata in a database, bodies as files, in one folder that several processes may share.

This is where the parts meet: `disk_database` and `disk_rows` (metadata, eviction), `disk_bodies` (files), `scribe` (the one thread that
writes), `lanes` (threads that read), `disk_purging` and `disk_clearing` (purges), `shared_page` (what processes tell one another), `disk_syncing`
(durability), `disk_sweeping` (what a crash left).
The loop never waits for a disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.events import EntriesEvicted, Event, StoreFailed, TaskFailed
from passoproxy.errors import CannotCreate, EntryStoreFailure
from passoproxy.folders import own_folder
from passoproxy.ports import Body, Observer, StoreStats, nobody
from passoproxy.stores.entries.disk_bodies import Bodies, Incoming
from passoproxy.stores.entries.disk_clearing import Clearing
from passoproxy.stores.entries.disk_committing import Committing
from passoproxy.stores.entries.disk_database import Database
from passoproxy.stores.entries.disk_jobs import (
    Correcting,
    Discarding,
    MakingRoom,
    Premises,
    Storing,
    SweepingOut,
    Updating,
)
from passoproxy.stores.entries.disk_lookup import Lookup
from passoproxy.stores.entries.disk_purging import FEW, Purging
from passoproxy.stores.entries.disk_sifting import Sifting
from passoproxy.stores.entries.disk_sweeping import Sweeping
from passoproxy.stores.entries.disk_syncing import Syncing
from passoproxy.stores.entries.disk_writer import DiskWriter
from passoproxy.stores.entries.lanes import Lane
from passoproxy.stores.entries.scribe import Job, Scribe
from passoproxy.stores.entries.sealing import Seal
from passoproxy.stores.entries.shared_page import ANYTHING, SIZE, SharedPage

T = TypeVar("T")

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

    async def purge(self, selector: Selector) -> int:
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

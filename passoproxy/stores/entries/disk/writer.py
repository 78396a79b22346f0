"""The one thread that writes to a cache folder's database: what waits is carried out together, in one transaction (group commit).

A job has three steps: `prepare` does file work before the transaction and may fail alone; `apply` changes rows within it; `finish`
is told whether it held. Jobs are carried out in the order in which they came. What they changed is told to the shared page after the commit,
and only then do the callers hear of it.

What the scribe is asked to write: one small class for each kind.

What the scribe is asked to write for purges; how they go together is said in `disk_purging` and `disk_clearing`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries import serialization
from passoproxy.stores.entries.change_feed import ANYTHING, PURGED, SharedPage
from passoproxy.stores.entries.disk.files import Bodies, Incoming
from passoproxy.stores.entries.disk.index import NONE, Damaged, Database, Row, Rows, Undones, translated
from passoproxy.stores.entries.disk.threads import resolve
from passoproxy.stores.entries.serialization import (
    Seal,
    body_name,
    hints_of,
    judged,
    key_name,
    mark_of,
    row_name,
    with_variant,
)

MOST_TOGETHER = 64
TICK_SECONDS = 0.25


@dataclass(slots=True)
class Changes:
    """What a transaction does to what is visible, as marks of primary keys. `stored` are the names of new bodies."""

    added: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)
    purges: int = 0

    def add(self, others: Changes) -> None:
        """What another transaction did, after this one."""
        self.added += others.added
        self.changed += others.changed
        self.stored += others.stored
        self.purges = max(self.purges, others.purges)


class Job:
    """Something to be written. `need` is the room it takes, in bytes of bodies; `rows` how many rows it adds."""

    need = 0
    rows = 0
    alone = False
    """Whether it is no part of a transaction: then `disk_committing` asks it for what it does `instead`."""

    def prepare(self) -> None:
        """File work before the transaction; an error fails this job only."""

    def apply(self, rows: Rows, changes: Changes) -> Any:
        """Changes rows; what it returns is the caller's result."""
        raise NotImplementedError

    def finish(self, held: bool) -> None:
        """After the transaction, whether it held or not; also where `prepare` failed. Must not raise."""

    def in_need(self, rows: Rows) -> Any:
        """What can still be done where the database cannot be written; raises EntryStoreFailure where nothing can."""
        raise EntryStoreFailure("the cache's database cannot be written now")


@dataclass(frozen=True, slots=True)
class Asked:
    """A job and who waits for it, if anybody does."""

    job: Job
    future: asyncio.Future[Any] | None = None


@dataclass(slots=True)
class Outcome:
    """How a job ended."""

    asked: Asked
    result: object = None
    error: BaseException | None = None


class Scribe:
    """Runs `carry_out` on what waits, `tick` a few times a second, and `leave` at the end, all in its thread."""

    def __init__(
        self,
        carry_out: Callable[[Sequence[Asked]], list[Outcome]],
        tick: Callable[[], None],
        leave: Callable[[], None],
        on_fault: Callable[[str], None],
    ) -> None:
        """`on_fault` is told of what none of them should raise; the thread lives on, for all who store wait for it."""
        self._on_fault = on_fault
        self._waiting: queue.SimpleQueue[Asked | None] = queue.SimpleQueue()
        self._carry_out, self._tick, self._leave = carry_out, tick, leave
        self._thread = threading.Thread(target=self._run, name="cache-scribe", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> asyncio.Future[Any]:
        """Gives a job in; it is carried out also if nobody waits any more."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.put(Asked(job, future))
        return future

    def give(self, job: Job) -> None:
        """Gives in a job for which nobody waits, from any thread."""
        self._waiting.put(Asked(job))

    def _run(self) -> None:
        going = True
        while going:
            batch: list[Asked] = []
            try:
                first = self._waiting.get(timeout=TICK_SECONDS)
                while True:
                    if first is None:
                        going = False
                        break
                    batch.append(first)
                    if len(batch) == MOST_TOGETHER:
                        break
                    first = self._waiting.get_nowait()
            except queue.Empty:
                pass
            if batch:
                _tell(self._outcomes(batch))
            with self._told():
                self._tick()
        with self._told():
            self._leave()

    def _outcomes(self, batch: Sequence[Asked]) -> Sequence[Outcome]:
        with self._told():
            return self._carry_out(batch)
        fault = EntryStoreFailure("the cache met a fault of its own; the log names it")
        return [Outcome(asked, error=fault) for asked in batch]

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except Exception as fault:
            self._on_fault(f"{type(fault).__name__}: {fault}")

    def stop(self) -> None:
        """Ends the thread after what was given so far, and waits for that. Blocks."""
        self._waiting.put(None)
        self._thread.join()


def _tell(outcomes: Sequence[Outcome]) -> None:
    """One wake-up of a loop for all its futures."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.asked.future is not None:
            by_loop.setdefault(outcome.asked.future.get_loop(), []).append(outcome)
    for loop, ended in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(_resolve_all, ended)


def _resolve_all(outcomes: Sequence[Outcome]) -> None:
    for outcome in outcomes:
        assert outcome.asked.future is not None
        resolve(outcome.asked.future, outcome.result, outcome.error)


@dataclass(frozen=True, slots=True)
class Premises:
    """What jobs work with: a cache folder's parts beside its database."""

    folder: Path
    bodies: Bodies
    page: SharedPage
    seal: Seal

    def opened(self, row: Row) -> Entry | None:
        """The entry in `row`, None if we did not write it."""
        return self.seal.open(row.name, row.hints, row.value)


class Storing(Job):
    """Stores a complete body with its head. The result is the entry as stored, or None where a purge counts against it."""

    def __init__(
        self, premises: Premises, began: Entry, entry: Entry, purges: int, body: Incoming | None, rest: bytes
    ) -> None:
        """`body` is what was written already, `rest` what was not; `purges` the number of the last purge when it began."""
        self._premises, self._began, self._entry, self._purges = premises, began, entry, purges
        self._body, self._rest = body, rest
        self._counted = body.size if body is not None else 0
        self.need, self.rows = len(rest), 1
        self._row = row_name(entry)
        self._file = ""
        self._stored = False

    def prepare(self) -> None:
        bodies = self._premises.bodies
        if self._body is None:
            self._body = bodies.begin()
        self._body.append(self._rest)
        self._entry = replace(self._entry, digest=self._body.digest, size=self._body.size)
        self._file = body_name(self._row, self._entry.digest)
        bodies.settle(self._body, self._file)

    def apply(self, rows: Rows, changes: Changes) -> Entry | None:
        self._stored = False
        if self._is_purged(rows):
            return None
        there = self._there(rows)
        kept = {entry.identifier for entry in with_variant([entry for _, entry in there if entry], self._entry)[1:]}
        mark = mark_of(self._row)
        for row, entry in there:
            if entry is None or entry.identifier not in kept:
                rows.take_out(row, but_not=self._file)
                if mark not in changes.changed:
                    changes.changed.append(mark)
        rows.insert(self._row, self._premises.seal.close(self._entry), hints_of(self._entry))
        changes.added.append(mark)
        changes.stored.append(self._file)
        self._stored = True
        return self._entry

    def _there(self, rows: Rows) -> list[tuple[Row, Entry | None]]:
        """The variants of the key; those that a purge took and that lie there still go on the way."""
        found = [(row, self._premises.opened(row)) for row in rows.of_key(key_name(self._entry.key))]
        undone = Undones.of(rows) if found else NONE
        if not undone:
            return found
        there = []
        for row, entry in found:
            taker = undone.taker(row, entry) if entry is not None else 0
            if taker:
                rows.take_out(row, but_not=self._file)
                rows.purging.count_remaining(taker, -1)
            else:
                there.append((row, entry))
        return there

    def _is_purged(self, rows: Rows) -> bool:
        missed = self._premises.page.purges - self._purges
        if missed == 0:
            return False
        purges = rows.purging.since(self._purges)
        return len(purges) < missed or serialization.counts_against(purges, self._began, self._entry)

    def finish(self, held: bool) -> None:
        if self._body is not None:
            if held and self._stored:
                self._body.release()
            else:
                self._body.drop()
        if self._counted:
            self._premises.page.add_pending(-self._counted)
            self._counted = 0


class Updating(Job):
    """Gives a stored entry another head."""

    rows = 1

    def __init__(self, premises: Premises, entry: Entry) -> None:
        self._premises, self._entry = premises, entry

    def apply(self, rows: Rows, changes: Changes) -> None:
        row = rows.named(row_name(self._entry))
        stored = self._premises.opened(row) if row else None
        if row is None or stored is None or Undones.of(rows).means(row, stored):
            return
        entry = replace(self._entry, digest=stored.digest, size=stored.size)
        rows.rewrite(row.rowid, self._premises.seal.close(entry), hints_of(entry))
        changes.changed.append(mark_of(row.name))


class Discarding(Job):
    """Removes one entry; with `if_digest`, only while that is its body's."""

    def __init__(self, premises: Premises, entry: Entry, if_digest: str | None = None) -> None:
        self._premises, self._entry, self._if_digest = premises, entry, if_digest

    def apply(self, rows: Rows, changes: Changes) -> None:
        row = rows.named(row_name(self._entry))
        if row is None:
            return
        stored = self._premises.opened(row)
        if stored is not None and Undones.of(rows).means(row, stored):
            return
        if stored is None or self._if_digest is None or stored.digest == self._if_digest:
            rows.take_out(row)
            changes.changed.append(mark_of(row.name))

    def in_need(self, rows: Rows) -> None:
        """An entry without its body is a miss, and a full disk lets files go."""
        name = row_name(self._entry)
        row = rows.named(name)
        if row is not None:
            rows.disk.remove(row.filename)
        self._premises.page.tell([mark_of(name)], changed=True)


class SweepingOut(Job):
    """Removes those of the rows at `rowids` that are no entries of ours, or whose body is not there."""

    def __init__(self, premises: Premises, rowids: Sequence[int]) -> None:
        self._premises, self._rowids = premises, rowids

    def apply(self, rows: Rows, changes: Changes) -> int:
        count = 0
        for rowid in self._rowids:
            row = rows.at(rowid)
            if row is not None and not self._is_sound(row):
                rows.take_out(row)
                changes.changed.append(mark_of(row.name))
                count += 1
        return count

    def _is_sound(self, row: Row) -> bool:
        entry = self._premises.opened(row)
        if entry is None or row.filename != body_name(row.name, entry.digest):
            return False
        with contextlib.suppress(FileNotFoundError):
            return os.stat(self._premises.bodies.folder / row.filename, follow_symlinks=False).st_size == entry.size
        return False


class Correcting(Job):
    """Sums up the bodies' sizes anew, which damage had falsified."""

    def apply(self, rows: Rows, changes: Changes) -> None:
        rows.correct_size()


class MakingRoom(Job):
    """Evicts until `need` bytes fit, as is done before every job; fails where they cannot."""

    def __init__(self, need: int) -> None:
        self.need = need

    def apply(self, rows: Rows, changes: Changes) -> None:
        """Nothing is left to do."""


class LoggingPurge(Job):
    """Writes a purge down, so that it counts for answers that any process asked for before it. The result is its number.

    With `at_once` it is in force with that for what is stored as well, and carried out later. In need, the result is 0.
    """

    def __init__(self, premises: Premises, selector: Selector, *, at_once: bool = False) -> None:
        self._premises, self._selector, self._at_once = premises, selector, at_once

    def apply(self, rows: Rows, changes: Changes) -> int:
        selector = serialization.encode_purge(self._selector)
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

"""The one thread that writes to a cache folder's database: what waits is carried out together, in one transaction (group commit).

A job has three steps: `prepare` does file work before the transaction and may fail alone; `apply` changes rows within it; `finish`
is told whether it held. Jobs are carried out in the order in which they came. What they changed is told to the shared page after the commit,
and only then do the callers hear of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.disk_rows import Rows
from passoproxy.stores.entries.lanes import resolve

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

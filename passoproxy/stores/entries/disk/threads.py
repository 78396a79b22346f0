"""Threads for blocking work, and the ways back to the loop that asked: results and events."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from passoproxy.core.events import EntriesEvicted, Event, StoreFailed, TaskFailed
from passoproxy.ports import Observer

T = TypeVar("T")


PAUSE_SECONDS = 5.0
"""How long nothing is stored after the folder could not be written."""


class Reports:
    """What happens in the threads, told to the observer in the store's loop. `loop` is None until the store is used."""

    def __init__(self, observer: Observer, monotonic: Callable[[], float]) -> None:
        self._observer, self._monotonic = observer, monotonic
        self.loop: asyncio.AbstractEventLoop | None = None
        self.evictions = 0
        self._paused_until = 0.0

    def is_paused(self) -> bool:
        """Whether writing failed a moment ago."""
        return self._monotonic() < self._paused_until

    def failed(self, detail: str, *, pause: bool) -> None:
        """Something went wrong; `pause`: nothing can be written now, which is told once."""
        if not (pause and self.is_paused()):
            self._tell(StoreFailed(detail))
        if pause:
            self._paused_until = self._monotonic() + PAUSE_SECONDS

    def at_fault(self, fault: Exception) -> None:
        """A mistake in this program; the thread lives on."""
        self._tell(TaskFailed("cache store", f"{type(fault).__name__}: {fault}"))

    def evicted(self, count: int) -> None:
        self.evictions += count
        self._tell(EntriesEvicted(count))

    def _tell(self, event: Event) -> None:
        if self.loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self._observer, event)


class Background:
    """A thread that runs `_run`, which ends soon after `_stopping` is set and waits by `_wake`; both are set at the end."""

    def __init__(self, name: str) -> None:
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask(self) -> None:
        """There is something to do."""
        self._wake.set()

    def stop(self) -> None:
        """Ends the thread, also in the midst of its work. Blocks."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        raise NotImplementedError


def resolve(future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
    """Ends `future` unless its owner was cancelled. In the loop."""
    if future.done():
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


class Lane:
    """Threads that take work in the order in which it was given. `on_leave` runs in each thread at its end."""

    def __init__(self, name: str, threads: int, on_leave: Callable[[], None]) -> None:
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._on_leave = on_leave
        self._is_stopped = False
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(threads)]
        for thread in self._threads:
            thread.start()

    def call(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """The result of `work`, which a thread carries out even if the caller is cancelled. After `refuse` it is carried out at once."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def step() -> None:
            result, error = None, None
            try:
                result = work()
            except BaseException as fault:
                error = fault
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(resolve, future, result, error)

        if self._is_stopped:
            step()
        else:
            self._work.put(step)
        return future

    def _run(self) -> None:
        while (step := self._work.get()) is not None:
            step()
            del step  # what it holds must not live until the next one comes
        self._on_leave()

    def refuse(self) -> None:
        """Takes no more work. In the loop: what is still asked for, the rest of a body, must not wait for threads that end."""
        self._is_stopped = True

    def stop(self) -> None:
        """Ends the threads after the work that was given so far. Blocks."""
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()

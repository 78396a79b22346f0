"""The keeper's inbox: work that callers place and only the keeper's task does, in order; and waits that clean up after themselves.

A caller may be cancelled at any time; the work it placed is still done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from passoproxy.errors import PairStoreOwned, PassoproxyError, TokenUnavailable
from passoproxy.ports import Clock

T = TypeVar("T")


class Inbox:
    """A queue of pieces of work, each with the future of its result."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: deque[tuple[Callable[[], Awaitable[Any]], asyncio.Future[Any]]] = deque()
        self._poke = asyncio.Event()
        self.closed = False

    async def place(self, work: Callable[[], Awaitable[T]]) -> T:
        """Has `work` done by the owner, and gives its result. Raises what it raises, TokenUnavailable when the owner has left."""
        if self.closed:
            raise _left()
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, done))
        self._poke.set()
        return await asyncio.shield(done)

    async def next(self, seconds: float) -> bool:
        """Waits for an order for at most `seconds` of the clock; whether there is one."""
        if not self._waiting and not self._poke.is_set():
            await first_of(self._poke.wait(), self._clock.sleep(seconds))
        self._poke.clear()
        return bool(self._waiting)

    async def carry_out(self) -> Exception | None:
        """Does the oldest order; an exception that is no answer for the caller is returned, to be told as an event.

        Raises PairStoreOwned if the ownership turned out to be lost.
        """
        work, done = self._waiting.popleft()
        try:
            result = await work()
        except PairStoreOwned:
            self._waiting.appendleft((work, done))  # it fails with all the others, when another process can be asked
            raise
        except PassoproxyError as fault:
            _fail(done, fault)
        except Exception as fault:
            _fail(done, PassoproxyError(f"a fault inside passoproxy ({type(fault).__name__}); the log has more"))
            return fault
        else:
            if not done.done():
                done.set_result(result)
        return None

    def close(self) -> None:
        """No order is taken any more; those that wait fail."""
        self.closed = True
        while self._waiting:
            _fail(self._waiting.popleft()[1], _left())
        self._poke.set()


async def first_of(*ways: Awaitable[object]) -> None:
    """Waits until one of `ways` has ended, and ends the others."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await ended(*tasks)


async def ended(*tasks: asyncio.Future[Any]) -> None:
    """Cancels `tasks` and waits for their end, also if the waiting task is cancelled meanwhile: a task that is cancelled twice cannot put away
    what it has open."""
    for task in tasks:
        task.cancel()
    cancelled: asyncio.CancelledError | None = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as again:
            cancelled = again
    for task in tasks:
        if not task.cancelled():
            task.exception()  # looked at, so that the loop does not complain
    if cancelled is not None:
        raise cancelled


def _fail(done: asyncio.Future[Any], fault: Exception) -> None:
    if not done.done():
        done.set_exception(fault)
        done.exception()  # looked at, so that the loop does not complain if the caller has left


def _left() -> TokenUnavailable:
    return TokenUnavailable("passoproxy is shutting down", 5)

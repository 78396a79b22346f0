"""Before the machine sleeps: a delay lock of systemd-logind is held, and given up when what had to be done is done.

Without D-Bus, logind or dbus-fast nothing is held; then the gap is noticed within a second of waking (see `clock`). How logind is spoken to
is `logind`'s business.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from passoproxy.ports import Clock

CONNECT_AGAIN = 60.0
"""Seconds between two tries to reach logind where it was there once: it may be restarted."""

MARGIN = 0.5
"""The lock is given up so many seconds before logind would take it."""


class LogindAway(Exception):
    """logind cannot be reached, or does not do what is asked."""


class Logind(Protocol):
    """The sleep of this machine, as systemd-logind tells of it. All raise LogindAway."""

    async def delay(self) -> int:
        """Takes a delay lock; its descriptor, to be closed when the machine may sleep."""
        ...

    async def longest_delay(self) -> float:
        """For how many seconds a lock delays a sleep at most."""
        ...

    def sleeps(self) -> AsyncIterator[bool]:
        """True each time the machine is about to sleep, False each time it has woken. Ends when logind is gone."""
        ...

    async def close(self) -> None: ...


class BeforeSleep:
    """Awaits `prepare` before each sleep, for as long as logind lets it. `connect` reaches logind; it raises LogindAway."""

    def __init__(
        self, connect: Callable[[], Awaitable[Logind]], prepare: Callable[[], Awaitable[object]], clock: Clock
    ) -> None:
        self._connect = connect
        self._prepare = prepare
        self._clock = clock
        self._lock = -1

    async def run(self) -> None:
        """Watches until it is cancelled; ends where logind was never there."""
        while True:
            try:
                logind = await self._connect()
            except LogindAway:
                return
            try:
                await self._watch(logind)
            except LogindAway:
                pass  # whatever it was, sleep is noticed afterwards as well
            finally:
                self._let_go()
                await logind.close()
            await self._clock.sleep(CONNECT_AGAIN)

    async def _watch(self, logind: Logind) -> None:
        sleeps = logind.sleeps()  # before the lock, so that no sleep goes by between the two
        self._lock = await logind.delay()
        async for is_going in sleeps:
            if is_going:
                await self._go(await logind.longest_delay())
            elif self._lock < 0:
                self._lock = await logind.delay()

    async def _go(self, seconds: float) -> None:
        try:
            # a task of its own: what is under way when the time is up goes on, and may still end well after waking
            work = asyncio.ensure_future(self._prepare())
            late = asyncio.ensure_future(self._clock.sleep(max(0.0, seconds - MARGIN)))
            await asyncio.wait({work, late}, return_when=asyncio.FIRST_COMPLETED)
            late.cancel()
            if work.done() and not work.cancelled():
                work.exception()  # looked at: what went wrong was told where it went wrong
        finally:
            self._let_go()

    def _let_go(self) -> None:
        lock, self._lock = self._lock, -1
        if lock >= 0:
            with contextlib.suppress(OSError):
                os.close(lock)

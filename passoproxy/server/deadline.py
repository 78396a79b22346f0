"""One deadline of one connection, cheap to move: setting it later, which every request does, touches no timer."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """Calls `on_expiry` once the time last set is up."""

    __slots__ = ("_at", "_loop", "_on_expiry", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expiry: Callable[[], None]) -> None:
        self._loop = loop
        self._on_expiry = on_expiry
        self._at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Expires `seconds` from now, whatever was set before."""
        self._at = at = self._loop.time() + seconds
        timer = self._timer
        if timer is not None:
            if timer.when() <= at:
                return
            timer.cancel()
        self._timer = self._loop.call_at(at, self._fired)

    def lift(self) -> None:
        """Does not expire until set again."""
        self._at = math.inf

    def close(self) -> None:
        """Never expires any more, and lets go of whom it would have called: the two no longer hold one another."""
        self._at = math.inf
        self._on_expiry = _nothing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fired(self) -> None:
        self._timer = None
        if self._at == math.inf:
            return
        # A timer may fire a clock tick early; what remains is waited for, and a loop that is late loses nothing.
        if self._loop.time() < self._at - 0.001:
            self._timer = self._loop.call_at(self._at, self._fired)
            return
        self._at = math.inf
        self._on_expiry()


def _nothing() -> None:
    """The connection is gone."""

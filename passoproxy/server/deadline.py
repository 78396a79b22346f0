"""How long a connection is waited for: one deadline, cheap to move (setting it later touches no timer), and the pace of a body."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Deadline:
    """Calls `on_expiry` once the time last set is up."""

    __slots__ = ("_at", "_loop", "_on_expiry", "_timer", "set_at")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expiry: Callable[[], None]) -> None:
        self._loop = loop
        self._on_expiry = on_expiry
        self._at = math.inf
        self.set_at = loop.time()
        """When it was last set, by the loop's time; when it was made where it never was."""
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float) -> None:
        """Expires `seconds` from now, whatever was set before."""
        self.set_at = self._loop.time()
        self._at = at = self.set_at + seconds
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


class Pace:
    """How long the next bytes of a body may be waited for: `silence` seconds at most, and so that `min_rate` bytes a second come once
    `grace` seconds were waited (0: no such rate). Time in which nobody waits does not count.
    """

    __slots__ = ("_arrived", "_grace", "_min_rate", "_silence", "_waited")

    def __init__(self, min_rate: int, silence: float, grace: float) -> None:
        self._min_rate, self._silence, self._grace = min_rate, silence, grace
        self._arrived = 0
        self._waited = 0.0

    def note(self, count: int, waited: float) -> None:
        """`count` bytes arrived, for which `waited` seconds were waited."""
        self._arrived += count
        self._waited += waited

    @property
    def patience(self) -> float:
        """Seconds that are left for the next bytes."""
        if not self._min_rate:
            return self._silence
        left = max(self._grace, self._arrived / self._min_rate) - self._waited
        # What came fast earns a pause, and not an hour of single bytes.
        self._waited += max(0.0, left - max(self._grace, self._silence))
        return min(left, self._silence)


def _nothing() -> None:
    """The connection is gone."""

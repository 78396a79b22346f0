"""The machine's clocks: wall time, and time that never steps and counts suspend."""

from __future__ import annotations

import asyncio
import time

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux: counts suspend. macOS: CLOCK_MONOTONIC does so there."""

LONGEST_NAP = 1.0
"""The event loop's own timers stand still while the machine is suspended: a long sleep looks at the clock this often, in seconds."""


class SystemClock:
    """The Clock of a running daemon."""

    wall = staticmethod(time.time)

    def monotonic(self) -> float:
        return time.clock_gettime(_STEADY)

    async def sleep(self, seconds: float) -> None:
        """Ends about a second after waking if the machine was suspended beyond its end."""
        end, loop = self.monotonic() + seconds, asyncio.get_running_loop()
        while (left := end - self.monotonic()) > 0:
            nap = (
                LONGEST_NAP - loop.time() % LONGEST_NAP
            )  # all long sleeps look at once, so that an idle process wakes seldom
            await asyncio.sleep(min(left, nap if nap > 0.01 else nap + LONGEST_NAP))
        await asyncio.sleep(0)

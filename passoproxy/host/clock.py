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
        """Ends within a second of waking if the machine was suspended beyond its end."""
        end = self.monotonic() + seconds
        while (left := end - self.monotonic()) > 0:  # noqa: ASYNC110 - no event tells of time that passed in suspend
            await asyncio.sleep(min(left, LONGEST_NAP))
        await asyncio.sleep(0)

"""Collecting garbage by our own timetable: in small steps while requests are answered, and wholly once an hour, when it is quiet.

The interpreter's full collections look at every object there is, among them all that a memory full of entries consists of: a tenth of a
second without an answer, for hardly any garbage (docs/decisions/0014-garbage.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Callable, Mapping

from passoproxy.ports import Clock

MUCH = 2
"""After so many collections of the middle generation what survived them is looked at, and then set aside: some 14,000 objects."""

WHOLE_EVERY = 3600.0
"""Seconds after which everything is looked at, as soon as no request is under way; after twice as long in any case."""

LOOK_EVERY = 10.0
"""Seconds between two looks whether it is time for that."""

_USUAL = (700, 10)
"""The interpreter's own thresholds of the two younger generations. At a start they are off (see `passoproxy.cli`)."""

_OFF = 1_000_000
"""Times that the middle generation is collected before the interpreter would collect everything by itself."""


@contextlib.asynccontextmanager
async def collected(clock: Clock, is_quiet: Callable[[], bool]) -> AsyncIterator[None]:
    """For this process, as long as the context lasts: what lives already is never looked at again but in the hourly pass.

    `is_quiet` tells whether no request is under way.
    """
    before = gc.get_threshold()
    collecting = Collecting(clock, is_quiet)
    _set_aside()
    gc.set_threshold(*_USUAL, _OFF)
    gc.callbacks.append(collecting.heed)
    task = asyncio.create_task(collecting.run(), name="garbage")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        gc.callbacks.remove(collecting.heed)
        gc.set_threshold(*before)
        gc.unfreeze()


class Collecting:
    """`heed` is for `gc.callbacks`: it has the loop, in which this was made, set aside what is new. `run` collects everything when it is time."""

    def __init__(self, clock: Clock, is_quiet: Callable[[], bool]) -> None:
        self._clock, self._is_quiet = clock, is_quiet
        self._loop = asyncio.get_running_loop()
        self._whole_at = clock.monotonic()
        self._survived = 0

    def heed(self, phase: str, info: Mapping[str, int]) -> None:
        """In whichever thread the interpreter collects."""
        if phase == "stop" and info["generation"] == 1:
            self._survived += 1
            if self._survived == MUCH:
                with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                    self._loop.call_soon_threadsafe(self._step)

    def _step(self) -> None:
        self._survived = 0
        _set_aside()

    async def run(self) -> None:
        """Looks again and again whether it is time to collect everything."""
        while True:
            await self._clock.sleep(LOOK_EVERY)
            self.look()

    def look(self) -> None:
        """Collects everything if it is time."""
        since = self._clock.monotonic() - self._whole_at
        if since >= 2 * WHOLE_EVERY or (since >= WHOLE_EVERY and self._is_quiet()):
            self._whole_at = self._clock.monotonic()
            gc.unfreeze()
            _set_aside()


def _set_aside() -> None:
    """Collects all that is not set aside, and sets aside what is left. What nothing refers to any more goes at once, set aside or not."""
    gc.collect()
    gc.freeze()

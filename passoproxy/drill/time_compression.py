"""Time that runs faster: a clock and an event loop in which an hour passes in a minute, the same for every process of a rehearsal."""

from __future__ import annotations

import asyncio
import mmap
import selectors
import struct
import time
from pathlib import Path

from passoproxy.values import dataclass

_SECONDS = struct.Struct("d")


@dataclass(frozen=True, slots=True)
class Pace:
    """`speed` seconds pass in one. `begun_at` is the machine's steady clock at the start, `wall` epoch seconds then."""

    speed: float
    begun_at: float
    wall: float

    @classmethod
    def from_now(cls, speed: float) -> Pace:
        return cls(speed, time.monotonic(), time.time())

    def now(self) -> float:
        """Epoch seconds of the rehearsal."""
        return self.wall + (time.monotonic() - self.begun_at) * self.speed

    def real(self, seconds: float) -> float:
        """How long `seconds` of the rehearsal take."""
        return seconds / self.speed

    async def sleep(self, seconds: float) -> None:
        """Sleeps for `seconds` of the rehearsal in a loop of ordinary time."""
        await asyncio.sleep(self.real(seconds))


class SharedSeconds:
    """A number of seconds in a file: written by one process, read by another. 0 in a new one."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(_SECONDS.pack(0.0))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), _SECONDS.size)

    @property
    def seconds(self) -> float:
        return float(_SECONDS.unpack(self._shared[:])[0])

    def add(self, seconds: float) -> None:
        self._shared[:] = _SECONDS.pack(self.seconds + seconds)

    def raise_to(self, seconds: float) -> None:
        """Leaves the larger of the two."""
        if seconds > self.seconds:
            self._shared[:] = _SECONDS.pack(seconds)

    def close(self) -> None:
        self._shared.close()


class CompressedClock:
    """The Clock of a rehearsed daemon, whose wall clock is wrong by `steps`; its tasks run in a CompressedLoop."""

    def __init__(self, pace: Pace, steps: SharedSeconds) -> None:
        self._pace = pace
        self._steps = steps

    def wall(self) -> float:
        return self._pace.now() + self._steps.seconds

    def monotonic(self) -> float:
        return self._pace.begun_at + (time.monotonic() - self._pace.begun_at) * self._pace.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


class CompressedLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers run `speed` times as fast, those of libraries included."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        super().__init__(_HastySelector(speed))

    def time(self) -> float:
        return super().time() * self._speed


class _HastySelector(selectors.DefaultSelector):
    def __init__(self, speed: float) -> None:
        super().__init__()
        self._speed = speed

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return super().select(timeout / self._speed if timeout is not None and timeout > 0 else timeout)

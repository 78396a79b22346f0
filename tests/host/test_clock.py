"""The machine's clocks."""

from __future__ import annotations

import asyncio
import time

from passoproxy.host.clock import SystemClock


async def test_clocks_run_and_sleeping_takes_its_time():
    clock = SystemClock()
    assert abs(clock.wall() - time.time()) < 1
    begun = clock.monotonic()
    await clock.sleep(0.02)
    assert clock.monotonic() - begun >= 0.02
    await clock.sleep(0)
    await clock.sleep(-1)


async def test_a_sleep_ends_within_a_second_of_a_suspend(monkeypatch):
    """The loop's timers stand still in a suspend; the clock does not."""
    clock, now, naps = SystemClock(), [100.0], []

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        now[0] += 3600 if len(naps) == 2 else seconds  # suspended during the second nap

    monkeypatch.setattr(clock, "monotonic", lambda: now[0], raising=False)
    monkeypatch.setattr(asyncio, "sleep", nap)
    await clock.sleep(500)
    assert naps == [1.0, 1.0, 0]

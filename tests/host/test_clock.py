"""The machine's clocks."""

from __future__ import annotations

import asyncio
import contextlib
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
    first, second, last = naps
    assert 0 < first <= 1.01
    assert 0 < second <= 1.01
    assert last == 0


async def test_long_sleeps_look_at_the_clock_together(monkeypatch):
    """So that an idle daemon wakes seldom, however many tasks sleep in it."""
    loop, sleep, naps = asyncio.get_running_loop(), asyncio.sleep, []

    async def nap(seconds: float) -> None:
        naps.append(seconds)
        await sleep(0)
        raise asyncio.CancelledError

    monkeypatch.setattr(asyncio, "sleep", nap)
    for seconds in (5, 9, 300):
        before = loop.time()
        with contextlib.suppress(asyncio.CancelledError):
            await SystemClock().sleep(seconds)
        at = round(loop.time() + naps[-1])  # a whole second of the loop's time
        assert before + naps[-1] - 0.001 <= at <= loop.time() + naps[-1] + 0.001

"""Time that runs faster, and that several processes share."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from passoproxy.drill.time_compression import CompressedClock, CompressedLoop, Pace, SharedSeconds


def test_an_hour_passes_in_well_under_a_second_for_timers_and_limits(tmp_path: Path) -> None:
    pace = Pace.from_now(10_000.0)
    steps = SharedSeconds(tmp_path / "steps")
    clock = CompressedClock(pace, steps)

    async def waits() -> float:
        began, limited = clock.monotonic(), False
        await clock.sleep(1800)
        try:
            async with asyncio.timeout(1800):
                await asyncio.Event().wait()
        except TimeoutError:
            limited = True
        assert limited
        return clock.monotonic() - began

    began = time.monotonic()
    with asyncio.Runner(loop_factory=lambda: CompressedLoop(pace.speed)) as runner:
        passed = runner.run(waits())
    assert passed >= 3600
    assert time.monotonic() - began < 60
    steps.close()


def test_the_wall_clock_is_shared_and_steps_for_all(tmp_path: Path) -> None:
    pace = Pace.from_now(60.0)
    ours, theirs = SharedSeconds(tmp_path / "steps"), SharedSeconds(tmp_path / "steps")
    clock = CompressedClock(pace, theirs)
    before, shown, after = pace.now(), clock.wall(), pace.now()
    assert before - 1 < shown < after + 1
    ours.add(86400.0)
    ours.add(-400.0)
    assert theirs.seconds == 86000.0
    before, shown, after = pace.now(), clock.wall(), pace.now()
    assert before - 1 < shown - 86000 < after + 1
    assert pace.real(120.0) == 2.0
    for each in (ours, theirs):
        each.close()


async def test_sleep_of_the_pace_in_an_ordinary_loop() -> None:
    pace = Pace.from_now(1000.0)
    before = pace.now()
    await pace.sleep(10)
    assert pace.now() - before >= 10

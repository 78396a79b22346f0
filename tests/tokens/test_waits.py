"""Waits put away what they began."""

from __future__ import annotations

import asyncio

import pytest

from passoproxy.tokens.waits import first_of
from tests.fakes import FakeClock, settle


async def test_the_first_way_ends_the_others():
    clock = FakeClock()
    await first_of(clock.sleep(0), clock.sleep(100))
    await settle()
    assert clock.next_wake is None


async def test_whoever_is_ended_may_put_away_what_it_has_open_however_often_the_end_is_told():
    """A close that is cut off by a second cancellation leaves its connection open."""
    began, may_close, closed = asyncio.Event(), asyncio.Event(), []

    async def with_something_open() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await may_close.wait()
            closed.append(True)

    async def fails() -> None:
        raise ValueError("nobody asks for it")

    waiting = asyncio.create_task(first_of(with_something_open(), may_close.wait(), fails()))
    await began.wait()
    for _ in range(3):
        waiting.cancel()
        await settle()
    assert not waiting.done()
    may_close.set()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert closed == [True]

"""The inbox: work is done once, in order, whoever leaves; faults go to whoever asked."""

from __future__ import annotations

import asyncio

import pytest

from passoproxy.errors import CommandFailure, PassoproxyError, TokenUnavailable
from passoproxy.tokens.inbox import Inbox, first_of
from tests.fakes import FakeClock, settle


async def test_work_is_done_in_order_and_answered():
    orders, done = Inbox(FakeClock()), []

    async def work(name: str) -> str:
        done.append(name)
        return name

    asked = [asyncio.create_task(orders.place(lambda name=name: work(name))) for name in "abc"]
    await settle()
    while await orders.next(0):
        assert await orders.carry_out() is None
    assert (done, await asyncio.gather(*asked)) == (["a", "b", "c"], ["a", "b", "c"])


@pytest.mark.parametrize("fault", [None, CommandFailure("no"), ValueError("secret")])
async def test_whoever_left_gets_no_answer_and_the_work_is_done_all_the_same(fault):
    orders, done = Inbox(FakeClock()), []

    async def work() -> None:
        done.append(1)
        if fault:
            raise fault

    waiting: list[asyncio.Future[object]] = []
    asked = asyncio.create_task(orders.place(work))
    await settle()
    waiting.append(orders._waiting[0][1])
    asked.cancel()
    await settle()
    waiting[0].cancel()
    assert (await orders.carry_out()) is (fault if isinstance(fault, ValueError) else None)
    assert done == [1]


async def test_a_fault_inside_is_answered_without_its_words():
    orders = Inbox(FakeClock())

    async def work() -> None:
        raise ValueError("secret")

    asked = asyncio.create_task(orders.place(work))
    await settle()
    assert isinstance(await orders.carry_out(), ValueError)
    with pytest.raises(PassoproxyError, match="ValueError") as told:
        await asked
    assert "secret" not in str(told.value)


async def test_waiting_ends_by_time_and_by_closing():
    clock = FakeClock()
    orders = Inbox(clock)
    waiting = asyncio.create_task(orders.next(5))
    await clock.advance(5)
    assert await waiting is False
    waiting = asyncio.create_task(orders.next(5))
    await settle()
    orders.close()
    assert await waiting is False


async def test_a_closed_inbox_takes_nothing():
    orders = Inbox(FakeClock())
    orders.close()
    with pytest.raises(TokenUnavailable):
        await orders.place(asyncio.sleep)


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

"""Before the machine sleeps: the lock is held while it is awake, and given up when the work is done or the time is up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from passoproxy.host.logind import CONNECT_AGAIN, BeforeSleep, LogindAway
from tests.fakes import FakeClock, settle


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


class FakeLogind:
    def __init__(self, longest: float = 5.0) -> None:
        self.longest = longest
        self.locks: list[int] = []
        self.news: asyncio.Queue[bool | None] = asyncio.Queue()
        self.refuses = False
        self.closed = False

    async def delay(self) -> int:
        if self.refuses:
            raise LogindAway("Inhibit was refused")
        self.locks.append(os.open(os.devnull, os.O_RDONLY))
        return self.locks[-1]

    async def longest_delay(self) -> float:
        return self.longest

    async def sleeps(self) -> AsyncIterator[bool]:
        while (told := await self.news.get()) is not None:
            yield told

    async def close(self) -> None:
        self.closed = True


class Stand:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.logind = FakeLogind()
        self.connected = 0
        self.away = False
        self.prepared = 0
        self.may_end = asyncio.Event()
        self.fault: Exception | None = None

    async def connect(self) -> FakeLogind:
        if self.away:
            raise LogindAway("no bus")
        self.connected += 1
        return self.logind

    async def prepare(self) -> None:
        self.prepared += 1
        await self.may_end.wait()
        if self.fault is not None:
            raise self.fault

    async def tell(self, *news: bool | None) -> None:
        for each in news:
            self.logind.news.put_nowait(each)
        await settle(50)


@pytest.fixture
async def stand():
    stand = Stand()
    task = asyncio.create_task(BeforeSleep(stand.connect, stand.prepare, stand.clock).run())
    stand.task = task
    await settle()
    yield stand
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert not any(is_open(lock) for lock in stand.logind.locks)


async def test_the_lock_is_held_until_the_work_is_done_and_taken_again_after_waking(stand):
    (lock,) = stand.logind.locks
    assert is_open(lock)
    await stand.tell(True)
    assert (stand.prepared, is_open(lock)) == (1, True)
    stand.may_end.set()
    await settle()
    assert not is_open(lock)
    await stand.tell(False)
    assert len(stand.logind.locks) == 2
    assert is_open(stand.logind.locks[-1])
    await stand.tell(False)
    assert len(stand.logind.locks) == 2


async def test_work_that_takes_too_long_delays_no_sleep_and_goes_on(stand):
    (lock,) = stand.logind.locks
    await stand.tell(True)
    await stand.clock.advance(4.4)
    assert is_open(lock)
    await stand.clock.advance(0.2)
    assert not is_open(lock)
    stand.may_end.set()
    await settle()
    await stand.tell(False, True)
    assert stand.prepared == 2


async def test_work_that_fails_gives_the_lock_up(stand):
    stand.fault = RuntimeError("x")
    stand.may_end.set()
    (lock,) = stand.logind.locks
    await stand.tell(True)
    assert not is_open(lock)
    await stand.tell(False)
    assert is_open(stand.logind.locks[-1])


async def test_logind_that_goes_is_reached_again(stand):
    (lock,) = stand.logind.locks
    await stand.tell(None)
    assert (stand.logind.closed, is_open(lock)) == (True, False)
    await stand.clock.advance(CONNECT_AGAIN)
    assert stand.connected == 2
    stand.logind.refuses = True
    await stand.tell(None)
    await stand.clock.advance(CONNECT_AGAIN)
    assert stand.connected == 3
    assert not stand.task.done()


async def test_where_there_is_no_logind_nothing_is_watched():
    stand = Stand()
    stand.away = True
    await BeforeSleep(stand.connect, stand.prepare, stand.clock).run()
    assert stand.prepared == 0


async def test_a_lock_that_somebody_closed_is_no_fault(stand):
    (lock,) = stand.logind.locks
    os.close(lock)
    stand.may_end.set()
    await stand.tell(True, False)
    assert len(stand.logind.locks) == 2

"""The one writer: jobs in order, together, and nothing stops it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.disk.writer import MOST_TOGETHER, Asked, Job, Outcome, Scribe


class Numbered(Job):
    def __init__(self, number: int) -> None:
        self.number = number


class Stand:
    """Carries out by remembering; raises what it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.faults: list[str] = []
        self.free = threading.Event()
        self.raises: Exception | None = None
        self.scribe = Scribe(self.carry_out, self.tick, self.tick, self.faults.append)

    def carry_out(self, asked: Sequence[Asked]) -> list[Outcome]:
        assert self.free.wait(10)
        self.batches.append([each.job.number for each in asked])  # type: ignore[attr-defined]
        if self.raises:
            raise self.raises
        return [Outcome(each, result=each.job.number) for each in asked]  # type: ignore[attr-defined]

    def tick(self) -> None:
        if self.raises:
            raise self.raises


async def test_what_waits_is_done_together_and_in_order() -> None:
    stand = Stand()
    futures = [stand.scribe.submit(Numbered(n)) for n in range(200)]
    stand.scribe.give(Numbered(200))
    left = stand.scribe.submit(Numbered(201))
    left.cancel()
    stand.free.set()
    assert await asyncio.gather(*futures) == list(range(200))
    await asyncio.to_thread(stand.scribe.stop)
    assert [n for batch in stand.batches for n in batch] == list(range(202))
    assert max(map(len, stand.batches)) == MOST_TOGETHER


async def test_a_fault_fails_its_batch_and_the_thread_lives_on() -> None:
    stand = Stand()
    stand.free.set()
    stand.raises = RuntimeError("a bug")
    with pytest.raises(EntryStoreFailure):
        await stand.scribe.submit(Numbered(1))
    stand.raises = None
    assert await stand.scribe.submit(Numbered(2)) == 2
    await asyncio.to_thread(stand.scribe.stop)
    assert "RuntimeError: a bug" in stand.faults


def test_a_job_that_can_do_nothing_in_need_says_so() -> None:
    job = Job()
    job.prepare()
    job.finish(held=True)
    with pytest.raises(EntryStoreFailure):
        job.in_need(None)  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError):
        job.apply(None, None)  # type: ignore[arg-type]

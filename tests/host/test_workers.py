"""The supervisor with real processes: started, told, replaced, ended; and what happens when they die at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from passoproxy.core.events import Warned
from passoproxy.errors import CommandFailure
from passoproxy.host import workers as module
from passoproxy.host.clock import SystemClock
from passoproxy.host.workers import Document, Supervisor, Worker
from tests.fakes import RememberingObserver


class Stand:
    """A supervisor of tiny workers, and all that they said."""

    def __init__(self, count: int = 2, **greeting: Any) -> None:
        self.greeting, self.heard, self.lost = greeting, list[tuple[int, Document]](), list[int]()
        self.observer = RememberingObserver()
        self.read, self.write = os.pipe()
        self.supervisor = Supervisor(
            count,
            "tests.host.tiny_worker",
            passed=lambda place: [self.read],
            greet=lambda place: {"passed": [self.read], **self.greeting},
            hear=lambda worker, document: self.heard.append((worker.place, document)),
            lost=lambda worker: self.lost.append(worker.place),
            clock=SystemClock(),
            observer=self.observer,
        )

    def said(self, kind: str) -> list[Document]:
        return [document for _, document in self.heard if document["kind"] == kind]

    def worker(self, place: int) -> Worker:
        return next(each for each in self.supervisor if each.place == place)


@contextlib.asynccontextmanager
async def standing(count: int = 2, **greeting: Any) -> AsyncIterator[Stand]:
    stand = Stand(count, **greeting)
    try:
        await stand.supervisor.start()
        yield stand
    finally:
        await stand.supervisor.drain(5)
        os.close(stand.read)
        os.close(stand.write)
        assert not list(stand.supervisor)


async def until(condition: Any, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


async def test_all_are_ready_told_and_ended_in_order() -> None:
    async with standing(2, word="good morning") as it:
        ready = it.said("ready")
        assert {each["begin"]["place"] for each in ready} == {0, 1}
        assert all(each["begin"]["word"] == "good morning" for each in ready)
        assert all(each["begin"]["supervisor"] == os.getpid() for each in ready)
        assert all(each["open"] == [os.fstat(it.read).st_ino] for each in ready)
        it.supervisor.tell("echo", word="hello")
        await until(lambda: len(it.said("echo")) == 2)
        pids = [each.pid for each in it.supervisor]
    assert it.lost == [0, 1] or it.lost == [1, 0]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert it.observer.of(Warned) == []
    assert it.supervisor.replaced == 0


async def test_one_that_is_killed_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUICK", 0.0)
    async with standing(2) as it:
        before = it.worker(0).pid
        it.worker(0).channel.tell("crash")
        await until(lambda: len(it.said("ready")) == 3)
        assert it.worker(0).pid != before
        assert it.lost == [0]
        assert it.supervisor.replaced == 1
        (told,) = it.observer.of(Warned)
        assert told.code == "worker_replaced"  # type: ignore[attr-defined]
        assert "worker 0 was killed by SIGKILL" in told.detail  # type: ignore[attr-defined]
        assert not it.supervisor.doomed.is_set()


async def test_one_that_says_nothing_more_and_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KILL_AFTER", 0.1)
    async with standing(1) as it:
        it.worker(0).channel.tell("mute")
        await until(lambda: len(it.said("ready")) == 2)


async def test_those_that_do_not_end_are_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KILL_AFTER", 0.1)
    async with standing(1, stubborn=True) as it:
        pid = it.worker(0).pid
        await it.supervisor.drain(0.1)
        assert not Path(f"/proc/{pid}").exists()


async def test_a_crash_loop_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(module, "QUICK", 60.0)
    async with standing(1) as it:
        async with asyncio.timeout(60):
            while not it.supervisor.doomed.is_set():
                it.supervisor.tell("crash")
                await asyncio.sleep(0.05)
        assert "5 workers in a row" in it.supervisor.reason
        assert "was killed by SIGKILL" in it.supervisor.reason
        await until(lambda: not list(it.supervisor))  # none is started any more


async def test_workers_that_cannot_begin_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with pytest.raises(CommandFailure, match=r"exit code 3; there is no bread\).*server\.workers"):
        async with standing(1, fails=True):
            pass


async def test_workers_that_are_never_ready_end_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_PATIENCE", 0.01)
    with pytest.raises(CommandFailure, match="not ready within"):
        async with standing(1):
            pass


async def test_a_machine_that_starts_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setattr(module.sys, "executable", "/nonexistent/python")
    with pytest.raises(CommandFailure, match="cannot be started"):
        async with standing(1):
            pass


async def test_a_worker_ends_with_its_supervisor() -> None:
    async with standing(1) as it:
        worker = it.worker(0)
        worker.channel.close()  # as the kernel does it for a process that is gone
        await until(lambda: it.lost == [0])
        assert worker.process.returncode in (0, -signal.SIGKILL)

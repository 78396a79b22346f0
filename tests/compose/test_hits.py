"""What a hit from memory costs in the daemon as it is composed: how many functions it passes, and that it waits for nothing."""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType

import pytest

import passoproxy
from passoproxy.core.cache.entry import Entry, Selector
from tests.scripted_origin import Asked, Says, scene
from tests.server.raw import Client

ROOT = str(Path(passoproxy.__file__).parent)
ROUTES = [{"name": "kept", "match": "/kept", "ttl": "1h", "override": True}]
REQUEST = b"GET /kept HTTP/1.1\r\nHost: localhost\r\nUser-Agent: test\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n\r\n"
MOST_FRAMES, MOST_FILES = 38, 18
MOST_FRAMES_KNOWN, MOST_FILES_KNOWN = 16, 9


def passed(work: Callable[[], None]) -> list[CodeType]:
    """The code of every frame of the package that `work` enters."""
    entered: list[CodeType] = []

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(ROOT):
            entered.append(frame.f_code)

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return entered


@pytest.mark.parametrize("is_known", [False, True], ids=["new-head", "known-head"])
async def test_a_hit_passes_few_frames_and_makes_no_coroutine_and_no_task(tmp_path: Path, is_known: bool) -> None:
    def answer(asked: Asked) -> Says:
        return Says(fields=[("Content-Type", "application/json")], body=b'{"a": 1}')

    async with scene(tmp_path, answer, routes=ROUTES, log={"access": True}) as it:
        client = Client(*await asyncio.open_connection("127.0.0.1", it.daemon.wired.control.facts.ports[0]))
        for _ in range(4):
            await client.send(REQUEST)
            first = await client.one()
        await asyncio.sleep(0.1)  # what is written behind is written
        (connection,) = it.daemon.wired.connections
        tasks = asyncio.all_tasks()
        # The fewest of three: once a second the date and the time that is left are written anew.
        if not is_known:
            connection._memo = None  # type: ignore[attr-defined]
        each = [passed(lambda: connection.data_received(REQUEST)) for _ in range(3)]  # type: ignore[attr-defined]
        entered = min(each, key=len)
        assert asyncio.all_tasks() == tasks
        again = [await client.one() for _ in range(3)][-1]
        client.leave()
    assert (again.status, again.body) == (first.status, first.body) == (200, b'{"a": 1}')
    assert again["Cache-Status"].startswith("passoproxy; hit; ttl=")
    names = [f"{code.co_filename.removeprefix(ROOT)} {code.co_qualname}" for code in entered]
    assert not [name for name, code in zip(names, entered, strict=True) if code.co_flags & inspect.CO_COROUTINE], names
    assert len(names) <= (MOST_FRAMES_KNOWN if is_known else MOST_FRAMES), names
    assert len({code.co_filename for code in entered}) <= (MOST_FILES_KNOWN if is_known else MOST_FILES), names
    assert len(names) > (5 if is_known else 20), "nothing was counted"


async def test_without_memory_few_entries_are_held_and_answers_from_disk_end_with_a_purge(tmp_path: Path) -> None:
    def answer(asked: Asked) -> Says:
        return Says(fields=[("Content-Type", "application/json")], body=b'{"a": 1}')

    routes = [{"name": "kept", "match": "/kept/**", "ttl": "1h", "override": True}]
    async with scene(tmp_path, answer, routes=routes, cache={"memory_size": 0}) as it:
        client = Client(*await asyncio.open_connection("127.0.0.1", it.daemon.wired.control.facts.ports[0]))
        requests = [REQUEST.replace(b"/kept", b"/kept/%d" % number) for number in range(100)]
        for request in requests:
            await client.send(request)
            await client.one()
        (connection,) = it.daemon.wired.connections
        memo = connection._memo  # type: ignore[attr-defined]
        async with asyncio.timeout(20):
            while (found := memo.find(requests[0], "http")) is None:
                it.daemon.wired.store._slow._asks_again_at = 0.0  # type: ignore[attr-defined] # a busy disk is left to threads
                await client.send(requests[0])
                again = await client.one()
        assert again["Cache-Status"].startswith("passoproxy; hit")
        assert found.body == again.body == b'{"a": 1}'
        await it.daemon.wired.store.purge(Selector(target="/kept/0"))
        assert memo.find(requests[0], "http") is None
        client.leave()
        gc.collect()
        assert sum(type(each) is Entry for each in gc.get_objects()) < 80

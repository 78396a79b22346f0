"""The channel: one JSON object a line, there and back, and how each side learns that the other is gone."""

from __future__ import annotations

import asyncio
import socket

from passoproxy.host import workers as module
from passoproxy.host.workers import Channel


async def ends() -> tuple[Channel, Channel]:
    one, other = socket.socketpair()
    return await Channel.over(one), await Channel.over(other)


async def test_what_is_told_is_heard() -> None:
    one, other = await ends()
    one.tell("word", text="line\nbreak, \u00fc and \udc80", number=1)
    one.tell("long", text="x" * 1_000_000)
    assert await other.hear() == {"kind": "word", "text": "line\nbreak, \u00fc and \udc80", "number": 1}
    assert len((await other.hear() or {})["text"]) == 1_000_000
    one.close()
    await one.closed()
    assert await other.hear() is None
    one.tell("late")  # nobody hears it, and nothing is raised
    other.tell("late")
    other.close()
    await other.closed()


async def test_what_is_none_ends_it() -> None:
    for said in (b"{}", b"[1]\n", b"nonsense\n", b"\xff\n"):
        one, two = socket.socketpair()
        heard = await Channel.over(one)
        with two:
            two.sendall(said)
        assert await heard.hear() is None
        heard.close()
        await heard.closed()


async def test_a_line_that_never_ends_ends_it(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module, "LONGEST", 1024)
    one, two = socket.socketpair()
    heard = await Channel.over(one)
    with two:
        await asyncio.to_thread(two.sendall, b"x" * 5000)
        assert await heard.hear() is None
    heard.close()


async def test_one_that_reads_nothing_is_known() -> None:
    one, other = await ends()
    assert not one.is_clogged
    for _ in range(40):
        one.tell("long", text="x" * 100_000)
    assert one.is_clogged
    for _ in range(40):
        await other.hear()
    await asyncio.sleep(0)
    one.close()
    other.close()
    await one.closed()
    await other.closed()

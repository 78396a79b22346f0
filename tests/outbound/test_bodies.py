"""A body between the connection that feeds it and the reader."""

from __future__ import annotations

import asyncio

import pytest

from passoproxy.errors import BodyBroken
from passoproxy.outbound.connection import AnswerBody


class Feeder:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def wanted(self, body: AnswerBody) -> None:
        self.calls.append("wanted")

    def abandoned(self, body: AnswerBody) -> None:
        self.calls.append("abandoned")


def new(length: int | None = None) -> tuple[AnswerBody, Feeder]:
    feeder = Feeder()
    return AnswerBody(feeder, asyncio.get_running_loop(), length), feeder


async def test_pieces_that_wait_are_given_together() -> None:
    body, feeder = new()
    for piece in (b"a", b"", b"b", b"c"):
        body.feed(piece)
    assert body.held == 3
    assert await anext(body) == b"abc"
    assert (body.held, feeder.calls) == (0, ["wanted"])


async def test_a_reader_that_waits_is_woken() -> None:
    body, _ = new()
    reading = asyncio.ensure_future(anext(body))
    await asyncio.sleep(0)
    body.feed(b"x")
    assert await reading == b"x"
    ending = asyncio.ensure_future(anext(body, None))
    await asyncio.sleep(0)
    body.end()
    body.end(BodyBroken("too late"))
    assert await ending is None


async def test_a_fault_comes_after_what_was_held() -> None:
    body, _ = new()
    body.feed(b"x")
    body.end(BodyBroken("broke"))
    body.feed(b"ignored")
    assert body.whole() is None
    assert await anext(body) == b"x"
    for _ in range(2):
        with pytest.raises(BodyBroken):
            await anext(body)


async def test_whole_only_once_it_is_there() -> None:
    body, _ = new()
    body.feed(b"x")
    assert body.whole() is None
    body.end()
    whole = body.whole()
    assert whole is not None
    assert whole.data == b"x"
    empty, _ = new()
    empty.end()
    assert empty.whole() is not None


async def test_thousands_of_tiny_pieces_are_joined() -> None:
    body, _ = new()
    for _ in range(10_000):
        body.feed(b"x")
    assert len(body._parts) <= 64
    assert await anext(body) == b"x" * 10_000


async def test_closing_tells_the_feeder_once_and_wakes_the_reader() -> None:
    body, feeder = new()
    reading = asyncio.ensure_future(anext(body, None))
    await asyncio.sleep(0)
    await body.aclose()
    await body.aclose()
    assert await reading is None
    assert feeder.calls == ["abandoned"]


async def test_a_cancelled_reader_may_read_on() -> None:
    body, _ = new()
    reading = asyncio.ensure_future(anext(body))
    await asyncio.sleep(0)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    body.feed(b"x")
    assert await anext(body) == b"x"

"""The last moment before a token request leaves: the connection stands, and not a byte is written."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from passoproxy.errors import TokenRequestUnsent
from passoproxy.outbound.token_endpoint import ProviderEndpoint
from passoproxy.ports import TokenReply, TokenRequest
from tests.fakes import FakeClock
from tests.outbound.wire import AMPLE, SHORT, Line, answering, direct, origin_that


async def posted(port: int, about_to_send: Callable[[], Awaitable[bool]], timeout: float = 10.0) -> TokenReply:
    request = TokenRequest(f"http://127.0.0.1:{port}/oauth/token", (), b"secret", about_to_send)
    return await ProviderEndpoint(FakeClock(), direct).post(request, timeout)


async def test_a_request_that_must_not_leave_after_all_is_unsent() -> None:
    asked = []

    async def about_to_send() -> bool:
        asked.append(there.accepted)
        return False

    async with origin_that(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as there:
        with pytest.raises(TokenRequestUnsent, match="nothing was sent"):
            await posted(there.port, about_to_send)
    assert (len(asked), [part for part in there.heard if part]) == (1, [])


async def test_a_connection_that_ends_meanwhile_has_carried_nothing() -> None:
    ended = asyncio.Event()

    async def play(line: Line) -> None:
        line.writer.close()
        await line.writer.wait_closed()
        ended.set()

    async def about_to_send() -> bool:
        await ended.wait()
        await asyncio.sleep(SHORT)  # until it is noticed here
        return True

    async with origin_that(play) as there:
        with pytest.raises(TokenRequestUnsent, match=r"nothing was sent, because \S+ ended the connection"):
            await posted(there.port, about_to_send)
    assert there.heard == []


async def test_what_is_recorded_meanwhile_is_recorded_before_the_time_is_over() -> None:
    done = []

    async def about_to_send() -> bool:
        await asyncio.sleep(AMPLE)
        done.append(1)
        return True

    async with origin_that(lambda line: line.end()) as there:
        with pytest.raises(TokenRequestUnsent):
            await posted(there.port, about_to_send, SHORT)
        assert done
    assert there.heard == []

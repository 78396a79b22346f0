"""A token request that must not leave after all: the connection stands, and not a byte is written."""

from __future__ import annotations

import pytest

from passoproxy.errors import TokenRequestUnsent
from passoproxy.outbound.provider import ProviderEndpoint
from passoproxy.ports import TokenRequest
from tests.fakes import FakeClock
from tests.outbound.wire import answering, origin_that


async def test_it_is_unsent() -> None:
    asked = []

    def may_send() -> bool:
        asked.append(1)
        return False

    async with origin_that(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")) as there:
        request = TokenRequest(f"http://127.0.0.1:{there.port}/oauth/token", (), b"secret", may_send)
        with pytest.raises(TokenRequestUnsent, match="nothing was sent"):
            await ProviderEndpoint(clock=FakeClock()).post(request, 5.0)
    assert (asked, [part for part in there.heard if part]) == ([1], [])

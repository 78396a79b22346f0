"""Broken connections of the sandbox, where the client is the one who broke it first."""

from typing import Any

from aiohttp import ClientConnectionResetError, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.test_utils import make_mocked_request

from passoproxy.sandbox.faults import cut_off


class Gone(AbstractStreamWriter):
    """What an answer is written into after its client has left."""

    async def write(self, chunk: Any) -> None:
        raise ClientConnectionResetError("Cannot write to closing transport")

    async def write_headers(self, status_line: str, headers: Any) -> None:
        await self.write(b"")

    async def write_eof(self, chunk: bytes = b"") -> None:
        await self.write(chunk)

    async def drain(self) -> None:
        await self.write(b"")

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        """Nothing is written that could be compressed."""

    def enable_chunking(self) -> None:
        """Nothing is written that could be cut into pieces."""


async def test_a_client_that_left_before_its_answer_is_cut_off_is_no_fault() -> None:
    request = make_mocked_request("GET", "/", writer=Gone())
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    answer = await cut_off(request, web.Response(body=b"whole"), reset=True, sleep=sleep)

    assert answer.content_length == len(b"whole")
    assert waited == []

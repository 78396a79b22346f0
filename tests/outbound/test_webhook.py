"""An alert by a webhook: one POST, ten seconds, no redirect, and never a word of a URL that may hold a token."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from passoproxy import __version__
from passoproxy.errors import AlertUndelivered, ConfigurationError, Fault
from passoproxy.outbound.dial import Dialer, ForwardProxy
from passoproxy.outbound.webhook import Webhook
from tests.outbound.wire import direct

TOKEN = "T0KEN-planted"
DOCUMENT = b'{"level": "page"}'
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Receiver:
    port: int = 0
    got: list[tuple[web.Request, bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/{TOKEN}?key={TOKEN}"


@contextlib.asynccontextmanager
async def receiver(answer: Answer) -> AsyncIterator[Receiver]:
    there = Receiver()

    async def handle(request: web.Request) -> web.StreamResponse:
        there.got.append((request, await request.read()))
        return await answer(request)

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    there.port = runner.addresses[0][1]
    try:
        yield there
    finally:
        await runner.cleanup()


def status(code: int, **fields: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=code, text="x" * 100_000, headers=fields)

    return answer


async def never(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    raise AssertionError


async def endless(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse()
    await answer.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await answer.write(b"x" * 65536)
    return answer


async def dropped(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def test_it_posts_the_document() -> None:
    async with receiver(status(204)) as there:
        assert await Webhook(lambda: there.url, direct).deliver(DOCUMENT) == f"127.0.0.1:{there.port} answered 204"
    ((request, body),) = there.got
    assert (request.method, request.path_qs) == ("POST", f"/services/{TOKEN}?key={TOKEN}")
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["User-Agent"] == f"passoproxy/{__version__}"
    assert json.loads(body) == {"level": "page"}


async def test_an_answer_without_end_is_not_read() -> None:
    async with receiver(endless) as there:
        assert (await Webhook(lambda: there.url, direct, limit=5).deliver(DOCUMENT)).endswith("answered 200")


async def failure(hook: Webhook) -> str:
    with pytest.raises(AlertUndelivered) as caught:
        await hook.deliver(DOCUMENT)
    said = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__cause__}"
    assert TOKEN not in said
    return str(caught.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (status(500), "answered 500"),
        (status(404), "answered 404"),
        (status(302, Location="http://127.0.0.1:9/elsewhere"), "answered 302, and redirects are not followed"),
        (dropped, "broke"),
        (never, "did not answer within 0.3 s"),
    ],
)
async def test_what_is_no_success_is_a_failure(answer: Answer, said: str) -> None:
    async with receiver(answer) as there:
        assert said in await failure(Webhook(lambda: there.url, direct, limit=0.3 if answer is never else 10))
    assert len(there.got) == 1


async def test_nobody_there() -> None:
    said = await failure(Webhook(lambda: f"http://127.0.0.1:9/{TOKEN}", direct))
    assert "127.0.0.1:9 cannot be reached" in said


async def test_a_url_that_is_none_any_more() -> None:
    assert "alerts.webhook" in await failure(Webhook(lambda: f"ftp://x/{TOKEN}", direct))

    def unreadable() -> str:
        raise ConfigurationError(Fault("", "alerts.webhook_file", "cannot be read"))

    assert "cannot be read" in await failure(Webhook(unreadable, direct))
    assert Webhook(unreadable, direct).where() == ""
    assert Webhook(lambda: f"https://hooks.example/{TOKEN}", direct).where() == "hooks.example"


async def test_it_goes_through_the_proxy() -> None:
    heard: list[bytes] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(tunnel, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy = ForwardProxy("127.0.0.1", port)
    hook = Webhook(lambda: f"https://hooks.invalid/{TOKEN}", lambda endpoint: Dialer(endpoint, timeout=5, proxy=proxy))
    assert "refused CONNECT (403)" in await failure(hook)
    assert heard[0].startswith(b"CONNECT hooks.invalid:443 ")
    server.close()
    await server.wait_closed()

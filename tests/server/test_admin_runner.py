"""`server.limits` on the admin listener, over raw sockets, and the facts about aiohttp that it stands on."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from passoproxy.core.events import RequestRejected, TaskFailed
from passoproxy.server.acceptor import Acceptor, Descriptors
from passoproxy.server.admin.app import admin_application
from passoproxy.server.admin.auth import AdminAccess
from passoproxy.server.admin.runner import AdminRunner
from passoproxy.server.admin.sessions import PageSessions
from passoproxy.server.connection import Limits
from passoproxy.server.listeners import open_tcp
from tests.fakes import RememberingObserver
from tests.server.fake_daemon import FakeDaemon

GOOD = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def no_metrics(accept: str) -> tuple[bytes, str]:
    return b"", "text/plain"


@asynccontextmanager
async def listener(limits: Limits, observer: RememberingObserver) -> AsyncIterator[Callable[..., Awaitable[bytes]]]:
    runner = AdminRunner(
        admin_application(FakeDaemon(), AdminAccess(b"x" * 32), PageSessions(), no_metrics, observer), limits, observer
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]

    async def exchange(sent: bytes, then: bytes = b"") -> bytes:
        """What comes back until the listener closes; `then` is sent once the first answer begins, or at once where none comes."""
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(sent)
        async with asyncio.timeout(5):
            got = b""
            if then:
                if b"Content-Length" not in sent:
                    got = await reader.readuntil(b"ok\n")
                writer.write(then)
            got += await reader.read()
        writer.close()
        return got

    try:
        yield exchange
    finally:
        await runner.cleanup()


@pytest.fixture
def observer() -> RememberingObserver:
    return RememberingObserver()


def code_of(answer: bytes) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    # aiohttp answers what it could not parse as HTTP/1.0, which closes by itself.
    assert head.startswith(b"HTTP/1.0 ") or b"Connection: close" in head
    assert b"aiohttp" not in head
    return str(json.loads(body)["code"])


async def test_a_good_request_is_answered(observer: RememberingObserver) -> None:
    async with listener(Limits(), observer) as exchange:
        answer = await exchange(GOOD)
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"ok\n")
    assert observer.events == []


async def test_a_half_sent_head_ends_at_the_deadline(observer: RememberingObserver) -> None:
    async with listener(Limits(header_timeout=0.5), observer) as exchange:
        assert code_of(await exchange(b"GET / HTTP/1.1\r\nHost: loc")) == "request_timeout"
    assert [event.code for event in observer.of(RequestRejected)] == ["request_timeout"]  # type: ignore[union-attr]


async def test_who_sends_nothing_gets_nothing(observer: RememberingObserver) -> None:
    async with listener(Limits(header_timeout=0.05), observer) as exchange:
        assert await exchange(b"") == b""
    assert observer.events == []


async def test_a_later_head_of_a_connection_has_a_deadline_too(observer: RememberingObserver) -> None:
    limits = Limits(header_timeout=0.5)
    async with listener(limits, observer) as exchange:
        first = GOOD.replace(b"Connection: close\r\n", b"")
        answer = await exchange(first, then=b"GET /hea")
    assert answer.count(b"HTTP/1.1") == 2
    assert code_of(answer.partition(b"ok\n")[2]) == "request_timeout"


async def test_a_kept_connection_that_is_idle_is_closed(observer: RememberingObserver) -> None:
    async with listener(Limits(idle_timeout=0.1), observer) as exchange:
        answer = await exchange(GOOD.replace(b"Connection: close\r\n", b""))
    assert answer.endswith(b"ok\n")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /" + b"a" * 3000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 3000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n"
        + b"".join(b"X%d: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" % n for n in range(60))
        + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 80,
    ],
    ids=["target", "one field", "whole head in one read", "endless head"],
)
async def test_large_heads_are_refused(sent: bytes, observer: RememberingObserver) -> None:
    async with listener(Limits(header_bytes=2048), observer) as exchange:
        answer = await exchange(
            sent if b"X59" not in sent else sent.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        )
    assert answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.0 431 "))
    assert code_of(answer) == "headers_too_large"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01secret-handshake\r\n\r\n",
        b"GET secret-target nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nsecret field: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: secret\x00\r\n\r\n",
        b"POST /api/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
async def test_what_cannot_be_parsed_is_refused_and_not_repeated(
    sent: bytes, observer: RememberingObserver, caplog: pytest.LogCaptureFixture
) -> None:
    async with listener(Limits(), observer) as exchange:
        answer = await exchange(sent)
    assert code_of(answer) == "bad_request"
    assert b"secret" not in answer
    assert [each for each in caplog.records if each.name.startswith("aiohttp")] == []
    assert len(observer.of(RequestRejected)) == 1


async def test_connections_over_the_limit_are_told_so(observer: RememberingObserver) -> None:
    async with listener(Limits(connections=0), observer) as exchange:
        answer = await exchange(b"")
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"Retry-After: " in answer
    assert code_of(answer) == "overloaded"


async def test_a_body_may_be_longer_than_a_head(observer: RememberingObserver) -> None:
    body = b"x" * 10_000
    head = b"POST /api/cache/purge HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 10000\r\n\r\n"
    async with listener(Limits(header_bytes=1024), observer) as exchange:
        answer = await exchange(head, then=body)
    assert answer.startswith(b"HTTP/1.1 403 ")


async def test_two_host_fields_are_refused(observer: RememberingObserver) -> None:
    async with listener(Limits(), observer) as exchange:
        answer = await exchange(GOOD.replace(b"/healthz", b"/").replace(b"Host:", b"Host: localhost\r\nHost:"))
    assert code_of(answer) == "bad_request"


async def test_a_head_that_waits_for_the_answer_before_it_is_not_cut_off(observer: RememberingObserver) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        begun.set()
        await go_on.wait()
        return web.Response(text="slow\n")

    app = web.Application()
    app.router.add_get("/slow", slow)
    runner = AdminRunner(app, Limits(header_timeout=0.5), observer)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
    writer.write(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await begun.wait()
    writer.write(b"GET /slo")
    loop = asyncio.get_running_loop()
    waited = loop.create_future()
    loop.call_later(1.2, waited.set_result, None)  # two deadlines of the listener's own timer
    await waited
    assert observer.events == []
    go_on.set()
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    await runner.cleanup()
    assert b"slow\n" in answer
    assert code_of(answer.partition(b"slow\n")[2]) == "request_timeout"


# ---- clients that do not take their answers --------------------------------------------------------------------------


@asynccontextmanager
async def served(
    daemon: FakeDaemon, limits: Limits, observer: RememberingObserver, *, draining: bool = False
) -> AsyncIterator[int]:
    runner = AdminRunner(
        admin_application(daemon, AdminAccess(b"x" * 32), PageSessions(), no_metrics, observer), limits, observer
    )
    runner.draining = draining
    await runner.setup()
    listener = open_tcp("127.0.0.1", 0)
    acceptor = Acceptor(listener, runner.take, Descriptors(1 << 20))
    try:
        yield listener.getsockname()[1]
    finally:
        acceptor.close()
        await runner.cleanup()


def asking(port: int, sent: bytes) -> socket.socket:
    """A client that asks and takes nothing."""
    client = socket.create_connection(("127.0.0.1", port))
    client.setblocking(False)
    client.sendall(sent)
    return client


LIST = b"GET /api/cache/entries?limit=100000 HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def test_a_list_that_is_not_taken_is_not_made(observer: RememberingObserver) -> None:
    daemon = FakeDaemon(listed=[{"url": "/" + "x" * 500}] * 10_000)
    async with served(daemon, Limits(), observer) as port:
        clients = [asking(port, LIST * 3) for _ in range(60)]
        before = -1
        while before != daemon.given:
            before = daemon.given
            await asyncio.sleep(0.3)
        # 60 lists of 5 MB each: what is made fits the kernel's buffers and one block
        assert 0 < daemon.given < 60 * 1_500
        for client in clients:
            client.close()


async def test_a_client_that_leaves_in_the_midst_of_a_list_is_no_refusal(observer: RememberingObserver) -> None:
    daemon = FakeDaemon(listed=[{"url": "/" + "x" * 500}] * 100_000)
    async with served(daemon, Limits(), observer) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(LIST)
        await reader.readexactly(100_000)
        writer.transport.abort()
    assert daemon.given < 100_000
    assert observer.events == []


@pytest.mark.parametrize("sent", [LIST, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3000], ids=["list", "pipelined"])
async def test_a_client_that_takes_nothing_is_dropped_in_time(sent: bytes, observer: RememberingObserver) -> None:
    daemon = FakeDaemon(listed=[{"url": "/" + "x" * 500}] * 10_000)
    async with served(daemon, Limits(write_timeout=0.3), observer) as port:
        with asking(port, sent) as client:
            taken, loop = 0, asyncio.get_running_loop()
            async with asyncio.timeout(30):
                await asyncio.sleep(1.0)
                with contextlib.suppress(ConnectionError):
                    while part := await loop.sock_recv(client, 1 << 20):
                        taken += len(part)
        assert 0 < taken < 4_000_000
        assert observer.of(TaskFailed) == []


@pytest.mark.slow
async def test_a_body_that_drips_is_refused_at_its_rate(observer: RememberingObserver) -> None:
    """Within 30 s in any case, and after 10 s by `min_rate`."""
    head = b"POST /oauth/paste HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n"
    async with served(FakeDaemon(), Limits(min_rate=1 << 30), observer) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        async with asyncio.timeout(60):
            while not reader._buffer:  # type: ignore[attr-defined]
                writer.write(b"a" * 100)
                await asyncio.sleep(0.05)
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()


async def test_an_idle_connection_makes_room_for_a_new_one(observer: RememberingObserver) -> None:
    async with served(FakeDaemon(), Limits(connections=1), observer) as port:
        first = await asyncio.open_connection("127.0.0.1", port)
        first[1].write(GOOD.replace(b"Connection: close\r\n", b""))
        assert (await first[0].readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
        second = await asyncio.open_connection("127.0.0.1", port)
        second[1].write(GOOD)
        assert (await second[0].read()).startswith(b"HTTP/1.1 200")
        assert await first[0].read() == b""
        for _, writer in (first, second):
            writer.close()


async def test_while_draining_each_answer_is_the_last_of_its_connection(observer: RememberingObserver) -> None:
    async with served(FakeDaemon(), Limits(), observer, draining=True) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GOOD.replace(b"Connection: close\r\n", b""))
        async with asyncio.timeout(10):
            assert b"Connection: close\r\n" in await reader.read()
        writer.close()

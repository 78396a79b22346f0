"""Connections through a proxy, and trust; the direct way is tried in test_origin."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest
import trustme

from passoproxy.errors import ConfigurationError
from passoproxy.outbound.dial import Dialer, DialFailed, Endpoint, ForwardProxy, NoDialer, tls_context
from tests.outbound.wire import SHORT, Line, Play, origin_that

TARGET = Endpoint("http", "api.example.com", 8080)


class Lost(asyncio.Protocol):
    def __init__(self) -> None:
        self.got = b""
        self.ended = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended.set_result(None)


def tunnelling(answer: bytes, then: bytes = b"") -> Play:
    """A proxy that gives one answer to CONNECT, and speaks as the target afterwards."""

    async def play(line: Line) -> None:
        line.heard.append(await line.reader.readuntil(b"\r\n\r\n"))
        await line.say(answer)
        if then:
            line.heard.append(await line.reader.read(100))
            await line.say(then)

    return play


async def test_a_tunnel_through_a_proxy() -> None:
    async with origin_that(tunnelling(b"HTTP/1.1 200 Established\r\nVia: x\r\n\r\n", b"pong")) as there:
        dialer = Dialer(TARGET, timeout=5, proxy=ForwardProxy("127.0.0.1", there.port, "Basic abc"))
        protocol = await dialer.dial(Lost)
        protocol.transport.write(b"ping")
        await protocol.ended
    assert protocol.got == b"pong"
    assert there.heard == [
        b"CONNECT api.example.com:8080 HTTP/1.1\r\nHost: api.example.com:8080\r\nProxy-Authorization: Basic abc\r\n\r\n",
        b"ping",
    ]


async def test_tls_inside_a_tunnel() -> None:
    import ssl

    authority = trustme.CA()
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("::1").configure_cert(served)
    trusting = tls_context()
    authority.configure_trust(trusting)

    async def play(line: Line) -> None:
        line.heard.append(await line.reader.readuntil(b"\r\n\r\n"))
        await line.say(b"HTTP/1.1 200 OK\r\n\r\n")
        await line.writer.start_tls(served)
        line.heard.append(await line.reader.readexactly(4))
        await line.say(b"pong")

    async with origin_that(play) as there:
        dialer = Dialer(
            Endpoint("https", "::1", 443), timeout=5, tls=trusting, proxy=ForwardProxy("127.0.0.1", there.port)
        )
        protocol = await dialer.dial(Lost)
        protocol.transport.write(b"ping")
        await protocol.ended
    assert protocol.got == b"pong"
    assert there.heard == [b"CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n", b"ping"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", r"refused CONNECT \(407\)"),
        (b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", r"refused CONNECT \(503\)"),
        (b"SSH-2.0-x\r\n\r\n", "refused CONNECT"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "properly"),
        (b"HTTP/1.1 200 OK\r\n", "properly"),
        (b"", "properly"),
        (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 4000, "properly"),
    ],
)
async def test_a_proxy_that_gives_no_tunnel(answer: bytes, told: str) -> None:
    async with origin_that(tunnelling(answer)) as there:
        dialer = Dialer(TARGET, timeout=5, proxy=ForwardProxy("127.0.0.1", there.port))
        with pytest.raises(DialFailed, match=told) as caught:
            await dialer.dial(Lost)
        assert not caught.value.timed_out


async def test_a_proxy_that_is_not_there_is_named() -> None:
    async with origin_that(tunnelling(b"")) as there:
        port = there.port
    dialer = Dialer(TARGET, timeout=5, proxy=ForwardProxy("127.0.0.1", port))
    with pytest.raises(DialFailed, match=f"through the proxy 127.0.0.1:{port}"):
        await dialer.dial(Lost)


async def test_a_proxy_that_stays_silent_times_out() -> None:
    async def play(line: Line) -> None:
        await line.end()

    async with origin_that(play) as there:
        dialer = Dialer(TARGET, timeout=SHORT, proxy=ForwardProxy("127.0.0.1", there.port))
        with pytest.raises(DialFailed) as caught:
            await dialer.dial(Lost)
        assert caught.value.timed_out


async def test_a_proxy_that_resets_gives_no_tunnel() -> None:
    async def play(line: Line) -> None:
        await line.reader.readuntil(b"\r\n\r\n")
        line.reset()

    async with origin_that(play) as there:
        dialer = Dialer(TARGET, timeout=5, proxy=ForwardProxy("127.0.0.1", there.port))
        with pytest.raises(DialFailed, match="CONNECT"):
            await dialer.dial(Lost)


def test_trust_is_checked_and_old_tls_refused() -> None:
    import ssl

    context = tls_context()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


def test_an_authority_that_cannot_be_read(tmp_path: Path) -> None:
    broken = tmp_path / "ca.pem"
    broken.write_text("no certificate")
    for path in (broken, tmp_path / "missing.pem"):
        with pytest.raises(ConfigurationError, match=r"upstream\.ca_file") as caught:
            tls_context(path)
        assert path.name in str(caught.value)


@pytest.mark.parametrize(
    ("error", "timed_out"), [(TimeoutError(110, "Connection timed out"), True), (OSError(), False)]
)
async def test_what_the_system_says_of_a_connection_that_did_not_come(
    monkeypatch: pytest.MonkeyPatch, error: OSError, timed_out: bool
) -> None:
    async def failing(*args: object, **more: object) -> None:
        raise error

    monkeypatch.setattr("aiohappyeyeballs.start_connection", failing)
    with pytest.raises(DialFailed, match=r"127\.0\.0\.1:9") as caught:
        await Dialer(Endpoint("http", "127.0.0.1", 9), timeout=5).dial(Lost)
    assert caught.value.timed_out is timed_out


async def test_no_connection_is_opened_while_recordings_answer() -> None:
    with pytest.raises(DialFailed, match=r"gateway\.replay is set: nothing is sent to localhost:1"):
        await NoDialer(Endpoint("http", "localhost", 1), "gateway.replay is set").dial(asyncio.Protocol)

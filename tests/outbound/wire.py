"""Origins that do on the wire exactly what a test tells them, and the hop that talks to them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from passoproxy.outbound.connection import Limits
from passoproxy.outbound.dial import Dialer, Endpoint
from passoproxy.outbound.origin import Origin
from passoproxy.outbound.pool import Pool
from tests.fakes import FakeClock, RememberingObserver

SHORT = 0.1
"""Seconds after which a real timer fires in a test that waits for it."""

AMPLE = 1.0
"""Seconds of a real timer that must not fire before what it bounds was done, however busy the machine is."""

AT_ONCE = Limits(settling=0.0)
"""Connections that are used again at once, so that a test knows which one a request travels on."""


@dataclass
class Line:
    """One accepted connection. `number` counts from 0."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int
    heard: list[bytes]

    async def request(self) -> bytes:
        """The next request, its body (of known length) included."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        whole = head + await self.reader.readexactly(length)
        self.heard.append(whole)
        return whole

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """Ends the connection by RST."""
        sock = self.writer.get_extra_info("socket")
        if isinstance(sock, socket.socket) or hasattr(sock, "setsockopt"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def end(self) -> None:
        """Waits until the other side has ended the connection."""
        while await self.reader.read(65536):
            pass


Play = Callable[[Line], Awaitable[None]]


@dataclass
class RawOrigin:
    """A listening origin; what it heard and how many connections it accepted."""

    port: int = 0
    accepted: int = 0
    heard: list[bytes] = field(default_factory=list)
    faults: list[BaseException] = field(default_factory=list)


@asynccontextmanager
async def origin_that(play: Play, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawOrigin]:
    """An origin that plays `play` on each connection and closes it when the play is over."""
    origin = RawOrigin()
    tasks: set[asyncio.Task[None]] = set()

    async def on_stage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer, origin.accepted, origin.heard)
        origin.accepted += 1
        try:
            await play(line)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except Exception as fault:
            # uvloop raises RuntimeError for what is written after the other side has left.
            if not (isinstance(fault, RuntimeError) and writer.transport.is_closing()):
                origin.faults.append(fault)
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(on_stage(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    origin.port = server.sockets[0].getsockname()[1]
    try:
        yield origin
    finally:
        server.close()
        for _ in range(10):  # who connected a moment ago is let in first: nobody would end that connection later
            await asyncio.sleep(0)
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
    assert not origin.faults, origin.faults


@dataclass
class Caller:
    """The last hop and what belongs to it."""

    origin: Origin
    pool: Pool
    observer: RememberingObserver


@asynccontextmanager
async def caller_of(
    port: int,
    *,
    limits: Limits | None = None,
    max_connections: int = 4,
    timeout: float = 5.0,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    headers: Mapping[str, str] | None = None,
) -> AsyncIterator[Caller]:
    """An Origin hop for the server at `port`."""
    endpoint = Endpoint("https" if tls else "http", host, port)
    pool = Pool(Dialer(endpoint, timeout=timeout, tls=tls), max_connections=max_connections, limits=limits or AT_ONCE)
    observer = RememberingObserver()
    try:
        yield Caller(Origin(pool, clock=FakeClock(), observer=observer, headers=lambda: headers or {}), pool, observer)
    finally:
        await pool.close()


def direct(endpoint: Endpoint) -> Dialer:
    """The way to an endpoint without a proxy."""
    return Dialer(endpoint, timeout=5.0)


def answering(*answers: bytes) -> Play:
    """A play: one answer to each request in turn, the last one for ever."""

    async def play(line: Line) -> None:
        turn = 0
        while True:
            await line.request()
            await line.say(answers[min(turn, len(answers) - 1)])
            turn += 1

    return play


def closing(answer: bytes) -> Play:
    """A play: one answer, then the end of the connection."""

    async def play(line: Line) -> None:
        await line.request()
        await line.say(answer)

    return play


async def until(condition: Callable[[], bool]) -> None:
    """Lets the loop turn until `condition` holds; fails after 5 s."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)

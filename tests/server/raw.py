"""A listener on loopback and a client that sends bytes as they are: what the tests of the wire share."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.expiry import Terms
from passoproxy.core.cache.freshness import Lifetime
from passoproxy.core.cache.reuse import Serve
from passoproxy.core.events import TTL, Repeated, RequestAnswered
from passoproxy.core.http.messages import RequestHead
from passoproxy.ports import BytesBody, Request, Response
from passoproxy.proxy.hits import LARGEST_HIT, Form, Hit, Pieces
from passoproxy.server.acceptor import Acceptor, Descriptors
from passoproxy.server.connection import Connections, Limits, ProxyConnection
from passoproxy.server.handler import Handler
from passoproxy.server.listeners import PeerCheck, open_tcp, serve
from tests.fakes import Bearers, FakeClock, RememberingObserver, response, settle

PATIENCE = 10.0  # seconds after which a test that waits for the other side fails


class EchoHop:
    """Reads the whole body and answers with what it understood; keeps what it was sent."""

    def __init__(self) -> None:
        self.seen: list[Request] = []
        self.bodies: list[bytes] = []

    async def send(self, request: Request) -> Response:
        self.seen.append(request)
        body = b"".join([part async for part in request.body])
        self.bodies.append(body)
        head = request.head
        return response(200, [("X-Was", f"{head.method} {head.target} {head.authority}")], body)

    def try_hit(self, head: RequestHead, *rest: object) -> Hit | None:
        return None


class MemoryHop(EchoHop):
    """Answers `/hit` from memory, with `body`, and anything else as EchoHop does; counts the hits."""

    def __init__(self, body: bytes = b"hit") -> None:
        super().__init__()
        self.body, self.hits = body, 0

    def try_hit(self, head: RequestHead, *rest: object) -> Hit | None:
        if head.target != "/hit" or len(self.body) > LARGEST_HIT:
            return None
        self.hits += 1
        lines = b"HTTP/1.1 200 OK\r\nX-Was: hit\r\nAge: ", b"\r\nCache-Status: passoproxy; hit; ttl=", b"\r\n"
        body = b"" if head.method == "HEAD" else self.body
        told = RequestAnswered(
            "", head.method, head.target, 200, "", "hit", f"passoproxy; hit; ttl={TTL}", 0.0, len(body)
        )
        entry, terms = Entry("", "", "", "GET", "/hit", 200), Terms(Lifetime(60.0, ""), 0.0, 0.0, 60.0)
        form = Form(200, Pieces(*lines, True), False, len(self.body), None, Repeated(told), Serve(entry, terms, ""))
        return Hit(form, body, Request(head, BytesBody()), form.plan, 0.0, 0, 60)


@dataclass
class Answer:
    """One answer as it came; `complete` False where it broke off."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    complete: bool = True

    def __getitem__(self, name: str) -> str:
        return ", ".join(value for given, value in self.fields if given.lower() == name.lower())

    def __contains__(self, name: str) -> bool:
        return any(given.lower() == name.lower() for given, _ in self.fields)


def parse_answers(raw: bytes, methods: tuple[str, ...] = ()) -> list[Answer]:
    """All answers in `raw`; `methods` are those of the requests, where a HEAD is among them."""
    answers: list[Answer] = []
    asked = list(methods)
    while raw:
        head, end, raw = raw.partition(b"\r\n\r\n")
        assert end, f"no end of a head in {head!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        answer = Answer(
            int(status), [(name, value) for name, _, value in (line.partition(": ") for line in lines)], b""
        )
        answers.append(answer)
        if answer.status < 200:
            continue
        method = asked.pop(0) if asked else ""
        if method == "HEAD" or answer.status in (204, 304):
            continue
        if answer["Transfer-Encoding"] == "chunked":
            raw = _chunked(answer, raw)
        elif "Content-Length" in answer:
            length = int(answer["Content-Length"])
            answer.body, raw = raw[:length], raw[length:]
            answer.complete = len(answer.body) == length
        else:
            answer.body, raw = raw, b""
    return answers


def _chunked(answer: Answer, raw: bytes) -> bytes:
    while True:
        size, end, raw = raw.partition(b"\r\n")
        if not end:
            answer.complete = False
            return b""
        length = int(size, 16)
        answer.body += raw[:length]
        raw = raw[length + 2 :]
        if not length:
            return raw


@dataclass
class Listening:
    """A running listener."""

    port: int
    connections: Connections
    observer: RememberingObserver
    clock: FakeClock
    acceptor: Acceptor[ProxyConnection]
    clients: list[Client] = field(default_factory=list)

    async def connect(self) -> Client:
        self.clients.append(Client(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.clients[-1]

    async def close(self) -> None:
        """Ends the listener and every connection, from both sides."""
        for client in self.clients:
            client.leave()
        self.acceptor.close()
        await self.connections.drain(0.0)
        await settle()

    async def ask(self, raw: bytes, *, half_close: bool = True, methods: tuple[str, ...] = ()) -> list[Answer]:
        """Sends `raw`, then (unless told otherwise) no more, and gives all answers up to the end of the connection."""
        client = await self.connect()
        await client.send(raw)
        if half_close:
            client.writer.write_eof()
        return parse_answers(await client.rest(), methods)


@dataclass
class Client:
    """A raw connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, raw: bytes) -> None:
        self.writer.write(raw)
        await self.writer.drain()

    async def rest(self) -> bytes:
        """Everything up to the end of the connection; a reset is an end too."""
        parts: list[bytes] = []
        async with asyncio.timeout(PATIENCE):
            try:
                while part := await self.reader.read(65536):
                    parts.append(part)
            except ConnectionError:
                pass
        self.writer.close()
        return b"".join(parts)

    async def one(self, method: str = "GET") -> Answer:
        """One whole answer; the connection stays."""
        async with asyncio.timeout(PATIENCE):
            raw = await self.reader.readuntil(b"\r\n\r\n")
            answer = parse_answers(raw, ("HEAD",))[0]
            if answer.status < 200 or method == "HEAD" or answer.status in (204, 304):
                return answer
            if "Content-Length" in answer:
                answer.body = await self.reader.readexactly(int(answer["Content-Length"]))
                return answer
            body = b""
            while not body.endswith(b"0\r\n\r\n"):
                body += await self.reader.read(65536)
            _chunked(answer, body)
            return answer

    def leave(self) -> None:
        """Goes without a word: by a reset, because the end of what is sent alone would be a half-closed connection."""
        sock = self.writer.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def reset(self) -> bool:
        """Whether the connection ends by a reset, whatever comes before it."""
        async with asyncio.timeout(PATIENCE):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionResetError:
                return True
            return False


async def listening(
    hop: Any,
    limits: Limits | None = None,
    peer_check: PeerCheck | None = None,
    observe: Callable[[object], None] | None = None,
    *,
    tls: ssl.SSLContext | None = None,
    most_descriptors: int = 1 << 20,
    bearers: Bearers | None = None,
) -> Listening:
    """Starts a listener on a free port. A hop without `try_hit` has nothing in memory."""
    observer, clock = RememberingObserver(), FakeClock()
    if not hasattr(hop, "try_hit"):
        hop.try_hit = lambda *asked: None
    connections = Connections(Handler(hop, bearers or Bearers(), clock, observe or observer), limits)
    listener = open_tcp("127.0.0.1", 0)
    descriptors = Descriptors(most_descriptors, (connections,), observer)
    acceptor = serve(listener, connections, descriptors, peers=peer_check, tls=None if tls is None else lambda: tls)
    return Listening(listener.getsockname()[1], connections, observer, clock, acceptor)

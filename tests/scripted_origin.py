"""An origin on a real socket that answers what a test tells it to, and a whole daemon before it: what the cache's rules are tried with."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from pathlib import Path
from typing import Any

from passoproxy.core.http.syntax import print_date
from tests.whole import Place, Running, running

Pairs = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Asked:
    """A request as the origin got it; fields are found without regard to case, None where absent."""

    method: str
    target: str
    fields: Message
    body: bytes

    def __getitem__(self, name: str) -> str | None:
        lines = self.fields.get_all(name)
        return None if lines is None else ", ".join(lines)


@dataclass(frozen=True)
class Says:
    """An answer: `Date` and `Content-Length` are added, unless `fields` name them."""

    status: int = 200
    fields: Pairs = ()
    body: bytes = b""


@dataclass(frozen=True)
class Got:
    """An answer as the client got it, coded as it came; lines of one field are joined."""

    status: int
    fields: dict[str, str]
    body: bytes

    def __getitem__(self, name: str) -> str | None:
        return self.fields.get(name.lower())

    @property
    def cache(self) -> str:
        return self.fields.get("cache-status", "")


Answering = Callable[[Asked], Says | Awaitable[Says]]


@dataclass
class ScriptedOrigin:
    """`answer` may be set at any time; `asked` is what came, the oldest first."""

    answer: Answering
    asked: list[Asked] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of(self, target: str) -> list[Asked]:
        """What came for one target."""
        return [each for each in self.asked if each.target == target]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                first, _, lines = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
                method, target, _ = first.decode("latin-1").split(" ")
                fields = BytesParser().parsebytes(lines, headersonly=True)
                length = fields.get("Content-Length")
                asked = Asked(method, target, fields, await reader.readexactly(int(length or 0)))
                self.asked.append(asked)
                says = self.answer(asked)
                said = says if isinstance(says, Says) else await says
                writer.write(_written(said, bodiless=method == "HEAD"))
                await writer.drain()
        writer.close()


def _written(said: Says, *, bodiless: bool) -> bytes:
    pairs = list(said.fields)
    named = {name.lower() for name, _ in pairs}
    if "date" not in named:
        pairs.append(("Date", print_date(_now())))
    bodiless = bodiless or said.status in (204, 304)
    if not bodiless and "content-length" not in named:
        pairs.append(("Content-Length", str(len(said.body))))
    head = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return f"HTTP/1.1 {said.status} x\r\n{head}\r\n".encode("latin-1") + (b"" if bodiless else said.body)


def _now() -> float:
    import time

    return time.time()


@dataclass
class Scene:
    """A daemon before a scripted origin, with the hands to ask it."""

    origin: ScriptedOrigin
    daemon: Running

    async def ask(self, target: str = "/x", method: str = "GET", fields: Pairs = (), body: bytes | None = None) -> Got:
        """One request on a connection of its own, with no more fields than it needs."""
        return await asyncio.to_thread(self._ask, target, method, tuple(fields), body)

    def _ask(self, target: str, method: str, fields: Pairs, body: bytes | None) -> Got:
        with contextlib.closing(self.connection()) as connection:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in fields:
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            found: dict[str, str] = {}
            for name, value in answer.getheaders():
                found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
            return Got(answer.status, found, answer.read())

    def connection(self) -> http.client.HTTPConnection:
        """A connection to the proxy listener, for a thread of the test's."""
        return http.client.HTTPConnection(self.daemon.proxy.removeprefix("http://"), timeout=30)


@contextlib.asynccontextmanager
async def origin(answer: Answering) -> AsyncIterator[ScriptedOrigin]:
    """An origin that listens."""
    made = ScriptedOrigin(answer)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


@contextlib.asynccontextmanager
async def before(behind: ScriptedOrigin, folder: Path, **sections: Any) -> AsyncIterator[Scene]:
    """A daemon before it with a static token, whose files are in `folder`; in mode `http` unless `sections` say otherwise."""
    folder.mkdir(exist_ok=True)
    sections.setdefault("cache", {"mode": "http"})
    oauth = {"grant": "static", "static_token": "a-static-token"}
    async with running(Place(folder, behind.url), provider="custom", oauth=oauth, **sections) as daemon:
        yield Scene(behind, daemon)


@contextlib.asynccontextmanager
async def scene(folder: Path, answer: Answering, **sections: Any) -> AsyncIterator[Scene]:
    """Both."""
    async with origin(answer) as behind, before(behind, folder, **sections) as made:
        yield made

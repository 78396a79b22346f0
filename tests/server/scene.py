"""A whole daemon between an origin that does what a test tells it and raw clients that take little ahead."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.outbound.wire import Line, RawOrigin, origin_that
from tests.server.raw import PATIENCE, Answer, Client
from tests.whole import Place, Running, running

PLACES = 4
STATIC = {"grant": "static", "static_token": "the-static-token"}
MIB = 1024 * 1024
LARGE = bytes(range(256)) * (12 * MIB // 256)
"""More than the buffers of sockets and the proxy's memory take."""


@dataclass
class Scene:
    """A daemon with `PLACES` places, and the origin that it asks."""

    it: Running
    origin: RawOrigin
    clients: list[Client] = field(default_factory=list)
    unnamed_before: int = field(default_factory=lambda: unnamed_files())

    @property
    def port(self) -> int:
        return int(self.it.proxy.rpartition(":")[2])

    async def connect(self) -> Client:
        """A client whose socket takes little ahead."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        client = Client(*await asyncio.open_connection(sock=sock, limit=65536))
        self.clients.append(client)
        return client

    async def sends(self, raw: bytes) -> Client:
        client = await self.connect()
        await client.send(raw)
        return client

    async def ask(self, target: str) -> Answer:
        """One answer, read to its end at once."""
        return await whole(await self.sends(get(target)))

    @property
    def under_way(self) -> int:
        return self.it.wired.pipeline.limiter.snapshot().in_flight

    @property
    def spilled(self) -> int:
        """How many files without a name this process has opened."""
        return unnamed_files() - self.unnamed_before

    def heard(self, start: str) -> list[bytes]:
        return [each for each in self.origin.heard if each.startswith(start.encode())]


def unnamed_files() -> int:
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of this very reading
            found += os.readlink(each).endswith(" (deleted)")
    return found


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def post(target: str, length: int) -> bytes:
    return f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


def answer(body: bytes, *fields: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *(fields or ("Cache-Control: no-store",)), "", ""]
    return "\r\n".join(lines).encode() + body


async def whole(client: Client) -> Answer:
    """One answer; a body of known length, however large."""
    async with asyncio.timeout(PATIENCE):
        return await client.one()


@contextlib.asynccontextmanager
async def scene(
    folder: Path, play: Callable[[Line], Awaitable[None]], upstream: dict[str, Any] | None = None, **sections: Any
) -> AsyncIterator[Scene]:
    """A daemon before an origin that plays `play`."""
    async with origin_that(play) as origin:
        place = Place(folder, f"http://127.0.0.1:{origin.port}")
        settings = {"max_concurrency": PLACES, "queue_timeout": "2s", **(upstream or {})}
        settings["url"] = place.origin
        cache = {"directory": str(folder / "cache"), "mode": "http", **sections.pop("cache", {})}
        async with running(place, provider="custom", oauth=STATIC, upstream=settings, cache=cache, **sections) as it:
            made = Scene(it, origin)
            try:
                yield made
            finally:
                for client in made.clients:
                    client.leave()


def answering_by_path(**answers: bytes) -> Callable[[Line], Awaitable[None]]:
    """An origin that gives each path its answer, `small` where it has none."""

    async def play(line: Line) -> None:
        while True:
            raw = await line.request()
            name = raw.split(b" ", 2)[1].strip(b"/").decode()
            await line.say(answers.get(name, answer(b"small")))

    return play

"""Servers of a network that a test makes: a sandbox, a gate that is the only way out, names. Each in a thread, in the network it was made in."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

import trustme

T = TypeVar("T")


class Names(threading.Thread):
    """A DNS server on `address`, port 53, that has an A record for each of `names`; whatever else is asked for is not there."""

    def __init__(self, address: str, **names: str) -> None:
        super().__init__(daemon=True)
        self.names, self.asked = dict(names), list[str]()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        self.start()

    def run(self) -> None:
        while True:
            query, client = self._socket.recvfrom(512)
            if not query:
                return
            end = query.index(b"\0", 12)
            labels, at = [], 12
            while at < end:
                labels.append(query[at + 1 : at + 1 + query[at]].decode())
                at += 1 + query[at]
            (kind,) = struct.unpack("!H", query[end + 1 : end + 3])
            name = ".".join(labels)
            self.asked.append(name)
            known = self.names.get(name.replace(".", "_"))
            record = b""
            if known and kind == 1:
                record = b"\xc0\x0c\0\1\0\1\0\0\0\0\0\4" + socket.inet_aton(known)
            flags = 0x8180 if known else 0x8183
            head = query[:2] + struct.pack("!HHHHH", flags, 1, bool(record), 0, 0)
            self._socket.sendto(head + query[12 : end + 5] + record, client)

    def close(self) -> None:
        self._socket.sendto(b"", self._socket.getsockname())
        self.join(10)
        self._socket.close()


class Gate:
    """A forward proxy with a password that looks into TLS, with certificates of an authority of its own: whatever is asked for is `behind` it."""

    def __init__(self, host: str, behind: tuple[str, int], user: str, password: str) -> None:
        self.authority = trustme.CA()
        self.expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.targets: list[str] = []
        self._behind = behind
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._client, host, 0))
        self.port = self._server.sockets[0].getsockname()[1]
        self._tasks: set[asyncio.Task[None]] = set()

    def _do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ssl.SSLError):
            await self._serve(reader, writer)
        writer.close()
        self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        target = head.split()[1]
        self.targets.append(target)
        if f"Proxy-Authorization: {self.expected}\r\n" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")
            return
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(target.rpartition(":")[0]).configure_cert(context)
        await writer.start_tls(context)
        there, onward = await asyncio.open_connection(*self._behind)
        try:
            await asyncio.gather(_copy(reader, onward), _copy(there, writer))
        finally:
            onward.close()

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()

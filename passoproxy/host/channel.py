"""Between the supervisor and a worker: a socket pair that carries JSON, one object a line. Its end is how each learns that the other is gone.

What the lines mean is the business of whoever speaks; they may hold secrets, and no other process has the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any

Document = dict[str, Any]

LONGEST = 16 * 1024 * 1024
"""Bytes of a line at most; a configuration file is the longest thing that is told."""

CLOGGED = 1024 * 1024
"""More than this waiting to be read, and the other side is behind."""


class Channel:
    """One end. Everything is called in the loop's thread."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Channel:
        """The end that `sock` is; the channel closes it."""
        sock.setblocking(False)
        return cls(*await asyncio.open_connection(sock=sock, limit=LONGEST))

    @property
    def is_clogged(self) -> bool:
        """Whether the other side does not keep up; what can wait should."""
        return self._writer.transport.get_write_buffer_size() > CLOGGED

    def tell(self, kind: str, **members: object) -> None:
        """Sends one object, without waiting; nothing happens where the other side is gone."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps({"kind": kind, **members}).encode() + b"\n")

    async def hear(self) -> Document | None:
        """The next object; None where the other side is gone, or said something that is none."""
        try:
            line = await self._reader.readline()
            found = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, OSError):
            return None
        return found if isinstance(found, dict) else None

    async def closed(self) -> None:
        """Waits until what was told is sent, or cannot be."""
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def close(self) -> None:
        """Says nothing more; what was told is still sent."""
        self._writer.close()

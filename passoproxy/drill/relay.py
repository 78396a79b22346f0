"""A way to the provider that can be closed: while it is, connections are refused as if nobody were there."""

from __future__ import annotations

import asyncio
import contextlib


class Relay:
    """Passes connections to a port on loopback on to another one there."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self) -> None:
        """Listens, on the same port each time."""
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stops listening; connections under way go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def end(self) -> None:
        """Stops listening, and ends what is under way."""
        await self.close()
        left = tuple(self._passing)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)  # closed transports let go of their sockets in the loop's next turn

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(_pour(reader, back), _pour(there, writer))
        finally:
            for each in (writer, back):
                each.close()


async def _pour(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(64 * 1024):
            target.write(data)
            await target.drain()
        # an end is passed on as an end, so that a dropped connection is seen as dropped
        if target.can_write_eof():
            target.write_eof()

"""The stream over which other processes follow the pair's owner: a JSON line for what is so now, and one at every change.

On `control.sock` only, whose file mode decides who may hear it: the lines hold the access token.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress

from aiohttp import web

from passoproxy.server.steering import Steering


class FollowStream:
    """The handler of `GET /api/token/follow`. `end` ends all streams, so that none holds up the end of the listener."""

    def __init__(self, daemon: Steering) -> None:
        self._daemon = daemon
        self._open: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """How many follow."""
        return len(self._open)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Writes until whoever follows leaves, or `end`."""
        reply = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await reply.prepare(request)
        telling = asyncio.ensure_future(self._tell(reply))
        self._open.add(telling)
        try:
            await asyncio.wait([telling])
        finally:
            telling.cancel()
            self._open.discard(telling)
            with suppress(asyncio.CancelledError, ConnectionError):
                await telling
        return reply

    async def end(self, app: web.Application) -> None:
        """For the application's `on_shutdown`."""
        for telling in self._open:
            telling.cancel()

    async def _tell(self, reply: web.StreamResponse) -> None:
        async for document in self._daemon.changes():
            await reply.write(json.dumps(document).encode() + b"\n")

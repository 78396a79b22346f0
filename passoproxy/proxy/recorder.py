"""The hop at which real traffic will be recorded and given again (`gateway.record`, `gateway.replay`); until then it passes everything on.

It stands between queueing and authorizing: what it sees is what the origin will be asked, after the cache and the queue, and it has never
seen the credential, so that no recording can hold one. Reading and writing tapes is left to `outbound.tape`.
"""

from __future__ import annotations

from passoproxy.ports import Hop, Request, Response


class Taping:
    """Passes every request on."""

    def __init__(self, next: Hop) -> None:
        self._next = next

    async def send(self, request: Request) -> Response:
        return await self._next.send(request)

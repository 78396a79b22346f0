"""The pair's owner on the same machine, over its `control.sock`: a PairOwner for daemons that share its state folder."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from passoproxy.errors import AccessDenied, PairStoreFailure
from passoproxy.host import control_socket
from passoproxy.ports import Followed
from passoproxy.tokens.passing import fault_of, followed_of

SILENCE = 5.0
"""The owner says something every second; one that is silent for so many seconds counts as gone until it speaks again."""

PATIENCE = 100.0
"""Seconds that an order may take: a login's exchange with the provider is among them."""

_BASE = "http://localhost"


class ControlOwner:
    """The owner that serves `folder`. Every call has a connection of its own, so that none outlives the owner that it was made to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def changes(self) -> AsyncIterator[Followed]:
        """See PairOwner."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
        try:
            async with self._session(timeout) as session, session.get(f"{_BASE}/api/token/follow") as stream:
                if stream.status != 200:
                    raise PairStoreFailure(f"control.sock answers {stream.status}; is another version running there?")
                async for line in stream.content:
                    yield followed_of(json.loads(line))
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            raise self._gone(fault) from fault

    async def renewed(self, generation: int, path: str = "", again: bool = False) -> int:
        """See PairOwner."""
        asked = {"generation": generation, "path": path, "again": again}
        told = await self._ask("/api/token/refused", json.dumps(asked).encode())
        return int(told.get("generation") or 0)

    async def order(self, what: str, document: bytes = b"") -> Mapping[str, object]:
        """See PairOwner."""
        return await self._ask(f"/api/token/orders/{what}", document)

    async def _ask(self, path: str, body: bytes) -> Mapping[str, Any]:
        timeout = aiohttp.ClientTimeout(total=PATIENCE, sock_connect=SILENCE)
        try:
            async with self._session(timeout) as session, session.post(f"{_BASE}{path}", data=body) as reply:
                told: dict[str, Any] = json.loads(await reply.read())
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            raise self._gone(fault) from fault
        if reply.status < 400:
            return told
        after = reply.headers.get("Retry-After", "5")
        wait = float(after) if after.isdecimal() else 5.0
        detail = str(told.get("detail") or f"the pair's owner answered {reply.status}")
        raise fault_of(str(told.get("code")), int(told.get("exit_code") or 1), detail, wait)

    def _session(self, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=_Connector(self._folder), timeout=timeout, trust_env=False)

    def _gone(self, fault: Exception) -> PairStoreFailure:
        reason = getattr(fault, "strerror", None) or type(fault).__name__
        return PairStoreFailure(f"{self._folder / control_socket.NAME}: {reason}")


class _Connector(aiohttp.UnixConnector):
    """Reaches the socket also where its path is too long for an address, and says nothing to a peer that is not to be believed."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._reach = folder, control_socket.Reach(folder)
        super().__init__(self._reach.path, force_close=True)

    async def _create_connection(self, *arguments: Any) -> ResponseHandler:
        # Private to aiohttp, and the one place between connecting and sending.
        made = await super()._create_connection(*arguments)
        assert made.transport is not None  # it was connected just now
        try:
            control_socket.check_peer(made.transport.get_extra_info("socket"), self._folder)
        except AccessDenied as fault:
            made.close()
            raise PairStoreFailure(str(fault)) from fault
        return made

    def close(self, *, abort_ssl: bool = False) -> Awaitable[None]:
        self._reach.close()  # connections that are made need it no more
        return super().close(abort_ssl=abort_ssl)

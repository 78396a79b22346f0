"""The pair's owner on the same machine (PairOwner): over its `control.sock` for daemons that share its folder, over the channel for its workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from passoproxy.errors import CommandFailure, OwnerGone, PairStoreFailure
from passoproxy.host import control_socket
from passoproxy.host.workers import Channel, Document
from passoproxy.ports import Followed
from passoproxy.tokens.commands import Command
from passoproxy.tokens.messages import answer_of, followed_of, packed

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

SILENCE = 5.0
"""The owner says something every second; one that is silent for so many seconds counts as gone until it speaks again."""

PATIENCE = 100.0
"""Seconds that a command may take: a login's exchange with the provider is among them."""

_BASE = "http://localhost"
_GONE = "the process that owns the pair is gone"


class ControlOwner:
    """The owner that serves `folder`. Every call has a connection of its own, so that none outlives the owner that it was made to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def changes(self) -> AsyncIterator[Followed]:
        """See PairOwner."""
        import aiohttp  # takes a while, and only followers call

        timeout = aiohttp.ClientTimeout(total=None, sock_connect=SILENCE, sock_read=SILENCE)
        try:
            async with self._session(timeout) as session, session.get(f"{_BASE}/api/token/follow") as stream:
                if stream.status != 200:
                    raise PairStoreFailure(f"control.sock answers {stream.status}; is another version running there?")
                async for line in stream.content:
                    yield followed_of(json.loads(line))
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            raise self._gone(fault) from fault

    async def execute(self, command: Command[T]) -> T:
        """See PairOwner."""
        import aiohttp  # takes a while, and only followers call

        timeout = aiohttp.ClientTimeout(total=PATIENCE, sock_connect=SILENCE)
        url = f"{_BASE}/api/token/commands"
        try:
            async with self._session(timeout) as session, session.post(url, json=packed(command)) as reply:
                told = json.loads(await reply.read())
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            raise OwnerGone(str(self._gone(fault))) from fault
        if reply.status != 200:
            raise CommandFailure(f"the pair's owner answered {reply.status}; see its log")
        return answer_of(command, told)

    def _session(self, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientSession:
        import aiohttp

        from passoproxy.host.control_connector import Connector

        return aiohttp.ClientSession(connector=Connector(self._folder), timeout=timeout, trust_env=False)

    def _gone(self, fault: Exception) -> PairStoreFailure:
        reason = getattr(fault, "strerror", None) or type(fault).__name__
        return PairStoreFailure(f"{self._folder / control_socket.NAME}: {reason}")


class ParentOwner:
    """`take` is given what the parent says of the pair; `end` when it says nothing any more."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._newest: Followed | None = None
        self._news = asyncio.Event()
        self._asked: dict[int, asyncio.Future[object]] = {}
        self._number = 0
        self._ended = False

    def take(self, document: Document) -> None:
        """A `followed` or `reply` of the parent's. Raises PairStoreFailure for what is none."""
        if document["kind"] == "followed":
            self._newest = followed_of(document.get("followed"))
            self._news.set()
        elif (asked := self._asked.get(document["id"])) is not None and not asked.done():
            asked.set_result(document.get("reply"))

    def end(self) -> None:
        """The parent is gone, or about to be."""
        self._ended = True
        self._news.set()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(OwnerGone(_GONE))

    async def changes(self) -> AsyncIterator[Followed]:
        """See PairOwner; what was overtaken before it was read is left out."""
        while True:
            await self._news.wait()
            if self._ended:
                raise PairStoreFailure(_GONE)
            self._news.clear()
            if self._newest is not None:
                yield self._newest

    async def execute(self, command: Command[T]) -> T:
        """See PairOwner."""
        if self._ended:
            raise OwnerGone(_GONE)
        self._number += 1
        number = self._number
        asked = self._asked[number] = asyncio.get_running_loop().create_future()
        self._channel.tell("command", id=number, command=packed(command))
        try:
            return answer_of(command, await asyncio.wait_for(asked, PATIENCE))
        except TimeoutError as fault:
            raise OwnerGone("the process that owns the pair did not answer") from fault
        finally:
            del self._asked[number]

"""The pair's owner as a worker sees it: its parent, over the channel between them. A PairOwner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from passoproxy.errors import PairStoreFailure, PassoproxyError
from passoproxy.host.channel import Channel, Document
from passoproxy.ports import Followed
from passoproxy.tokens.passing import fault_of, followed_of

PATIENCE = 90.0
"""Seconds that the parent has for what it does about a 401: a refresh is among it."""

_GONE = "the process that owns the pair is gone"


class ParentOwner:
    """`take` is given what the parent says of the pair; `end` when it says nothing any more."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._newest: Followed | None = None
        self._news = asyncio.Event()
        self._asked: dict[int, asyncio.Future[int]] = {}
        self._number = 0
        self._ended = False

    def take(self, document: Document) -> None:
        """A `followed` or `renewed` of the parent's. Raises PairStoreFailure for what is none."""
        if document["kind"] == "followed":
            self._newest = followed_of(document.get("followed"))
            self._news.set()
        elif (asked := self._asked.get(document["id"])) is not None and not asked.done():
            fault = document.get("fault")
            if fault is None:
                asked.set_result(int(document["generation"]))
            else:
                asked.set_exception(_raised(fault))

    def end(self) -> None:
        """The parent is gone, or about to be."""
        self._ended = True
        self._news.set()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_exception(PairStoreFailure(_GONE))

    async def changes(self) -> AsyncIterator[Followed]:
        """See PairOwner; what was overtaken while nobody read is left out."""
        while True:
            await self._news.wait()
            if self._ended:
                raise PairStoreFailure(_GONE)
            self._news.clear()
            if self._newest is not None:
                yield self._newest

    async def renewed(self, generation: int, path: str = "", again: bool = False) -> int:
        """See PairOwner."""
        if self._ended:
            raise PairStoreFailure(_GONE)
        self._number += 1
        number = self._number
        asked = self._asked[number] = asyncio.get_running_loop().create_future()
        self._channel.tell("refused", id=number, generation=generation, path=path, again=again)
        try:
            return await asyncio.wait_for(asked, PATIENCE)
        except TimeoutError as fault:
            raise PairStoreFailure("the process that owns the pair did not answer") from fault
        finally:
            del self._asked[number]

    async def order(self, what: str, document: bytes = b"") -> Mapping[str, object]:
        """See PairOwner. Nobody gives orders to a worker, so that it has none to pass on."""
        raise PairStoreFailure("a worker passes no orders on")


def _raised(fault: Mapping[str, object]) -> PassoproxyError:
    after = fault.get("retry_after")
    return fault_of(
        str(fault.get("code")), 1, str(fault.get("detail")), float(after) if isinstance(after, int | float) else 5.0
    )

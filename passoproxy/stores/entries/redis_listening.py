"""Listening to what others do to the shared cache: one task, one connection that waits on the stream of changes.

After a cut it goes on where it was, so that a short one costs nothing; what the stream no longer has, or a store that came back empty, means
that anything may have changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from passoproxy.errors import EntryStoreFailure
from passoproxy.stores.entries.redis_link import RedisPath, ended
from passoproxy.stores.entries.redis_scripts import HEARD
from passoproxy.stores.entries.redis_view import View
from passoproxy.stores.entries.shared_page import ANYTHING, PURGED

BLOCK_SECONDS = 1.0
AGAIN_SECONDS = 0.25
_AT_ONCE = 512


class Listening:
    """`refresh` brings the view's `known` up to date, and gives the number of the last event. `path` is this task's own: it waits for long."""

    def __init__(
        self,
        path: RedisPath,
        prefix: str,
        name: str,
        view: View,
        refresh: Callable[[], Awaitable[int]],
        on_fault: Callable[[str], None],
    ) -> None:
        self._on_fault = on_fault
        self._path, self._prefix, self._name = path, prefix, name
        self._view, self._refresh = view, refresh
        self._at = b"$"
        self._number = self._awaited = 0
        self._task: asyncio.Task[None] | None = None

    def start(self, number: int, at: bytes) -> None:
        """Begins behind that event, at that place of the stream."""
        self._number, self._at = number, at
        self._task = asyncio.ensure_future(self._run())

    async def stop(self) -> None:
        """Ends, and lets go of its connection."""
        task, self._task = self._task, None
        if task is not None:
            await ended(task)
        await self._path.aclose()

    async def _run(self) -> None:
        while True:
            try:
                await self._listen()
            except EntryStoreFailure:
                await asyncio.sleep(AGAIN_SECONDS)
            except Exception as fault:
                self._on_fault(f"{type(fault).__name__}: {fault}")
                self._view.hear([ANYTHING])  # what was heard last may not have been taken up
                await asyncio.sleep(AGAIN_SECONDS)

    async def _listen(self) -> None:
        messages = await self._next()
        self._heed(messages)
        number = await self._refresh()
        if number < self._number:
            self._begin_again(number)
        elif not messages and self._number < self._awaited:
            self._number = number  # the stream was lost, and with it what others said in between
            self._view.hear([ANYTHING])
        self._awaited = 0 if messages else number
        await self._path.run(HEARD, self._prefix, self._name, self._number)

    async def _next(self) -> Sequence[tuple[bytes, Mapping[bytes, bytes]]]:
        async with self._path.asking() as client:
            found: Any = await client.xread(
                {f"{self._prefix}events": self._at}, count=_AT_ONCE, block=int(BLOCK_SECONDS * 1000)
            )
        return found[0][1] if found else ()

    def _heed(self, messages: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        for self._at, message in messages:
            number = int(message.get(b"n", b"0"))
            if number != self._number + 1:
                self._view.hear([ANYTHING])
            self._number = number
            if message.get(b"from") != self._name.encode():
                self._view.hear(_marks(message), changed=message.get(b"changed") != b"0")

    def _begin_again(self, number: int) -> None:
        """The store was emptied: events are counted anew."""
        self._number, self._at = number, b"0-0"
        self._view.set_back()
        self._view.hear([ANYTHING])


def _marks(message: Mapping[bytes, bytes]) -> list[int]:
    marks = [int(mark) for mark in message.get(b"marks", b"").split()]
    return [PURGED, *marks] if message.get(b"purge", b"") else marks

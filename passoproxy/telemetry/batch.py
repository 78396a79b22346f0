"""Answered requests, told in batches: what each costs is one append, and the loop is never stopped for more than a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import time

from passoproxy.core.events import Answered, RequestAnswered

MOST = 128
DELAY = 0.1
"""Seconds after the first of a batch in which the others are waited for (contract §3: a line comes at most 0.2 s late)."""

MOST_CHARACTERS = 8192
"""Of texts that clients choose and whose secrets are to be masked: half a microsecond each."""


class Batch:
    """Gathers at most `MOST` requests and tells `tell` of them in their order. Whoever reads what was told calls `flush` before."""

    __slots__ = ("_characters", "_gathered", "_tell", "_timer", "_wall")

    def __init__(self, tell: Callable[[list[Answered]], None], wall: Callable[[], float] = time) -> None:
        self._tell, self._wall = tell, wall
        self._gathered: list[Answered] = []
        self._characters = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, answered: Answered) -> None:
        """One more, of which no text has to be read that was not read before."""
        gathered = self._gathered
        gathered.append(answered)
        if len(gathered) >= MOST:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY, self._due)

    def add_unread(self, answered: Answered) -> None:
        """One more, whose texts may be long and are to be read."""
        told = answered[0]
        event = told if isinstance(told, RequestAnswered) else told.event
        self._characters += len(event.target) + len(event.method) + len(event.cache_status)
        self.add(answered)
        if self._characters > MOST_CHARACTERS:
            self.flush()

    def add_event(self, event: RequestAnswered) -> None:
        """One that was answered on the whole road."""
        self.add_unread((event, self._wall(), event.client, 0, event.duration, b""))

    def flush(self) -> None:
        """Tells of all until now."""
        if self._gathered:
            gathered, self._gathered, self._characters = self._gathered, [], 0
            self._tell(gathered)

    def _due(self) -> None:
        self._timer = None
        self.flush()

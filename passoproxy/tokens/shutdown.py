"""The keeper's end: how long a token request may still take once the end is near.

A request that has not been sent costs nothing and is dropped. One that was sent may have spent the refresh token, so its answer is waited for
until the deadline; after that its record stays on the disk, as that of a lost answer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

from passoproxy.core.oauth.token_response import Lost, Unsent
from passoproxy.ports import Clock, RawAnswer
from passoproxy.tokens.inbox import ended, first_of
from passoproxy.tokens.provider_client import Failure

LEAST_TIME = 3.0
"""With fewer seconds left before a stop no refresh is begun: an answer that comes too late is a lost one."""

STOPPING = "passoproxy is shutting down"


class Shutdown:
    """Has not begun until `begin`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._begun = asyncio.Event()
        self._deadline = math.inf
        self.dropped = False
        """Whether a request was dropped because of it."""

    @property
    def begun(self) -> bool:
        return self._begun.is_set()

    @property
    def left(self) -> float:
        """Seconds until the deadline, infinite while there is none."""
        return max(0.0, self._deadline - self._clock.monotonic())

    def begin(self, within: float) -> None:
        """The keeper ends within so many seconds."""
        self._deadline = self._clock.monotonic() + within
        self._begun.set()

    async def bounded(
        self, question: Awaitable[RawAnswer | Failure], is_sent: Callable[[], bool]
    ) -> RawAnswer | Failure:
        """What comes of a token request that begins now. `is_sent` tells whether its first byte may have left."""
        asked = asyncio.ensure_future(question)
        try:
            if not self.begun:
                await first_of(asyncio.wait([asked]), self._begun.wait())
                if not asked.done() and not is_sent():
                    self.dropped = True
                    return Unsent(STOPPING)
            if not asked.done():
                await first_of(asyncio.wait([asked]), self._clock.sleep(self.left))
            if asked.done():
                return asked.result()
            return Lost(f"{STOPPING}, and no answer came until then") if is_sent() else Unsent(STOPPING)
        finally:
            await ended(asked)

"""The surface that all holders of the access token share: the keeper, a follower, the custody of either, and a static token."""

from __future__ import annotations

import asyncio
import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import TypeVar

from passoproxy.core.oauth.chain import Access
from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.errors import Refusal
from passoproxy.ports import Clock, Followed
from passoproxy.tokens.commands import Command, Renew401
from passoproxy.tokens.waits import first_of

T = TypeVar("T")

HEARTBEAT = 1.0
"""Seconds after which an unchanged state is told again, so that a silent owner is noticed and a runway stays right."""

CALLER_PATIENCE = 10.0
"""Seconds that a request waits for a bearer that is on its way."""


class Holder(ABC):
    """A BearerSource that takes commands. `open`, then `run` as a task, then `close`."""

    role = "owner"
    """`owner`, or `following`."""

    def __init__(self, clock: Clock, partition: str) -> None:
        self._clock = clock
        self.partition = partition
        """The identity's digest; stays the same through every renewal."""
        self.usable_until = -math.inf
        """Until when a bearer is usable, in epoch seconds as of the last change, -inf without one. inf if that has no end, or no runway is known."""
        self.serving = object()
        """Another object after each change of the partition, and whenever `usable_until` moves back: what an answer rests on."""
        self._served_as = partition
        self.turn = asyncio.Event()
        """Set at the next change; a fresh event takes its place."""
        self.on_change: Callable[[], None] | None = None
        self._closing = asyncio.Event()

    @abstractmethod
    def current(self) -> Bearer | None:
        """The bearer that is usable now, without waiting."""

    @abstractmethod
    def snapshot(self) -> TokenSnapshot:
        """The pair as it is shown."""

    @abstractmethod
    def may_come(self, within: float) -> bool:
        """Whether a bearer may come within so many seconds, while there is none."""

    @abstractmethod
    def refusal(self) -> Refusal:
        """Why there is no bearer, for a client."""

    @abstractmethod
    async def execute(self, command: Command[T]) -> T:
        """Does what `command` says and gives its answer. A caller that is cancelled cancels nothing."""

    @abstractmethod
    async def open(self) -> None:
        """Raises PairStoreOwned and CannotCreate if the pair's store cannot be taken."""

    @abstractmethod
    async def run(self) -> None:
        """The holder's task, until `close`."""

    async def close(self) -> None:
        """Lets the step under way finish, and ends `run`."""
        self._closing.set()
        self._tell()

    def runway(self, *, unless_usable: bool = False) -> int | None:
        """Whole seconds until a person is needed; None if that is not known or no person ever is, with `unless_usable` also beside a usable bearer."""
        if unless_usable and self._bearer_until() > -math.inf:
            return None
        left = self.snapshot().runway_seconds
        return None if left is None else max(0, int(left))

    def _bearer_until(self) -> float:
        bearer, shown = self.current(), self.snapshot()
        if shown.runway_seconds is None:
            return math.inf
        # a bearer of the pair that is shown as over is one that the origin refuses; an older or newer one is a former owner's
        if bearer is None or (bearer.generation == shown.generation and shown.access != Access.VALID):
            return -math.inf
        return math.inf if bearer.until is None else bearer.until

    async def bearer(self) -> Bearer:
        """A usable bearer; waits up to 10 s for one that is on its way. Raises AuthorizationRequired or TokenUnavailable."""
        end = self._clock.monotonic() + CALLER_PATIENCE
        while (bearer := self.current()) is None:
            left = end - self._clock.monotonic()
            if left <= 0 or not self.may_come(left):
                raise self.refusal()
            await first_of(self.turn.wait(), self._clock.sleep(left))
        return bearer

    async def renewed(self, refused: Bearer, path: str = "", again: bool = False) -> Bearer | None:
        """After a 401: another bearer, None if there is none to be had. Raises AuthorizationRequired while the chain is dead.

        It is newer, or one that a former owner saved before the refused one.
        """
        bearer = self.current()
        if bearer is None or bearer.generation <= refused.generation:
            await self.execute(Renew401(refused.generation, path, again))
            bearer = self.current()
        return None if bearer is None or bearer.generation == refused.generation else bearer

    def followed(self) -> Followed:
        """What processes that follow this one may know."""
        return Followed(self.current(), self.partition, asdict(self.snapshot()))

    async def changes(self) -> AsyncIterator[Followed]:
        """What is so now, after every change, and at least once a second, until `close`."""
        while not self._closing.is_set():
            turn = self.turn  # taken before the look, so that a change while the reader is busy is not missed
            yield self.followed()
            await first_of(turn.wait(), self._closing.wait(), self._clock.sleep(HEARTBEAT))

    async def news(self, seconds: float) -> None:
        """Waits until there may be something new to see, for at most so many seconds."""
        await first_of(self.turn.wait(), self._clock.sleep(seconds))

    def _tell(self) -> None:
        """Wakes everything that waits for news."""
        until, before = self._bearer_until(), self.usable_until
        if until < before or self.partition != self._served_as:
            self.serving = object()
        self.usable_until, self._served_as = until, self.partition
        turn, self.turn = self.turn, asyncio.Event()
        turn.set()
        if self.on_change is not None:
            self.on_change()

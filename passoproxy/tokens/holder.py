"""The surface that all holders of the access token share: the keeper, a follower, the custody of either, and a static token."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import TypeVar

from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.ports import Clock, Followed
from passoproxy.tokens.commands import Command, Renew401
from passoproxy.tokens.inbox import first_of

T = TypeVar("T")

HEARTBEAT = 1.0
"""Seconds after which an unchanged state is told again, so that a silent owner is noticed and a runway stays right."""


class Holder(ABC):
    """A BearerSource that takes commands. `open`, then `run` as a task, then `close`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._turn = asyncio.Event()
        self._closing = asyncio.Event()

    @property
    def role(self) -> str:
        """`owner`, or `following`."""
        return "owner"

    @property
    def turn(self) -> asyncio.Event:
        """Set at the next change; a fresh event takes its place."""
        return self._turn

    @property
    @abstractmethod
    def partition(self) -> str:
        """The identity's digest; stays the same through every renewal."""

    @abstractmethod
    def current(self) -> Bearer | None:
        """The bearer that is usable now, without waiting."""

    @abstractmethod
    def snapshot(self) -> TokenSnapshot:
        """The pair as it is shown."""

    @abstractmethod
    async def bearer(self) -> Bearer:
        """A usable bearer; waits up to 10 s for one that is on its way. Raises AuthorizationRequired or TokenUnavailable."""

    @abstractmethod
    async def execute(self, command: Command[T]) -> T:
        """Does what `command` says and gives its answer. A caller that is cancelled cancels nothing."""

    @abstractmethod
    async def open(self) -> None:
        """Raises PairStoreOwned and CannotCreate if the pair's store cannot be taken."""

    @abstractmethod
    async def run(self) -> None:
        """The holder's task, until `close`."""

    @abstractmethod
    async def close(self) -> None:
        """Lets the step under way finish, and ends `run`."""

    async def renewed(self, refused: Bearer, path: str = "", again: bool = False) -> Bearer | None:
        """After a 401: a newer bearer, None if there is none to be had. Raises AuthorizationRequired while the chain is dead."""
        if newer := self._newer_than(refused):
            return newer
        await self.execute(Renew401(refused.generation, path, again))
        return self._newer_than(refused)

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

    def _newer_than(self, refused: Bearer) -> Bearer | None:
        bearer = self.current()
        return bearer if bearer is not None and bearer.generation > refused.generation else None

    def _tell(self) -> None:
        """Wakes everything that waits for news."""
        self._turn.set()
        self._turn = asyncio.Event()

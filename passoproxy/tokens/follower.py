"""A process that does not own the pair: it serves with the owner's access token and never sees a refresh token.

Commands go to the owner; while it is gone, the last access token serves to its end. Which process becomes the owner then is decided in
`failover`; how the owner is reached is a PairOwner's business.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncGenerator, Awaitable
from dataclasses import replace
from typing import Any, TypeVar

from passoproxy.core.events import ChainChanged, TaskFailed
from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.oauth.snapshot import UNTOLD, TokenSnapshot, aged, left_alone, of_another, told
from passoproxy.errors import CommandFailure, OwnerGone, PairStoreFailure, PassoproxyError, Refusal, TokenUnavailable
from passoproxy.ports import Clock, Followed, Observer, nobody
from passoproxy.tokens.commands import HERE, Command, Leave, Login, LoginPending, PairOwner, Refill, Renew401
from passoproxy.tokens.holder import CALLER_PATIENCE, Holder
from passoproxy.tokens.state import TOLERATED_DRIFT, OpenLogins, refusal_of
from passoproxy.tokens.waits import ended, first_of

T = TypeVar("T")

CALL_AGAIN = 0.1
"""An owner that is gone is called again after so many seconds."""

FIRST_WORD = 2.0
"""Seconds that `open` waits for what the owner says first."""

ARRIVAL = 2.0
"""What the owner says it has in use arrives within so many seconds."""

SILENCE = 8.0
"""An owner speaks once a second; one that has said nothing for so many seconds answers no question either. With ARRIVAL that is ten seconds."""

ALONE = 30.0
"""An owner that is gone for so many seconds has had its successors' time too: no process renews the pair."""


class Follower(Holder):
    """Serves with what `owner` tells.

    `known` is what was known of the pair before, else `partition` counts until the owner is heard. An owner whose pair is of another `client`
    than ours (`Pair.client`; '' for any) is heard and not followed: nothing of its pair is used, and no command goes to it.
    """

    role = "following"

    def __init__(
        self,
        *,
        owner: PairOwner,
        clock: Clock,
        partition: str = "",
        known: Followed | None = None,
        observe: Observer = nobody,
        client: str = "",
    ) -> None:
        super().__init__(clock, partition)
        self._owner, self._client, self._observe = owner, client, observe
        self._unknown = Followed(None, partition)
        self._followed = self._unknown
        self._usable_until: float | None = None
        self._shown = UNTOLD
        self._told_at = clock.monotonic()
        self._fault = ""
        self._logins = OpenLogins()
        self._name = secrets.token_hex(8)
        self._to_pass_on = asyncio.Event()
        self.left = asyncio.Event()
        """Set while the owner is not there."""
        self.left.set()
        self._left_at = clock.monotonic()
        if known is not None:
            self._take(known)

    # ---- what every task may do ------------------------------------------------------------------------------------------

    def current(self) -> Bearer | None:
        """The owner's access token, for as long as it is usable, whether or not the owner is there."""
        if self._usable_until is None or self._clock.monotonic() < self._usable_until:
            return self._followed.bearer
        return None

    def snapshot(self) -> TokenSnapshot:
        now = self._clock.wall()
        shown = aged(self._shown, self._clock.monotonic() - self._told_at, now)
        if now < self._logins.until:
            shown = replace(shown, login_until=max(self._logins.until, shown.login_until or 0.0))
        if self._fault:
            shown = replace(shown, last_error=self._fault)
        return left_alone(shown) if self._gone_for() >= ALONE else shown

    @property
    def login_until(self) -> float:
        """Until when logins that were begun in this process are open, in epoch seconds; 0 for never."""
        return self._logins.of(HERE)

    def refusal(self) -> Refusal:
        if self._shown is UNTOLD:
            return TokenUnavailable(f"no usable access token: {self.snapshot().reason}", 5)
        return refusal_of(self.snapshot(), self._clock.wall())

    async def execute(self, command: Command[T]) -> T:
        """Has the owner do it; answers when the new token is in use here. Raises as the owner does, OwnerGone while there is no owner."""
        answer: Any
        match command:
            case LoginPending(until, by):
                answer = None
                if until != self._logins.of(by):
                    self._logins.put(by, until)
                    self._to_pass_on.set()
                    self._tell()
            case Refill() | Leave():  # the owner renews in time, and nothing is under way here
                answer = False if isinstance(command, Refill) else None
            case Renew401():
                answer = await self._renew(command)
            case _:
                answer = await self._passed_on(command)
        return answer  # type: ignore[no-any-return]

    async def _passed_on(self, command: Command[T]) -> T:
        if self._is_anothers:
            raise CommandFailure(f"{self._shown.reason}; {self._shown.remedy}")
        try:
            answer = await self._answered(self._owner.execute(command))
        except OwnerGone as fault:
            raise OwnerGone(f"the process that owns the pair does not answer ({fault}); ask again") from fault
        if isinstance(answer, TokenSnapshot):
            await self._arrived(answer.generation)
        if isinstance(command, Login):
            self._logins.clear()
        return answer

    async def _renew(self, command: Renew401) -> int:
        if not self._is_anothers:
            try:
                generation = await self._answered(self._owner.execute(command))
            except OwnerGone:
                # the owner is gone in the midst of it: wait a while for another one, this process itself perhaps
                await first_of(self.turn.wait(), self._closing.wait(), self._clock.sleep(ARRIVAL))
            except CommandFailure:
                pass  # the owner does not understand it (another version): then the 401 is the answer
            else:
                if generation > command.generation:
                    await self._arrived(generation)
        bearer = self.current()
        return bearer.generation if bearer is not None else 0

    # ---- its life --------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Hears the owner for the first time; one that says nothing within two seconds is waited for by `run`."""
        await first_of(self._hear_once(), self._clock.sleep(FIRST_WORD))

    async def run(self) -> None:
        await first_of(self._closing.wait(), self._hear(), self._pass_on())

    async def _hear_once(self) -> None:
        with contextlib.suppress(PairStoreFailure):
            async with contextlib.aclosing(_generator(self._owner)) as changes:
                async for followed in changes:
                    self._take(followed)
                    return

    async def _hear(self) -> None:
        while True:
            try:
                async with contextlib.aclosing(_generator(self._owner)) as changes:
                    async for followed in changes:
                        self._take(followed)
                        if self.left.is_set() and self._logins.until > self._clock.wall():
                            self._to_pass_on.set()  # another owner, perhaps, that has not heard of it
                        self.left.clear()
                        self._fault = ""
                self._gone("the pair's owner has ended")
            except PairStoreFailure as fault:
                self._gone(str(fault))
            except Exception as fault:
                # a follower that hears nothing more would serve to the end of this token, and no further
                self._observe(TaskFailed("following", f"{type(fault).__name__}; the pair's owner is called again"))
                self._gone(f"what the pair's owner told cannot be read ({type(fault).__name__})")
            await self._clock.sleep(CALL_AGAIN)

    async def _pass_on(self) -> None:
        """Tells the owner of logins that were begun here, and of those that came to nothing."""
        while True:
            await self._to_pass_on.wait()
            self._to_pass_on.clear()
            if self._is_anothers:
                continue
            try:
                await self._owner.execute(LoginPending(self._logins.until, self._name))
            except PassoproxyError:
                pass  # it is a courtesy to clients of other processes
            except Exception as fault:  # and no reason to hear nothing more
                self._observe(TaskFailed("following", f"{type(fault).__name__} while the owner was told of a login"))

    # ---- small steps -----------------------------------------------------------------------------------------------------

    def _take(self, followed: Followed) -> None:
        before, self._shown, self._told_at = self._shown, told(followed.snapshot), self._clock.monotonic()
        if self._is_anothers:
            followed, self._shown = self._unknown, of_another(self._shown.client)
        news, was, self._usable_until = followed.bearer, self._followed.bearer, None
        if news is not None and news.until is not None:
            if was is not None and was.until is not None and abs(was.until - news.until) <= TOLERATED_DRIFT:
                # told by an owner with another clock, its moments move a little each time, and kept answers rest on this one
                followed = replace(followed, bearer=was if replace(was, until=news.until) == news else news)
            self._usable_until = self._told_at + news.until - self._clock.wall()
        self._followed, self.partition = followed, followed.partition
        if self._shown.generation > before.generation and self._shown.login_until is None:
            self._logins.clear()  # a login has brought its pair; a renewal leaves those that are open as they are
        now = self._shown
        if (now.access, now.chain, now.reason) != (before.access, before.chain, before.reason):
            self._observe(ChainChanged(now.access, now.chain, now.reason, now.runway_seconds, now.remedy))
        self._tell()

    def _gone(self, fault: str) -> None:
        self._fault = fault
        if not self.left.is_set():
            self._left_at = self._clock.monotonic()
            self.left.set()
            self._tell()

    def _gone_for(self) -> float:
        """Seconds that the owner has been gone, 0 while it is there."""
        return self._clock.monotonic() - self._left_at if self.left.is_set() else 0.0

    def may_come(self, within: float) -> bool:
        """See Holder: the owner is about to renew, or has just gone and another takes its place."""
        due = self._shown.next_refresh_at
        is_due = due is not None and due - self._clock.wall() <= within
        is_succeeded = self.left.is_set() and self._gone_for() < CALLER_PATIENCE
        return not self._closing.is_set() and (is_succeeded or (is_due and not self.left.is_set()))

    @property
    def _is_anothers(self) -> bool:
        """Whether the owner's pair is of another client or token endpoint than the configuration here."""
        return self._client != "" and self._shown.client not in ("", self._client)

    async def _answered(self, question: Awaitable[T]) -> T:
        """The owner's answer, however long it takes. Raises OwnerGone if the owner is gone, or is silent."""
        asked, asked_at = asyncio.ensure_future(question), self._clock.monotonic()
        try:
            while not asked.done():
                # one that was silent before may just have woken
                left = max(self._told_at + SILENCE, asked_at + ARRIVAL) - self._clock.monotonic()
                if left <= 0:
                    raise OwnerGone(f"it has said nothing for {self._clock.monotonic() - self._told_at:.0f} s")
                await first_of(asyncio.wait([asked]), self._clock.sleep(left))
            return asked.result()
        finally:
            await ended(asked)

    async def _arrived(self, generation: int) -> None:
        """Waits until what the owner has in use is in use here too."""
        end = self._clock.monotonic() + ARRIVAL
        while self._shown.generation < generation and not self._closing.is_set():
            left = end - self._clock.monotonic()
            if left <= 0:
                return
            await first_of(self.turn.wait(), self._clock.sleep(left))


async def _generator(owner: PairOwner) -> AsyncGenerator[Followed, None]:
    """`changes` as a generator, which can be closed whatever the owner made it of."""
    async for followed in owner.changes():
        yield followed

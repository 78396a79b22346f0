"""Which process holds the pair: a keeper here while the pair is ours, a follower here while another process owns it, behind one surface.

At the start the store is asked for the ownership; if another process has it, this one follows, and takes over when the owner is gone: a new
keeper opens the store, recovers what the owner left, and replaces the follower. Callers notice only a newer generation. An owner that loses
its ownership (a lease that ended, see `step_down`) follows again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from passoproxy.core.events import OwnershipChanged, Warned
from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.errors import OwnerGone, PairStoreOwned, PassoproxyError, Refusal
from passoproxy.ports import Clock, Followed, Observer, nobody
from passoproxy.tokens.commands import Command, Leave, Login, LoginPending, Logout, PairOwner, Renew401
from passoproxy.tokens.follower import Follower
from passoproxy.tokens.holder import Holder
from passoproxy.tokens.inbox import ended, first_of
from passoproxy.tokens.keeper import CALLER_PATIENCE, Keeper

T = TypeVar("T")

LOOK_EVERY = 1.0
"""Seconds between two tries to become the owner while one is there: a lock that was left without a word is found so."""

TRY_EVERY = 0.1
"""Seconds between two tries while the owner is gone."""


class Custody(Holder):
    """`keep` makes a keeper, anew for each try to own the pair. `owner` is how the owner is reached while it is another process; without it
    nothing is followed, and `open` raises PairStoreOwned. `partition` counts before the first login.
    """

    def __init__(
        self,
        *,
        keep: Callable[[], Keeper],
        owner: PairOwner | None,
        clock: Clock,
        partition: str = "",
        observe: Observer = nobody,
    ) -> None:
        super().__init__(clock)
        self._keep = keep
        self._owner = owner
        self._partition = partition
        self._observe = observe
        keeper = keep()
        self._client = keeper.client
        self._held: Keeper | Follower = keeper
        self._spare: Bearer | None = None
        self._lost = asyncio.Event()
        self._leaving = False
        self._ended = asyncio.Event()
        self._ended.set()
        self._complaint = ""

    # ---- what every task may do ------------------------------------------------------------------------------------------

    @property
    def role(self) -> str:
        return self._held.role

    @property
    def turn(self) -> asyncio.Event:
        return self._held.turn

    def current(self) -> Bearer | None:
        """The bearer in use, or the one that the former owner left while that is newer and still good."""
        spare, own = self._spare, self._held.current()
        if spare is None:
            return own
        is_ended = spare.until is not None and spare.until <= self._clock.wall()
        if is_ended or (own is not None and own.generation >= spare.generation):
            self._spare = None
            return own
        return spare

    @property
    def partition(self) -> str:
        return self._held.partition

    def snapshot(self) -> TokenSnapshot:
        return self._held.snapshot()

    async def bearer(self) -> Bearer:
        while True:
            held = self._held
            try:
                return self.current() or await held.bearer()
            except Refusal:
                if held is self._held:
                    raise

    async def renewed(self, refused: Bearer, path: str = "", again: bool = False) -> Bearer | None:
        if self._spare is not None and refused.generation >= self._spare.generation:
            self._spare, other = None, self._held.current()
            if other is not None and other.generation < refused.generation:
                return other  # what the former owner saved last, and the origin has not refused yet
        while True:
            held = self._held
            try:
                newer = await held.renewed(refused, path, again)
            except Refusal:
                if held is self._held:
                    raise
                continue
            if newer is not None or held is self._held:
                return newer

    async def execute(self, command: Command[T]) -> T:
        """See Holder. A login's answer is given only once, so where the pair has no owner for a moment it waits for the next one."""
        answer: Any
        match command:
            case Renew401(generation, path, again):
                newer = await self.renewed(Bearer("", generation), path, again) or self.current()
                answer = newer.generation if newer is not None else 0
            case Login():
                answer = await self._taken(command)
            case _:
                self._leaving = self._leaving or isinstance(command, Leave)
                answer = await self._held.execute(command)
        if isinstance(command, Logout):
            self._spare = None
        return answer  # type: ignore[no-any-return]

    async def _taken(self, login: Login) -> TokenSnapshot:
        end = self._clock.monotonic() + CALLER_PATIENCE
        while True:
            turn = self.turn
            try:
                return await self._held.execute(login)
            except (Refusal, OwnerGone):
                if self._closing.is_set() or self._clock.monotonic() >= end:
                    raise
            await first_of(turn.wait(), self._closing.wait(), self._clock.sleep(TRY_EVERY))

    def step_down(self) -> None:
        """The ownership is lost: what is known serves on, and the new owner is followed. For stores whose ownership can end; in the loop's thread."""
        self._lost.set()

    # ---- its life --------------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Becomes the owner, or follows the one there is. Raises CannotCreate, and PairStoreOwned if nothing may be followed."""
        assert isinstance(self._held, Keeper)
        try:
            await self._held.open()
        except PairStoreOwned as owned:
            if self._owner is None:
                raise
            await self._begin_following(str(owned), None)

    async def run(self) -> None:
        self._ended.clear()
        try:
            while not self._closing.is_set():
                if isinstance(self._held, Keeper):
                    await self._keep_it(self._held)
                else:
                    await self._follow(self._held)
        finally:
            self._ended.set()

    async def close(self) -> None:
        self._closing.set()
        held = self._held
        await held.close()
        await self._ended.wait()
        if self._held is not held:  # taken over in the same moment
            await self._held.close()

    # ---- keeping ---------------------------------------------------------------------------------------------------------

    async def _keep_it(self, keeper: Keeper) -> None:
        running = asyncio.ensure_future(keeper.run())
        try:
            await first_of(asyncio.wait([running]), self._lost.wait())
            why = "the ownership ended"
            if running.done() and not running.cancelled() and (fault := running.exception()) is not None:
                if not isinstance(fault, PairStoreOwned) or self._owner is None:
                    raise fault
                self._lost.set()
                why = str(fault)
        finally:
            running.cancel()  # it finishes the step that it is in
            await asyncio.wait([running])
        if self._lost.is_set() and not self._closing.is_set():
            self._lost.clear()
            await self._begin_following(why, self.followed())
            keeper.turn.set()
            with contextlib.suppress(PassoproxyError):  # what it could not save any more, it may not
                await keeper.close()

    # ---- following -------------------------------------------------------------------------------------------------------

    async def _begin_following(self, why: str, known: Followed | None) -> None:
        assert self._owner is not None
        follower = Follower(
            owner=self._owner,
            clock=self._clock,
            partition=self._partition,
            known=known,
            observe=self._observe,
            client=self._client,
        )
        await follower.execute(LoginPending(self._held.login_until))
        self._held, self._spare = follower, None
        self._observe(OwnershipChanged("following", why))
        await follower.open()

    async def _follow(self, follower: Follower) -> None:
        running = asyncio.ensure_future(follower.run())
        try:
            while not self._closing.is_set():
                await first_of(self._closing.wait(), follower.left.wait(), self._clock.sleep(LOOK_EVERY))
                if self._closing.is_set() or (not self._leaving and await self._took_over(follower)):
                    return
                if follower.left.is_set():
                    await first_of(self._closing.wait(), self._clock.sleep(TRY_EVERY))
        finally:
            await follower.close()
            await ended(running)

    async def _took_over(self, follower: Follower) -> bool:
        """Tries to become the owner; whether that is so now."""
        keeper = self._keep()
        try:
            await keeper.open(above=follower.snapshot().generation)
        except PairStoreOwned:
            self._complaint = ""
            return False
        except PassoproxyError as fault:
            await keeper.close()
            if str(fault) != self._complaint:
                self._complaint = str(fault)
                self._observe(Warned("take_over_failed", f"the pair's owner is gone and cannot be replaced: {fault}"))
            return False
        if self._leaving:  # said to the follower meanwhile; a keeper that knows nothing of it would begin a refresh
            await keeper.close()
            return False
        # what the owner could not save any more may be newer than what it left
        self._spare = follower.current()
        await keeper.execute(LoginPending(follower.login_until))
        self._held = keeper
        self._observe(OwnershipChanged("owner", "the one before is gone"))
        return True

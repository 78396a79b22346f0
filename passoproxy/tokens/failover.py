"""Which process holds the pair: a keeper here while the pair is ours, a follower here while another process owns it, behind one surface.

At the start the store is asked for the ownership; if another process has it, this one follows, and takes over when the owner is gone: a new
keeper opens the store, recovers what the owner left, and replaces the follower. Callers notice only a newer generation. An owner that loses
its ownership (a lease that ended, see `step_down`) follows again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

from passoproxy.core.events import OwnershipChanged, Warned
from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.errors import OwnerGone, PairStoreOwned, PassoproxyError, Refusal
from passoproxy.ports import Clock, Followed, Observer, nobody
from passoproxy.tokens.commands import Command, Leave, Login, LoginPending, PairOwner, Renew401
from passoproxy.tokens.follower import Follower
from passoproxy.tokens.holder import CALLER_PATIENCE, Holder
from passoproxy.tokens.keeper import Keeper
from passoproxy.tokens.waits import ended, first_of

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
        super().__init__(clock, partition)
        self._keep, self._owner, self._observe = keep, owner, observe
        self._unknown = partition
        self._held: Keeper | Follower = keep()
        self._client = self._held.client
        self._hold(self._held)
        self._lost = asyncio.Event()
        self._leaving = False
        self._ended = asyncio.Event()
        self._ended.set()
        self._complaint = ""

    def _hold(self, held: Keeper | Follower) -> None:
        self._held.on_change, held.on_change, self._held = None, self._changed, held
        self._changed()

    def _changed(self) -> None:
        self.partition, self.role = self._held.partition, self._held.role
        self._tell()

    # ---- what every task may do ------------------------------------------------------------------------------------------

    def current(self) -> Bearer | None:
        return self._held.current()

    def snapshot(self) -> TokenSnapshot:
        return self._held.snapshot()

    def followed(self) -> Followed:
        return self._held.followed()

    def may_come(self, within: float) -> bool:
        return self._held.may_come(within)

    def refusal(self) -> Refusal:
        return self._held.refusal()

    async def execute(self, command: Command[T]) -> T:
        """See Holder. A 401 that changed hands is asked again. A login's answer is given only once, so it waits for the next owner."""
        self._leaving = self._leaving or isinstance(command, Leave)
        end = self._clock.monotonic() + CALLER_PATIENCE
        while True:
            held, turn = self._held, self.turn
            try:
                answer = await held.execute(command)
            except (Refusal, OwnerGone):
                if isinstance(command, Login):
                    if self._closing.is_set() or self._clock.monotonic() >= end:
                        raise
                    await first_of(turn.wait(), self._closing.wait(), self._clock.sleep(TRY_EVERY))
                elif not isinstance(command, Renew401) or held is self._held:
                    raise
            else:
                current = self.current()
                newest = current.generation if current is not None else 0
                if not isinstance(command, Renew401) or held is self._held or newest > command.generation:
                    return answer

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
        else:
            self._changed()

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
            keeper.state.no_longer_withdrawn("another process holds the pair now")
            await self._begin_following(why, self.followed())
            with contextlib.suppress(PassoproxyError):  # what it could not save any more, it may not
                await keeper.close()

    # ---- following -------------------------------------------------------------------------------------------------------

    async def _begin_following(self, why: str, known: Followed | None) -> None:
        assert self._owner is not None
        follower = Follower(
            owner=self._owner,
            clock=self._clock,
            partition=self._unknown,
            known=known,
            observe=self._observe,
            client=self._client,
        )
        await follower.execute(LoginPending(self._held.login_until))
        self._hold(follower)
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
            self._complain_no_more()
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
        self._complain_no_more()
        keeper.succeed(follower.current(), follower.partition)
        await keeper.execute(LoginPending(follower.login_until))
        self._hold(keeper)
        self._observe(OwnershipChanged("owner", "the one before is gone"))
        return True

    def _complain_no_more(self) -> None:
        if self._complaint:
            self._complaint = ""
            self._observe(Warned("take_over_failed", "the pair has an owner again", over=True))

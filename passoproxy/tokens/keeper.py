"""The keeper: the one task that owns the pair, renews it in time whether or not anybody asks, and saves before it publishes.

Everybody else looks (`current`, `snapshot`) or places an order (`refresh`, `install`, `logout`, `renewed`) and waits; a caller that leaves
cancels nothing. What attempts come to is `renewing`, what a crash left `recovering`, what orders come to `obeying`, what is held `holding`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from passoproxy.core.events import TaskFailed, Warned
from passoproxy.core.oauth.chain import Access
from passoproxy.core.oauth.importing import document_of, read_import
from passoproxy.core.oauth.pair import Bearer, Pair
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.core.oauth.terms import Terms
from passoproxy.errors import AnswerUnusable, CommandFailure, PairStoreOwned
from passoproxy.ports import Clock, Followed, LoggedOut, Observer, PairStore, RawAnswer, nobody
from passoproxy.tokens.asking import Asking
from passoproxy.tokens.holding import Holding
from passoproxy.tokens.imports import Imports
from passoproxy.tokens.obeying import Obeying, Withdrawn, nothing_to_do
from passoproxy.tokens.open_logins import HERE
from passoproxy.tokens.orders import Orders, first_of
from passoproxy.tokens.recovering import Recovering
from passoproxy.tokens.refreshing import Refreshing
from passoproxy.tokens.renewing import Renewing
from passoproxy.tokens.saving import RETRY_INTERVAL, Blocking, Saving, in_thread
from passoproxy.tokens.seeding import Seeding
from passoproxy.tokens.shutdown import Shutdown

CALLER_PATIENCE = 10.0
"""Seconds that a request waits for a bearer that is on its way."""

CLOCK_LOOK = 15.0
"""The task looks at the clocks at least this often, in seconds."""


class Keeper:
    """Holds the pair and keeps it alive. `open`, then `run` as a task, then `close`. A BearerSource.

    `run` raises PairStoreOwned where the store says that the ownership was lost.
    """

    def __init__(
        self,
        *,
        asking: Asking,
        store: PairStore,
        terms: Terms,
        clock: Clock,
        chance: Callable[[], float],
        salt: Callable[[], str],
        observe: Observer = nobody,
        blocking: Blocking = in_thread,
        seed: Callable[[], bytes] | None = None,
        withdrawn: Withdrawn = nothing_to_do,
        upstream: str = "",
    ) -> None:
        """`chance` gives numbers from 0 to 1, `salt` random text that tells identities apart, `upstream` is where the access token goes.

        `seed` reads the pair that is taken up where nothing is stored (see `seeding`); `withdrawn` is awaited when a grant was withdrawn,
        before anybody is refused for it.
        """
        self._terms = terms
        self._clock = clock
        self._salt = salt
        self._observe = observe
        self._saving = Saving(store, observe, blocking)
        self._holding = Holding(asking.provider, asking.client.client_id, terms, clock, observe, upstream)
        self._shutdown = Shutdown(clock)
        self._refreshing = Refreshing(asking, self._saving, terms, salt, self._holding.steady, self._shutdown)
        self._renewing = Renewing(
            self._holding, self._saving, self._refreshing, self._shutdown, terms, clock, chance, observe, self._tell
        )
        self._imports = Imports(
            self._holding,
            self._saving,
            self._refreshing,
            self._renewing,
            self._shutdown,
            terms,
            clock,
            chance,
            observe,
        )
        seeding = Seeding(self._holding, self._renewing, terms, salt, observe, seed)
        self._recovering = Recovering(
            self._holding, self._saving, self._refreshing, self._renewing, terms, seeding, observe
        )
        self._obeying = Obeying(
            asking,
            self._holding,
            self._saving,
            self._refreshing,
            self._renewing,
            self._imports,
            self._shutdown,
            terms,
            clock,
            observe,
            withdrawn,
        )
        self._orders = Orders(clock)
        self.turn = asyncio.Event()
        """Set at the next change, and another one put in its place."""
        self._ended = asyncio.Event()
        self._ended.set()

    role = "owner"

    # ---- what everybody may do -----------------------------------------------------------------------------------------

    def current(self) -> Bearer | None:
        """The bearer that is usable now, without waiting."""
        return self._holding.current()

    @property
    def client(self) -> str:
        """Whose pair it keeps, as `Pair.client`."""
        return self._holding.client

    @property
    def partition(self) -> str:
        """The identity's digest; stays the same through every renewal."""
        return self._holding.partition

    def snapshot(self) -> TokenSnapshot:
        """The pair as it is shown."""
        return self._holding.snapshot()

    def followed(self) -> Followed:
        """What those who follow this process may know."""
        return Followed(self.current(), self.partition, asdict(self.snapshot()))

    def add_login_pending(self, until: float) -> None:
        """A person is logging in, until `until` (epoch seconds) at the latest: clients are told to come again, not to call somebody."""
        self._open_logins(max(self._holding.logins.of(HERE), self._holding.steady(until)), HERE)

    def limit_login_pending(self, until: float) -> None:
        """No login of this process is open any longer than until `until` (epoch seconds): one was denied, or failed."""
        self._open_logins(min(self._holding.logins.of(HERE), self._holding.steady(until)), HERE)

    def set_login_pending(self, until: float, by: str) -> None:
        """The logins that were begun at `by`, another process, are open until `until` (epoch seconds) and no longer."""
        self._open_logins(self._holding.steady(until), by)

    @property
    def login_until(self) -> float:
        """Until when logins that were begun in this process are open, in epoch seconds; 0 for never."""
        return self._holding.logins.of(HERE)

    async def news(self, seconds: float) -> None:
        """Waits until there may be something new to see, for at most so many seconds."""
        await first_of(self.turn.wait(), self._clock.sleep(seconds))

    async def bearer(self) -> Bearer:
        """A usable bearer; waits for one that is on its way. Raises AuthorizationRequired or TokenUnavailable."""
        end = self._clock.monotonic() + CALLER_PATIENCE
        while (bearer := self.current()) is None:
            left = end - self._clock.monotonic()
            if left <= 0 or not self._is_on_its_way(left):
                raise self._holding.refusal()
            await first_of(self.turn.wait(), self._clock.sleep(left))
        return bearer

    async def renewed(self, refused: Bearer, path: str = "", again: bool = False) -> Bearer | None:
        """After a 401: a newer bearer, None where none can be had. Raises AuthorizationRequired while the chain is dead."""
        if newer := self._obeying.newer_than(refused):
            return newer
        if again:
            self._obeying.refused_again(refused, path)
            return None
        return await self._orders.place(lambda: self._obeying.renew_refused(refused, path))

    async def refresh(self, force: bool = False) -> TokenSnapshot:
        """Renews now, and answers when the new token is in use.

        `force` presents even a token that is remembered as dead, once. Raises CommandFailures that say what came of it.
        """
        known = self._holding.generation
        return await self._orders.place(lambda: self._obeying.refresh(force, known))

    async def install(self, document: bytes, force: bool = False) -> TokenSnapshot:
        """Takes the pair of a document over, as `token import` is given it, and answers when it is in use.

        Where the pair in use lives it is proved by a refresh first, unless `force` says not to. CommandFailure where it is none, ImportRefused
        and others where the pair in use goes on.
        """
        pair = self._imported(document)
        return await self._orders.place(lambda: self._obeying.import_pair(pair, force))

    async def install_answer(self, answer: RawAnswer) -> TokenSnapshot:
        """Takes over what a login's token answer holds: kept first, interpreted second. CommandFailure where it holds no pair."""
        return await self._orders.place(lambda: self._obeying.install_answer(answer))

    async def hand_over(self) -> dict[str, object]:
        """The pair as the token endpoint would answer it, with `obtained_at`. Holds secrets. From then on it is somebody else's to renew, and
        serves here to its last second; that is durable before it answers.

        It comes back by `install` of the same pair, or by `refresh` with `force`. PersonNeeded where there is no pair, CannotCreate where
        the mark cannot be written.
        """
        return document_of(await self._orders.place(self._obeying.hand_over))

    async def refill(self, within: float) -> bool:
        """Leaves with a full tank: renews where more than a tenth of the pair's life is used, within so many seconds; whether it did."""
        deadline = self._clock.monotonic() + within
        return await self._orders.place(lambda: self._obeying.refill(deadline))

    async def leave(self, within: float) -> None:
        """The process ends within so many seconds: a token request that was not sent is dropped, one that was sent has so long.

        Answers when what was under way, or ordered before, is done. Nothing is begun by itself any more.
        """
        self._shutdown.begin(within)
        await self._orders.place(_nothing)

    async def logout(self) -> LoggedOut:
        """Revokes the pair where the provider can, and erases it. CommandFailure where there is none, PairStoreFailure where it cannot be erased."""
        return await self._orders.place(self._obeying.logout)

    # ---- its life --------------------------------------------------------------------------------------------------------

    async def open(self, *, above: int = 0) -> None:
        """Becomes the owner, loads what is stored, and finishes what a crash left. Raises PairStoreOwned, CannotCreate.

        `above` is the newest generation that the owner before had in use: new ones are numbered from there.
        """
        await self._saving.take()
        self._holding.generation = above
        await self._recovering.load()
        self._imports.plan()

    async def run(self) -> None:
        """The owner's task, until `close`. Being cancelled, it finishes the step that it is in."""
        self._ended.clear()
        try:
            while not self._orders.closed:
                has_order = await self._orders.next(self._until_next())
                await _whole(self._step(has_order))
        except PairStoreOwned:
            raise  # what is ordered waits for whoever owns the pair now
        except Exception:
            self._orders.close()  # nobody carries anything out any more
            raise
        finally:
            self._ended.set()

    async def close(self) -> None:
        """Lets the step under way finish, saves what was not saved, gives the ownership up."""
        self._orders.close()
        await self._ended.wait()
        with contextlib.suppress(PairStoreOwned):  # what could not be saved yet is not ours to save any more
            await self._saving.retry()
        await self._saving.leave()

    async def _step(self, has_order: bool) -> None:
        try:
            await self._follow_clock()
            if self._recovering.unread and self._holding.newest is None:
                await self._recovering.load()
                self._imports.plan()
            await self._renewing.follow_time()
            await self._imports.follow_time()
            if has_order:
                fault = await self._orders.carry_out()
                if fault is not None:
                    self._observe(TaskFailed("keeper", f"an order failed: {type(fault).__name__}"))
            elif self._renewing.due_in() == 0.0 and not self._orders.closed:
                await self._renewing.attempt()
            elif self._imports.due_in() == 0.0 and not self._orders.closed:
                await self._imports.repeat()
        except PairStoreOwned:
            raise  # the ownership is lost: whatever was begun here is the new owner's to find
        except Exception as fault:  # the pair must not be lost to a fault of one step
            self._observe(TaskFailed("keeper", f"a step failed: {type(fault).__name__}"))
            await self._clock.sleep(RETRY_INTERVAL)
        self._tell()

    def _until_next(self) -> float:
        """Seconds until the task has something to do."""
        holding, now = self._holding, self._holding.now()
        moments = [now + CLOCK_LOOK]
        for due_in in (self._renewing.due_in(), self._imports.due_in()):
            if due_in is not None:
                moments.append(now + due_in)
        if holding.pair and holding.pair.access_until is not None and holding.standing.access is Access.VALID:
            moments.append(holding.pair.access_until)
        if self._saving.unsaved or (self._recovering.unread and holding.newest is None):
            moments.append(now + RETRY_INTERVAL)
        return max(0.0, min(moments) - now)

    async def _follow_clock(self) -> None:
        step = self._holding.follow_clock()
        if step == 0.0:
            return
        self._observe(
            Warned("clock_stepped", f"the wall clock moved by {step:+.1f} s; the pair's moments moved with it")
        )
        if self._holding.newest is not None:
            await self._renewing.save(self._holding.newest)

    # ---- small steps -----------------------------------------------------------------------------------------------------

    def _imported(self, document: bytes) -> Pair:
        try:
            return read_import(document, self._holding.now(), self._terms, self._salt())
        except AnswerUnusable as fault:
            raise CommandFailure(str(fault)) from fault

    def _is_on_its_way(self, within: float) -> bool:
        holding = self._holding
        due = holding.next_at is not None and holding.next_at - holding.now() <= within
        return not self._orders.closed and (self._renewing.attempting or holding.held is not None or due)

    def _open_logins(self, until: float, by: str | None) -> None:
        self._holding.logins.put(by, until)
        self._tell()

    def _tell(self) -> None:
        """Lets everybody who waits look again."""
        self.turn.set()
        self.turn = asyncio.Event()


async def _nothing() -> None:
    """An order that is done when all before it are."""


async def _whole(step: Awaitable[None]) -> None:
    """Awaits `step` to its end even where the task is cancelled meanwhile."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise

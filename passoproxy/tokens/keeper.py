"""The keeper: the one task that owns the pair, renews it in time whether or not a request asks, and saves before it publishes.

Other tasks look (`current`, `snapshot`) or place a command (`execute`) and wait; a caller that leaves cancels nothing. All that is known of the
pair is one State; what a refresh does to it is in `refresh`, an import that has to be proved in `imports`, what a crash left in `recovery`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from passoproxy.core.events import PairErased, TaskFailed, Warned
from passoproxy.core.oauth.chain import Access, Chain, Happening, has_ended
from passoproxy.core.oauth.pair import Bearer, Pair
from passoproxy.core.oauth.schedule import is_worth_filling
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.core.oauth.token_response import Dead, Lost, Misconfigured, Unsent, document_of, read_import
from passoproxy.core.oauth.transaction import (
    digest,
    handed_over,
    lasting,
    pair_taken_back,
    remembered,
    was_refused,
)
from passoproxy.errors import (
    AnswerUnusable,
    CannotCreate,
    CommandFailure,
    PairStoreFailure,
    PairStoreOwned,
    PassoproxyError,
    PersonNeeded,
    Refusal,
    TokenUnavailable,
)
from passoproxy.ports import Followed, LoggedOut
from passoproxy.tokens import imports, recovery, refresh
from passoproxy.tokens.commands import (
    HERE,
    Command,
    Export,
    Import,
    Leave,
    Login,
    LoginPending,
    Logout,
    Refill,
    Refresh,
    Renew401,
)
from passoproxy.tokens.holder import Holder
from passoproxy.tokens.imports import without_candidate, without_intent
from passoproxy.tokens.persistence import RETRY_INTERVAL
from passoproxy.tokens.provider_client import LEAST_TIME
from passoproxy.tokens.state import Granted, State
from passoproxy.tokens.waits import first_of

T = TypeVar("T")

CLOCK_LOOK = 15.0
"""The task looks at the clocks at least this often, in seconds."""

REVOCATION_TIMEOUT = 10.0
"""Seconds that the provider has to revoke one token."""

REVOKED = "revoked at the provider and erased here"

Withdrawn = Callable[[str], Awaitable[None]]
"""Told of a grant that its owner has withdrawn, with its partition."""


async def nothing_to_do(partition: str) -> None:
    """The Withdrawn of a keeper without a cache."""


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    """A command that waits for the keeper's task. `known` is the newest generation when it was placed, `placed_at` is of the steady clock."""

    command: Command[Any]
    done: asyncio.Future[Any]
    known: int
    placed_at: float


class Keeper(Holder):
    """Holds the pair and keeps it alive. `run` raises PairStoreOwned if the store says that the ownership was lost."""

    def __init__(
        self, state: State, *, seed: Callable[[], bytes] | None = None, withdrawn: Withdrawn = nothing_to_do
    ) -> None:
        """`seed` reads the pair that is taken up if nothing is stored (see `recovery`); `withdrawn` is awaited when a grant was withdrawn,
        before any request is refused for it.
        """
        super().__init__(state.clock, state.partition)
        self.state, state.changed = state, self._tell
        self.client = self.state.client
        """Whose pair it keeps, as `Pair.client`."""
        self.spare: Bearer | None = None
        """What a former owner had in use, and may not have saved: it serves while it is newer than the stored one."""
        self._spare_partition = ""
        self._seed, self._withdrawn = seed, withdrawn
        self._orders: deque[_Order] = deque()
        self._poke = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()

    # ---- what every task may do ------------------------------------------------------------------------------------------

    def current(self) -> Bearer | None:
        if self.spare is not None and self._is_spare_over():
            self._tell()
        return self.spare or self.state.current()

    def _is_spare_over(self) -> bool:
        own, spare = self.state.current(), self.spare
        assert spare is not None
        is_ended = spare.until is not None and spare.until <= self._clock.wall()
        return is_ended or (own is not None and own.generation >= spare.generation)

    def succeed(self, spare: Bearer | None, partition: str) -> None:
        """`spare` is what the owner before had in use, for the identity `partition`, which a login that was not saved may have begun."""
        self.spare, self._spare_partition = spare, partition
        self._tell()

    def snapshot(self) -> TokenSnapshot:
        return self.state.snapshot()

    def followed(self) -> Followed:
        if self.state.clock_has_stepped:  # those who follow go by the wall clock
            self._poke.set()
        return super().followed()

    @property
    def login_until(self) -> float:
        """Until when logins that were begun in this process are open, in epoch seconds; 0 for never."""
        return self.state.logins.of(HERE)

    def may_come(self, within: float) -> bool:
        state = self.state
        due = state.next_at is not None and state.next_at - state.now() <= within
        return not self._closing.is_set() and (state.attempting or state.held is not None or due)

    def refusal(self) -> Refusal:
        return self.state.refusal()

    async def execute(self, command: Command[T]) -> T:
        """Has the keeper's task do it. A login that is announced and a path's second 401 wait for no step of the task."""
        answer: Any = None
        match command:
            case LoginPending(until, by):
                self.state.logins.put(by, self.state.steady(until))
                self._tell()
            case Renew401(generation, path, again):
                if not self._is_replaced(generation):
                    if again:  # it refused an older bearer too, so a newer one would not help
                        self.state.rejections.again(generation, path)
                    else:
                        await self._placed(command)
                bearer = self.current()
                answer = bearer.generation if bearer is not None else 0
            case _:
                if isinstance(command, Leave):
                    self.state.shutdown.begin(command.within)
                answer = await self._placed(command)
        return answer  # type: ignore[no-any-return]

    async def _placed(self, command: Command[Any]) -> Any:
        """What the keeper's task makes of a command. Raises what it raises, TokenUnavailable if the keeper has left."""
        if self._closing.is_set():
            raise _left()
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._orders.append(_Order(command, done, self.state.generation, self._clock.monotonic()))
        self._poke.set()
        return await asyncio.shield(done)

    # ---- its life --------------------------------------------------------------------------------------------------------

    async def open(self, *, above: int = 0) -> None:
        """Becomes the owner, loads what is stored, and finishes what a crash left. Raises PairStoreOwned, CannotCreate.

        `above` is the newest generation that the owner before had in use: new ones are numbered from there.
        """
        await self.state.saving.call(self.state.saving.store.acquire)
        self.state.generation = above
        await recovery.load(self.state, self._seed)

    async def run(self) -> None:
        """The owner's task, until `close`. Being cancelled, it finishes the step that it is in."""
        self._ended.clear()
        try:
            while not self._closing.is_set():
                if not self._orders and not self._poke.is_set():
                    await first_of(self._poke.wait(), self._clock.sleep(self._until_next()))
                self._poke.clear()
                await _whole(self._step())
        except PairStoreOwned:
            raise  # what is ordered waits for the new owner
        except Exception:
            self._stop()  # no task carries anything out any more
            raise
        finally:
            self._ended.set()

    async def close(self) -> None:
        """Lets the step under way finish, saves what was not saved, gives the ownership up."""
        self._stop()
        await self._ended.wait()
        with contextlib.suppress(PairStoreOwned):  # what could not be saved yet is not ours to save any more
            await self.state.saving.retry()
        await self.state.saving.call(self.state.saving.store.release)

    def _stop(self) -> None:
        """No order is taken any more; those that wait fail."""
        self._closing.set()
        while self._orders:
            _fail(self._orders.popleft().done, _left())
        self._poke.set()

    async def _step(self) -> None:
        state = self.state
        state.by = "timer"
        try:
            if state.follow_clock() and state.newest is not None:
                await refresh.save(state, state.newest)
            if state.unread and state.newest is None:
                await recovery.load(state, self._seed)
            await refresh.follow_time(state)
            await imports.follow_time(state)
            if self._orders:
                await self._carry_out(self._orders.popleft())
            elif state.due_in() == 0.0 and not self._closing.is_set():
                if state.standing.chain is Chain.UNKNOWN and not state.may_present():
                    state.plan()  # the machine slept through the time in which it might have been presented again
                else:
                    await refresh.attempt(state)
            elif state.proof_due_in() == 0.0 and not self._closing.is_set():
                await imports.repeat(state)
        except PairStoreOwned:
            raise  # the ownership is lost: whatever was begun here is the new owner's to find
        except Exception as fault:  # the pair must not be lost to a fault of one step
            state.observe(TaskFailed("keeper", f"a step failed: {type(fault).__name__}"))
            await self._clock.sleep(RETRY_INTERVAL)
        self._tell()

    def _until_next(self) -> float:
        """Seconds until the task has something to do."""
        state, now = self.state, self.state.now()
        waits = [CLOCK_LOOK, *(due for due in (state.due_in(), state.proof_due_in()) if due is not None)]
        if state.pair and state.pair.access_until is not None and state.standing.access is Access.VALID:
            waits.append(state.pair.access_until - now)
        if state.saving.unsaved or (state.unread and state.newest is None):
            waits.append(RETRY_INTERVAL)
        return max(0.0, min(waits))

    def _tell(self) -> None:
        if self.spare is not None and self._is_spare_over():
            self.spare = None
        self.partition = self.state.partition if self.spare is None else self._spare_partition
        super()._tell()

    # ---- commands, in the keeper's task ----------------------------------------------------------------------------------

    async def _carry_out(self, order: _Order) -> None:
        """Raises PairStoreOwned if the ownership turned out to be lost."""
        try:
            answer = await self._done(order)
        except PairStoreOwned:
            self._orders.appendleft(order)  # it fails with all the others, when another process can be asked
            raise
        except PassoproxyError as fault:
            _fail(order.done, fault)
        except Exception as fault:
            _fail(order.done, PassoproxyError(f"a fault inside passoproxy ({type(fault).__name__}); the log has more"))
            self.state.observe(TaskFailed("keeper", f"an order failed: {type(fault).__name__}"))
        else:
            if not order.done.done():
                order.done.set_result(answer)

    async def _done(self, order: _Order) -> object:
        state = self.state
        state.by = ""
        match order.command:
            case Renew401(generation, path):
                state.by = "request"
                await self._renew_refused(generation, path)
            case Refresh(force):
                return await self._refresh(force, order.known)
            case Import(document, force):
                try:
                    pair = read_import(document, state.now(), state.terms, state.salt())
                except AnswerUnusable as fault:
                    raise CommandFailure(str(fault)) from fault
                return await imports.take(state, pair, force)
            case Login(answer):
                return await imports.take_answer(state, answer)
            case Export():
                return document_of(await self._hand_over())
            case Logout():
                return await self._logout()
            case Refill(within):
                state.by = "stop"
                return await self._refill(order.placed_at + within)
            case Leave():
                pass  # it is done when all before it are
            case unknown:
                raise TypeError(type(unknown).__name__)
        return None

    async def _refresh(self, force: bool, known: int) -> TokenSnapshot:
        """`known` is the newest generation when the command was placed: a newer one answers it."""
        state, pair = self.state, self.state.newest
        if state.generation > known and not force:
            return state.snapshot()  # another command brought a newer one meanwhile
        if state.terms.needs_person:
            if pair is None and force and (waiting := state.waiting):
                return await self._refresh_kept(waiting[0])
            if pair is None or pair.refresh_token is None:
                raise PersonNeeded(f"there is nothing to refresh: {state.snapshot().reason}; run 'passoproxy login'")
            if force and state.away:
                # it is presented again, to find out whose it is: the first to renew has it
                state.record = replace(state.record, extra=pair_taken_back(state.record.extra))
                state.use(pair, loaded=True)
            if not force and (state.standing.chain is Chain.DEAD or not state.may_present()):
                shown = state.snapshot()
                raise PersonNeeded(
                    f"not refreshed: {shown.reason}; {shown.remedy} ('--force' presents the token once more)"
                )
        outcome = await refresh.attempt(state)
        if not isinstance(outcome, Granted):
            if state.newest is not pair:
                return state.snapshot()  # refused, but the store had a newer one
            if isinstance(outcome, Dead) and not state.terms.needs_person:
                outcome = Misconfigured(outcome.reason, outcome.error)  # client credentials have no login
            raise refresh.failure_of(outcome)
        if state.held is not None:
            raise CommandFailure(
                f"a new pair was obtained and is held back until it can be saved: {state.snapshot().remedy}"
            )
        return state.snapshot()

    async def _refresh_kept(self, pair: Pair) -> TokenSnapshot:
        """Presents a pair that came from another client or token endpoint here: a person says that only the address has changed."""
        outcome = await refresh.attempt_with(self.state, pair)
        if isinstance(outcome, Granted):
            return self.state.snapshot()
        fault = refresh.failure_of(outcome)
        if isinstance(outcome, Misconfigured):
            raise fault
        left = "it is not known whether it is spent" if isinstance(outcome, Lost) else "it is kept as it was"
        raise type(fault)(f"the pair of {pair.client} was presented to {self.state.client}, and {left}: {fault}")

    async def _renew_refused(self, generation: int, path: str) -> None:
        """A 401 of `path` for the bearer of `generation`: one refresh, if it may help. Raises AuthorizationRequired while the chain is dead."""
        state = self.state
        if self._is_replaced(generation):
            return
        if state.held is not None:
            # the older token is of no use any more, so there is nothing else left to live on
            state.use(state.held)
            return
        await self._refuse_if_dead()
        if self._may_renew(generation, path):
            state.rejections.began(generation, self._clock.monotonic())
            await refresh.attempt(state)
            state.rejections.ended(state.newest)
            if self._is_replaced(generation):
                return
            if state.pair and state.pair.access_until is None:
                await refresh.end_access(state)  # its time was not known; now it is known to be over
            await self._refuse_if_dead()

    def _is_replaced(self, generation: int) -> bool:
        """Whether the bearer in use is another one than the refused one of `generation`, which is used no more if it was the spare."""
        if self.spare is not None and generation >= self.spare.generation:
            self.spare, own = None, self.state.current()
            self._tell()
            if own is not None and own.generation < generation:
                return True  # what the former owner saved last, and the origin has not refused yet
        bearer = self.current()
        return bearer is not None and bearer.generation > generation

    def _may_renew(self, generation: int, path: str) -> bool:
        state, pair = self.state, self.state.newest
        if pair is None:
            return False
        if state.terms.needs_person and (pair.refresh_token is None or not state.may_present()):
            return False
        return state.rejections.may_refresh(generation, path, pair, self._clock.monotonic())

    async def _refuse_if_dead(self) -> None:
        state = self.state
        if state.standing.chain is not Chain.DEAD:
            return
        state.refuse_access()
        pair = state.newest
        if (
            pair is not None
            and pair.refresh_token is not None
            and pair.generation != state.withdrawn_generation
            and not has_ended(pair, state.now())
            and was_refused(state.record.extra, digest(pair.refresh_token))
        ):
            # a 401 before the access token's time, and a refresh token refused that no other program can have spent
            state.withdrawn_generation = pair.generation
            text = "the provider refuses both tokens before their time: the grant was withdrawn"
            state.observe(Warned("grant_withdrawn", text))
            await self._withdrawn(state.partition)
        raise state.refusal()

    async def _refill(self, deadline: float) -> bool:
        """Renews if much of the pair's life is used and there is time until `deadline` (of the steady clock); whether it did."""
        state, pair = self.state, self.state.newest
        if pair is None or pair.refresh_token is None or not state.terms.needs_person or state.held is not None:
            return False
        if state.standing.chain not in {Chain.HEALTHY, Chain.RETRYING} or not is_worth_filling(pair, state.now()):
            return False
        if state.shutdown.dropped:
            return False  # the provider could not be reached just now
        left = min(deadline - self._clock.monotonic(), state.shutdown.left)
        return left >= LEAST_TIME and isinstance(await refresh.attempt(state, left), Granted)

    async def _hand_over(self) -> Pair:
        """See Export; the mark is durable before the pair is given."""
        state, pair = self.state, self.state.newest
        if pair is None:
            raise PersonNeeded(f"there is no pair to export: {state.snapshot().reason}")
        if not state.terms.needs_person or pair.refresh_token is None or state.is_spent(pair):
            return pair  # it cannot be renewed with this, or another one is to be had without it
        if state.away is None:
            notes = handed_over(state.record.extra, digest(pair.refresh_token), state.now())
            try:
                if not await state.saving.retry():
                    raise CannotCreate("not exported: the newest pair is not saved yet; make room in state.directory")
                marked = replace(state.record, extra=notes, state=Chain.UNKNOWN, reason="")
                await state.saving.call(state.saving.store.save_record, marked)
            except PairStoreFailure as fault:
                await state.saving.note(state.record)  # a shared store would be given the mark with the next heartbeat
                raise CannotCreate(f"not exported, because the hand-over cannot be recorded: {fault}") from fault
            state.record = replace(state.record, extra=notes)
            state.happened(Happening.HANDED_OVER, reason="")
            state.plan()
        return pair

    async def _logout(self) -> LoggedOut:
        """Revokes the newest pair if the provider can, and erases it in any case; a revoked refresh token is remembered as dead."""
        state, pair = self.state, self.state.newest
        if pair is None:
            raise CommandFailure(f"there is nothing to log out from: {state.snapshot().reason}")
        done = LoggedOut(await self._revoked(pair), state.partition)
        record = without_intent(without_candidate(state.record))
        if done.revocation.startswith(REVOKED) and pair.refresh_token:
            record = replace(record, spent=remembered(record.spent, digest(pair.refresh_token)))
        record = replace(record, state=Chain.NONE, reason="", extra=lasting(record.extra))
        try:
            await state.saving.erase(record)
        except PairStoreFailure as fault:
            what = "revoked at the provider, but not" if done.revocation.startswith(REVOKED) else "neither revoked nor"
            text = f"the pair is {what} erased here: {fault}; then run 'passoproxy logout' again"
            raise PairStoreFailure(text) from fault
        state.record, self.spare = record, None
        state.drop()
        state.observe(PairErased(done.revocation))
        state.plan()
        return done

    async def _revoked(self, pair: Pair) -> str:
        """What became of `pair`, and of one that was imported and not proved, at the provider: REVOKED, or why not."""
        state = self.state
        if state.away is not None:
            return "erased here, and not revoked: it was handed over, and whoever has it goes on with it"
        if not state.asking.provider.revocation_url:
            return (
                "erased here; the provider has no revocation endpoint (oauth.revocation_url) and may go on accepting it"
            )
        candidate = state.record.candidate
        pairs = (pair,) if candidate is None else (pair, candidate.pair)
        tokens = [(name, getattr(each, name)) for each in pairs for name in ("refresh_token", "access_token")]
        failed = None
        for name, token in tokens:
            if token is None:
                continue
            patience = min(REVOCATION_TIMEOUT, state.shutdown.left)
            failure = await state.shutdown.bounded(state.asking.revoke(token, name, patience), lambda: True)
            failed = failed or failure
            if isinstance(failure, Unsent | Lost):
                break  # the provider is away, and would be for the others too
        if failed is not None:
            return f"erased here, but not revoked at the provider: {failed.reason}"
        if state.record.intent is not None or candidate is not None:
            return f"{REVOKED}; a refresh's answer was lost before, and a pair that nobody has seen may live on there"
        return REVOKED


async def _whole(step: Awaitable[None]) -> None:
    """Awaits `step` to its end even if the task is cancelled meanwhile."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _fail(done: asyncio.Future[Any], fault: Exception) -> None:
    if not done.done():
        done.set_exception(fault)
        done.exception()  # looked at, so that the loop does not complain if the caller has left


def _left() -> TokenUnavailable:
    return TokenUnavailable("passoproxy is shutting down", 5)

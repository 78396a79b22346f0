"""The keeper: the one task that owns the pair, renews it in time whether or not a request asks, and saves before it publishes.

Other tasks look (`current`, `snapshot`) or place a command (`execute`) and wait; a caller that leaves cancels nothing. All that is known of the
pair is one State; what a refresh does to it is in `refresh`, an import that has to be proved in `imports`, what a crash left in `recovery`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

from passoproxy.core.events import TaskFailed, Warned
from passoproxy.core.oauth.chain import Access, Chain, Happening, has_ended
from passoproxy.core.oauth.pair import Bearer, Pair
from passoproxy.core.oauth.schedule import is_worth_filling
from passoproxy.core.oauth.settings import Terms
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.core.oauth.token_response import Dead, Lost, Misconfigured, Unsent, document_of, read_import
from passoproxy.core.oauth.transaction import (
    digest,
    hand_over,
    handed_over,
    lasting,
    moved_to,
    not_handed_over,
    pair_taken_back,
    remembered,
    was_refused,
)
from passoproxy.errors import (
    AnswerUnusable,
    CannotCreate,
    CommandFailure,
    ImportRefused,
    PairStoreFailure,
    PairStoreOwned,
    PersonNeeded,
)
from passoproxy.ports import Clock, LoggedOut, Observer, PairStore, RawAnswer, nobody
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
from passoproxy.tokens.inbox import Inbox, first_of
from passoproxy.tokens.persistence import RETRY_INTERVAL, Blocking, Saving, in_thread
from passoproxy.tokens.provider_client import LEAST_TIME, Asking
from passoproxy.tokens.state import LIVING, Granted, State

T = TypeVar("T")

CALLER_PATIENCE = 10.0
"""Seconds that a request waits for a bearer that is on its way."""

CLOCK_LOOK = 15.0
"""The task looks at the clocks at least this often, in seconds."""

REVOCATION_TIMEOUT = 10.0
"""Seconds that the provider has to revoke one token."""

REVOKED = "revoked at the provider and erased here"

Withdrawn = Callable[[str], Awaitable[None]]
"""Told of a grant that its owner has withdrawn, with its partition."""


async def nothing_to_do(partition: str) -> None:
    """The Withdrawn of a keeper without a cache."""


class Keeper(Holder):
    """Holds the pair and keeps it alive. `run` raises PairStoreOwned if the store says that the ownership was lost."""

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

        `seed` reads the pair that is taken up if nothing is stored (see `recovery`); `withdrawn` is awaited when a grant was withdrawn,
        before any request is refused for it.
        """
        super().__init__(clock)
        saving = Saving(store, observe, blocking)
        self.state = State(asking, saving, terms, clock, chance, salt, observe, self._tell, upstream)
        self._seed, self._withdrawn = seed, withdrawn
        self._inbox = Inbox(clock)
        self._ended = asyncio.Event()
        self._ended.set()

    # ---- what every task may do ------------------------------------------------------------------------------------------

    def current(self) -> Bearer | None:
        return self.state.current()

    @property
    def client(self) -> str:
        """Whose pair it keeps, as `Pair.client`."""
        return self.state.client

    @property
    def partition(self) -> str:
        return self.state.partition

    def snapshot(self) -> TokenSnapshot:
        return self.state.snapshot()

    @property
    def login_until(self) -> float:
        """Until when logins that were begun in this process are open, in epoch seconds; 0 for never."""
        return self.state.logins.of(HERE)

    async def bearer(self) -> Bearer:
        end = self._clock.monotonic() + CALLER_PATIENCE
        while (bearer := self.current()) is None:
            left = end - self._clock.monotonic()
            if left <= 0 or not self._is_on_its_way(left):
                raise self.state.refusal()
            await first_of(self.turn.wait(), self._clock.sleep(left))
        return bearer

    def _is_on_its_way(self, within: float) -> bool:
        state = self.state
        due = state.next_at is not None and state.next_at - state.now() <= within
        return not self._inbox.closed and (state.attempting or state.held is not None or due)

    async def execute(self, command: Command[T]) -> T:
        """Has the keeper's task do it. A login that is announced and a path's second 401 wait for no step of the task."""
        place, answer = self._inbox.place, cast(Any, None)
        match command:
            case LoginPending(until, by):
                self.state.logins.put(by, self.state.steady(until))
                self._tell()
            case Renew401(generation, path, again):
                if again:  # it refused an older bearer too, so a newer one would not help
                    self.state.rejections.again(generation, path)
                else:
                    await place(lambda: self._renew_refused(generation, path))
                bearer = self.current()
                answer = bearer.generation if bearer is not None else 0
            case Refresh(force):
                known = self.state.generation
                answer = await place(lambda: self._refresh(force, known))
            case Import(document, force):
                try:
                    pair = read_import(document, self.state.now(), self.state.terms, self.state.salt())
                except AnswerUnusable as fault:
                    raise CommandFailure(str(fault)) from fault
                answer = await place(lambda: self._import(pair, force))
            case Login(token_answer):
                answer = await place(lambda: self._install_answer(token_answer))
            case Export():
                answer = document_of(await place(self._hand_over))
            case Logout():
                answer = await place(self._logout)
            case Refill(within):
                deadline = self._clock.monotonic() + within
                answer = await place(lambda: self._refill(deadline))
            case Leave(within):
                self.state.shutdown.begin(within)
                await place(_nothing)
            case _:
                raise TypeError(type(command).__name__)
        return answer  # type: ignore[no-any-return]

    # ---- its life --------------------------------------------------------------------------------------------------------

    async def open(self, *, above: int = 0) -> None:
        """Becomes the owner, loads what is stored, and finishes what a crash left. Raises PairStoreOwned, CannotCreate.

        `above` is the newest generation that the owner before had in use: new ones are numbered from there.
        """
        await self.state.saving.take()
        self.state.generation = above
        await recovery.load(self.state, self._seed)

    async def run(self) -> None:
        """The owner's task, until `close`. Being cancelled, it finishes the step that it is in."""
        self._ended.clear()
        try:
            while not self._inbox.closed:
                has_order = await self._inbox.next(self._until_next())
                await _whole(self._step(has_order))
        except PairStoreOwned:
            raise  # what is ordered waits for the new owner
        except Exception:
            self._inbox.close()  # no task carries anything out any more
            raise
        finally:
            self._ended.set()

    async def close(self) -> None:
        """Lets the step under way finish, saves what was not saved, gives the ownership up."""
        self._inbox.close()
        await self._ended.wait()
        with contextlib.suppress(PairStoreOwned):  # what could not be saved yet is not ours to save any more
            await self.state.saving.retry()
        await self.state.saving.leave()

    async def _step(self, has_order: bool) -> None:
        state = self.state
        try:
            if state.follow_clock() and state.newest is not None:
                await refresh.save(state, state.newest)
            if state.unread and state.newest is None:
                await recovery.load(state, self._seed)
            await refresh.follow_time(state)
            await imports.follow_time(state)
            if has_order:
                fault = await self._inbox.carry_out()
                if fault is not None:
                    state.observe(TaskFailed("keeper", f"an order failed: {type(fault).__name__}"))
            elif state.due_in() == 0.0 and not self._inbox.closed:
                if state.standing.chain is Chain.UNKNOWN and not state.may_present():
                    state.plan()  # the machine slept through the time in which it might have been presented again
                else:
                    await refresh.attempt(state)
            elif state.proof_due_in() == 0.0 and not self._inbox.closed:
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

    # ---- commands, in the keeper's task ----------------------------------------------------------------------------------

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
        refused = Bearer("", generation)
        if self._newer_than(refused):
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
            if self._newer_than(refused):
                return
            if state.pair and state.pair.access_until is None:
                await refresh.end_access(state)  # its time was not known; now it is known to be over
            await self._refuse_if_dead()

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

    def _granted_again(self) -> None:
        if self.state.withdrawn_generation:
            self.state.withdrawn_generation = 0
            text = "another pair is in use: the grant was given again"
            self.state.observe(Warned("grant_withdrawn", text, over=True))

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

    async def _import(self, pair: Pair, force: bool) -> TokenSnapshot:
        """An imported pair is used, but never at the cost of one that lives: then it is proved first, unless by `force`.

        Raises ImportRefused if the pair in use goes on, and as `imports.prove` does.
        """
        state, token = self.state, pair.refresh_token
        comes_back = state.away is not None and self._returns(pair)
        if force or comes_back or not state.terms.needs_person or state.standing.chain not in LIVING:
            return await self._install(pair)
        present = state.newest.refresh_token if state.newest else None
        if token is not None and token == present:
            return state.snapshot()
        unfit = (
            "has no refresh token" if token is None else "was spent or refused before" if state.is_spent(pair) else ""
        )
        if unfit:
            raise ImportRefused(
                f"the imported pair {unfit}, and the pair in use lives and is kept; 'passoproxy token import --force' takes it all the same"
            )
        await imports.prove(state, pair)
        self._granted_again()
        return state.snapshot()

    def _returns(self, pair: Pair) -> bool:
        """Whether it is the pair that was handed over, which comes back."""
        given = hand_over(self.state.record.extra)
        return given is not None and pair.refresh_token is not None and digest(pair.refresh_token) == given.token

    async def _install(self, pair: Pair) -> TokenSnapshot:
        """A pair from outside is saved and used, used also if it cannot be saved: a person has just given it."""
        state = self.state
        returns = self._returns(pair)
        record = without_candidate(state.record)
        pair = state.numbered(pair)
        notes = pair_taken_back(record.extra) if returns else not_handed_over(record.extra)
        intent = None if returns else moved_to(record.intent, pair)
        if not returns and intent is None:
            record = without_intent(record)
        state.record = replace(record, intent=intent, extra=notes)
        state.held, state.last_error, state.failures = None, "", 0
        state.logins.clear()
        saved = await refresh.save(state, pair)
        if intent is None:
            state.use(pair)
        else:
            state.use(pair, then=(Happening.LOST,), reason=imports.AGAIN)
        state.saved = saved
        self._granted_again()
        if returns and state.next_at is not None:
            state.next_at = state.now()  # renewed at once, so that the copy that was given away is worth nothing
        return state.snapshot()

    async def _install_answer(self, answer: RawAnswer) -> TokenSnapshot:
        """A login's answer is kept, read, and its pair installed. Raises CommandFailure if it holds none."""
        state = self.state
        with contextlib.suppress(AnswerUnusable):  # `settle` says so, when it is kept
            if state.is_spent(refresh.read(state, answer, state.newest)):
                # told again by a process that did not hear that it was taken, and renewed since: kept, it would be taken up at the next start
                return state.snapshot()
        outcome = await refresh.settle(state, answer)
        if not isinstance(outcome, Granted):
            raise refresh.failure_of(outcome)
        await self._install(outcome.pair)
        state.saved = state.saved or outcome.durable
        return state.snapshot()

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
                await state.saving.mark(replace(state.record, extra=notes, state=Chain.UNKNOWN, reason=""))
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
        state.record = record
        state.drop()
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


async def _nothing() -> None:
    """A command that is done when all before it are."""


async def _whole(step: Awaitable[None]) -> None:
    """Awaits `step` to its end even if the task is cancelled meanwhile."""
    task = asyncio.ensure_future(step)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise

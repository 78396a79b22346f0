"""What the orders come to that others place with the keeper: refresh, install, hand over, log out, and the 401 of the origin.

Done one after the other by the keeper's task only.

The keeper: the one task that owns the pair, renews it in time whether or not anybody asks, and saves before it publishes.

Everybody else looks (`current`, `snapshot`) or places an order (`refresh`, `install`, `logout`, `renewed`) and waits; a caller that leaves
cancels nothing. What attempts come to is `renewing`, what a crash left `recovering`, what orders come to `obeying`, what is held `holding`.
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
from passoproxy.core.oauth.rejections import Rejections
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
from passoproxy.ports import ChainRecord, Clock, LoggedOut, Observer, PairStore, RawAnswer, nobody
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
from passoproxy.tokens.imports import AGAIN, LIVING, Imports, without_candidate, without_intent
from passoproxy.tokens.inbox import Inbox, first_of
from passoproxy.tokens.persistence import RETRY_INTERVAL, Blocking, Saving, in_thread
from passoproxy.tokens.provider_client import Asking
from passoproxy.tokens.recovery import Recovering, Seeding
from passoproxy.tokens.refresh import Granted, Refreshing, Renewing, failure_of
from passoproxy.tokens.shutdown import LEAST_TIME, Shutdown
from passoproxy.tokens.state import Holding

T = TypeVar("T")

REVOCATION_TIMEOUT = 10.0
"""Seconds that the provider has to revoke one token."""

REVOKED = "revoked at the provider and erased here"

Withdrawn = Callable[[str], Awaitable[None]]
"""Told of a grant that its owner has withdrawn, with its partition."""


async def nothing_to_do(partition: str) -> None:
    """The Withdrawn of a keeper without a cache."""


class Obeying:
    """Carries out orders on what `holding` holds."""

    def __init__(
        self,
        asking: Asking,
        holding: Holding,
        saving: Saving,
        refreshing: Refreshing,
        renewing: Renewing,
        imports: Imports,
        shutdown: Shutdown,
        terms: Terms,
        clock: Clock,
        observe: Observer,
        withdrawn: Withdrawn,
    ) -> None:
        self._asking = asking
        self._holding = holding
        self._saving = saving
        self._refreshing = refreshing
        self._renewing = renewing
        self._imports = imports
        self._shutdown = shutdown
        self._terms = terms
        self._clock = clock
        self._observe = observe
        self._withdrawn = withdrawn
        self._withdrawn_generation = 0
        self._rejections = Rejections()

    async def refresh(self, force: bool, known: int) -> TokenSnapshot:
        """A refresh by command; `known` is the newest generation when it was placed: a newer one answers it."""
        holding, pair = self._holding, self._holding.newest
        if holding.generation > known and not force:
            return holding.snapshot()  # somebody else's order brought a newer one meanwhile
        if self._terms.needs_person:
            if pair is None and force and (waiting := holding.waiting):
                return await self._refresh_kept(waiting[0])
            if pair is None or pair.refresh_token is None:
                raise PersonNeeded(f"there is nothing to refresh: {holding.snapshot().reason}; run 'passoproxy login'")
            if force and holding.away:
                self._take_back(pair)
            if not force and (holding.standing.chain is Chain.DEAD or not self._renewing.may_present()):
                shown = holding.snapshot()
                raise PersonNeeded(
                    f"not refreshed: {shown.reason}; {shown.remedy} ('--force' presents the token once more)"
                )
        outcome = await self._renewing.attempt()
        if not isinstance(outcome, Granted):
            if holding.newest is not pair:
                return holding.snapshot()  # refused, but the store had a newer one
            if isinstance(outcome, Dead) and not self._terms.needs_person:
                outcome = Misconfigured(outcome.reason, outcome.error)  # nobody can log in to client credentials
            raise failure_of(outcome)
        if holding.held is not None:
            raise CommandFailure(
                f"a new pair was obtained and is held back until it can be saved: {holding.snapshot().remedy}"
            )
        return holding.snapshot()

    async def _refresh_kept(self, pair: Pair) -> TokenSnapshot:
        """Presents a pair that came from another client or token endpoint here: a person says that only the address has changed."""
        outcome = await self._renewing.attempt_with(pair)
        if isinstance(outcome, Granted):
            return self._holding.snapshot()
        fault = failure_of(outcome)
        if isinstance(outcome, Misconfigured):
            raise fault
        left = "it is not known whether it is spent" if isinstance(outcome, Lost) else "it is kept as it was"
        raise type(fault)(f"the pair of {pair.client} was presented to {self._holding.client}, and {left}: {fault}")

    def refused_again(self, generation: int, path: str) -> int:
        """A 401 of `path` for `generation`, after one for an older bearer: a newer one would not help. The generation in use."""
        self._rejections.again(generation, path)
        return self._in_use()

    async def renew_refused(self, generation: int, path: str) -> int:
        """A 401 of `path` for the bearer of `generation`: one refresh where it may help; the generation in use then, 0 for none.

        Raises AuthorizationRequired while the chain is dead.
        """
        holding = self._holding
        if self._in_use() > generation:
            return self._in_use()
        if holding.held is not None:
            # the older token is of no use any more, so there is nothing else left to live on
            self._renewing.use(holding.held)
            return self._in_use()
        await self._refuse_if_dead()
        if self._may_renew(generation, path):
            self._rejections.began(generation, self._clock.monotonic())
            await self._renewing.attempt()
            self._rejections.ended(holding.newest)
            if self._in_use() > generation:
                return self._in_use()
            if holding.pair and holding.pair.access_until is None:
                await self._renewing.end_access()  # its time was unknown; now it is known to be over
            await self._refuse_if_dead()
        return self._in_use()

    def _may_renew(self, generation: int, path: str) -> bool:
        pair = self._holding.newest
        if pair is None:
            return False
        if self._terms.needs_person and (pair.refresh_token is None or not self._renewing.may_present()):
            return False
        return self._rejections.may_refresh(generation, path, pair, self._clock.monotonic())

    async def refill(self, deadline: float) -> bool:
        """Before a stop: renews where much of the pair's life is used and there is time until `deadline` (of the steady clock); whether it did."""
        holding, pair = self._holding, self._holding.newest
        if pair is None or pair.refresh_token is None or not self._terms.needs_person or holding.held is not None:
            return False
        if holding.standing.chain not in {Chain.HEALTHY, Chain.RETRYING} or not is_worth_filling(pair, holding.now()):
            return False
        if self._shutdown.dropped:
            return False  # the provider could not be reached just now
        left = min(deadline - self._clock.monotonic(), self._shutdown.left)
        return left >= LEAST_TIME and isinstance(await self._renewing.attempt(left), Granted)

    async def import_pair(self, pair: Pair, force: bool) -> TokenSnapshot:
        """An imported pair is used, but never at the cost of one that lives: then it is proved first, unless by `force`.

        Raises ImportRefused where the pair in use goes on, and as `Imports.prove` does.
        """
        holding, token = self._holding, pair.refresh_token
        comes_back = holding.away is not None and self._returns(pair)
        if force or comes_back or not self._terms.needs_person or holding.standing.chain not in LIVING:
            return await self.install(pair)
        present = holding.newest.refresh_token if holding.newest else None
        if token is not None and token == present:
            return holding.snapshot()
        unfit = (
            "has no refresh token" if token is None else "was spent or refused before" if holding.is_spent(pair) else ""
        )
        if unfit:
            raise ImportRefused(
                f"the imported pair {unfit}, and the pair in use lives and is kept; 'passoproxy token import --force' takes it all the same"
            )
        await self._imports.prove(pair)
        self._granted_again()
        return holding.snapshot()

    def _returns(self, pair: Pair) -> bool:
        """Whether it is the pair that was handed over, which comes back."""
        given = hand_over(self._holding.record.extra)
        return given is not None and pair.refresh_token is not None and digest(pair.refresh_token) == given.token

    async def install(self, pair: Pair) -> TokenSnapshot:
        """A pair from outside is saved and used, used also where it cannot be saved: a person has just given it."""
        holding = self._holding
        returns = self._returns(pair)
        holding.record = without_candidate(holding.record)
        pair = holding.numbered(pair)
        notes = pair_taken_back(holding.record.extra) if returns else not_handed_over(holding.record.extra)
        intent = None if returns else moved_to(holding.record.intent, pair)
        record = holding.record if returns or intent is not None else without_intent(holding.record)
        holding.record = replace(record, intent=intent, extra=notes)
        holding.held, holding.last_error, self._renewing.failures = None, "", 0
        holding.logins.clear()
        saved = await self._renewing.save(pair)
        if intent is None:
            self._renewing.use(pair)
        else:
            self._renewing.use(pair, then=(Happening.LOST,), reason=AGAIN)
        holding.saved = saved
        self._granted_again()
        if returns and holding.next_at is not None:
            holding.next_at = holding.now()  # renewed at once, so that the copy that was given away is worth nothing
        return holding.snapshot()

    async def hand_over(self) -> Pair:
        """The newest pair, which is somebody else's to renew from now on; that is durable before anybody sees it.

        Raises PersonNeeded where there is no pair, CannotCreate where the mark cannot be written.
        """
        holding, pair = self._holding, self._holding.newest
        if pair is None:
            raise PersonNeeded(f"there is no pair to export: {holding.snapshot().reason}")
        if not self._terms.needs_person or pair.refresh_token is None or holding.is_spent(pair):
            return pair  # nobody can renew it, or anybody can without it
        if holding.away is None:
            notes = handed_over(holding.record.extra, digest(pair.refresh_token), holding.now())
            await self._saved_before(replace(holding.record, extra=notes, state=Chain.UNKNOWN, reason=""))
            holding.record = replace(holding.record, extra=notes)
            holding.happened(Happening.HANDED_OVER, reason="")
            self._renewing.plan()
        return pair

    async def _saved_before(self, record: ChainRecord) -> None:
        try:
            if not await self._saving.retry():
                raise CannotCreate("not exported: the newest pair is not saved yet; make room in state.directory")
            await self._saving.mark(record)
        except PairStoreFailure as fault:
            raise CannotCreate(f"not exported, because the hand-over cannot be recorded: {fault}") from fault

    def _take_back(self, pair: Pair) -> None:
        """The pair that was handed over is presented again, to find out whose it is: whoever renews first has it."""
        holding = self._holding
        holding.record = replace(holding.record, extra=pair_taken_back(holding.record.extra))
        holding.use(pair, loaded=True)

    async def install_answer(self, answer: RawAnswer) -> TokenSnapshot:
        """A login's answer is kept, read, and its pair installed. Raises CommandFailure where it holds none."""
        outcome = (await self._refreshing.settle(answer, self._holding.newest, self._holding.record)).outcome
        if not isinstance(outcome, Granted):
            raise failure_of(outcome)
        if self._holding.is_spent(outcome.pair):
            return (
                self._holding.snapshot()
            )  # told again by one who did not hear that it was taken; it has been renewed since
        shown = await self.install(outcome.pair)
        if outcome.durable:
            self._holding.saved = True
            shown = self._holding.snapshot()
        return shown

    async def logout(self) -> LoggedOut:
        """The newest pair is revoked where the provider can, and erased in any case; a revoked refresh token is remembered as dead.

        CommandFailure where there is no pair; PairStoreFailure, which says whether it is revoked, where it cannot be erased.
        """
        holding, pair = self._holding, self._holding.newest
        if pair is None:
            raise CommandFailure(f"there is nothing to log out from: {holding.snapshot().reason}")
        done = LoggedOut(await self._revoked(pair), holding.partition)
        record = without_intent(without_candidate(holding.record))
        if done.revocation.startswith(REVOKED) and pair.refresh_token:
            record = replace(record, spent=remembered(record.spent, digest(pair.refresh_token)))
        record = replace(record, state=Chain.NONE, reason="", extra=lasting(record.extra))
        try:
            await self._saving.erase(record)
        except PairStoreFailure as fault:
            what = "revoked at the provider, but not" if done.revocation.startswith(REVOKED) else "neither revoked nor"
            text = f"the pair is {what} erased here: {fault}; then run 'passoproxy logout' again"
            raise PairStoreFailure(text) from fault
        holding.record = record
        holding.drop()
        self._renewing.plan()
        return done

    async def _revoked(self, pair: Pair) -> str:
        """What became of `pair`, and of one that was imported and not proved, at the provider: REVOKED, or why not."""
        holding = self._holding
        if holding.away is not None:
            return "erased here, and not revoked: it was handed over, and whoever has it goes on with it"
        if not self._asking.provider.revocation_url:
            return (
                "erased here; the provider has no revocation endpoint (oauth.revocation_url) and may go on accepting it"
            )
        candidate = holding.record.candidate
        pairs = (pair,) if candidate is None else (pair, candidate.pair)
        tokens = [(name, getattr(each, name)) for each in pairs for name in ("refresh_token", "access_token")]
        failed = None
        for name, token in tokens:
            patience = min(REVOCATION_TIMEOUT, self._shutdown.left)
            failure = await self._asking.revoke(token, name, patience) if token is not None else None
            failed = failed or failure
            if isinstance(failure, Unsent | Lost):
                break  # the provider is away, and would be for the others too
        if failed is not None:
            return f"erased here, but not revoked at the provider: {failed.reason}"
        if holding.record.intent is not None or candidate is not None:
            return f"{REVOKED}; a refresh's answer was lost before, and a pair that nobody has seen may live on there"
        return REVOKED

    def _in_use(self) -> int:
        bearer = self._holding.current()
        return bearer.generation if bearer is not None else 0

    async def _refuse_if_dead(self) -> None:
        if self._holding.standing.chain is Chain.DEAD:
            self._holding.refuse_access()
            await self._notice_withdrawal()
            raise self._holding.refusal()

    async def _notice_withdrawal(self) -> None:
        """A 401 before the access token's time, and a refresh token refused that nobody else can have spent: the owner has withdrawn the grant."""
        holding, pair = self._holding, self._holding.newest
        if pair is None or pair.refresh_token is None or pair.generation == self._withdrawn_generation:
            return
        if has_ended(pair, holding.now()) or not was_refused(holding.record.extra, digest(pair.refresh_token)):
            return
        self._withdrawn_generation = pair.generation
        self._observe(
            Warned("grant_withdrawn", "the provider refuses both tokens before their time: the grant was withdrawn")
        )
        await self._withdrawn(holding.partition)

    def _granted_again(self) -> None:
        if self._withdrawn_generation:
            self._withdrawn_generation = 0
            self._observe(Warned("grant_withdrawn", "another pair is in use: the grant was given again", over=True))


CALLER_PATIENCE = 10.0
"""Seconds that a request waits for a bearer that is on its way."""

CLOCK_LOOK = 15.0
"""The task looks at the clocks at least this often, in seconds."""


class Keeper(Holder):
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
        super().__init__(clock)
        self._terms = terms
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
        self._inbox = Inbox(clock)
        self._ended = asyncio.Event()
        self._ended.set()

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

    @property
    def login_until(self) -> float:
        """Until when logins that were begun in this process are open, in epoch seconds; 0 for never."""
        return self._holding.logins.of(HERE)

    async def bearer(self) -> Bearer:
        """A usable bearer; waits for one that is on its way. Raises AuthorizationRequired or TokenUnavailable."""
        end = self._clock.monotonic() + CALLER_PATIENCE
        while (bearer := self.current()) is None:
            left = end - self._clock.monotonic()
            if left <= 0 or not self._is_on_its_way(left):
                raise self._holding.refusal()
            await first_of(self.turn.wait(), self._clock.sleep(left))
        return bearer

    async def execute(self, command: Command[T]) -> T:
        """Has the keeper's task do it. A login that is announced and a path's second 401 wait for no step of the task."""
        place, obeying, answer = self._inbox.place, self._obeying, cast(Any, None)
        match command:
            case LoginPending(until, by):
                self._holding.logins.put(by, self._holding.steady(until))
                self._tell()
            case Renew401(generation, path, again):
                if again:
                    answer = obeying.refused_again(generation, path)
                else:
                    answer = await place(lambda: obeying.renew_refused(generation, path))
            case Refresh(force):
                known = self._holding.generation
                answer = await place(lambda: obeying.refresh(force, known))
            case Import(document, force):
                pair = self._imported(document)
                answer = await place(lambda: obeying.import_pair(pair, force))
            case Login(token_answer):
                answer = await place(lambda: obeying.install_answer(token_answer))
            case Export():
                answer = document_of(await place(obeying.hand_over))
            case Logout():
                answer = await place(obeying.logout)
            case Refill(within):
                deadline = self._clock.monotonic() + within
                answer = await place(lambda: obeying.refill(deadline))
            case Leave(within):
                self._shutdown.begin(within)
                await place(_nothing)
            case _:
                raise TypeError(type(command).__name__)
        return answer  # type: ignore[no-any-return]

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
            while not self._inbox.closed:
                has_order = await self._inbox.next(self._until_next())
                await _whole(self._step(has_order))
        except PairStoreOwned:
            raise  # what is ordered waits for whoever owns the pair now
        except Exception:
            self._inbox.close()  # nobody carries anything out any more
            raise
        finally:
            self._ended.set()

    async def close(self) -> None:
        """Lets the step under way finish, saves what was not saved, gives the ownership up."""
        self._inbox.close()
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
                fault = await self._inbox.carry_out()
                if fault is not None:
                    self._observe(TaskFailed("keeper", f"an order failed: {type(fault).__name__}"))
            elif self._renewing.due_in() == 0.0 and not self._inbox.closed:
                await self._renewing.attempt()
            elif self._imports.due_in() == 0.0 and not self._inbox.closed:
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
        return not self._inbox.closed and (self._renewing.attempting or holding.held is not None or due)


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

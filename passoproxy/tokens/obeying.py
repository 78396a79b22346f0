"""What the orders come to that others place with the keeper: refresh, install, hand over, log out, and the 401 of the origin.

Done one after the other by the keeper's task only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from passoproxy.core.events import Warned
from passoproxy.core.oauth.chain import Chain, Happening, has_ended
from passoproxy.core.oauth.notes import hand_over, handed_over, lasting, not_handed_over, taken_back, was_refused
from passoproxy.core.oauth.pair import Bearer, Pair
from passoproxy.core.oauth.rejections import Rejections
from passoproxy.core.oauth.replies import Dead, Lost, Misconfigured, Unsent
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.core.oauth.terms import Terms
from passoproxy.core.oauth.timing import is_worth_filling
from passoproxy.core.oauth.transaction import digest, moved_to, remembered
from passoproxy.errors import CannotCreate, CommandFailure, ImportRefused, PairStoreFailure, PersonNeeded
from passoproxy.ports import ChainRecord, Clock, LoggedOut, Observer, RawAnswer
from passoproxy.tokens.asking import Asking
from passoproxy.tokens.holding import Holding
from passoproxy.tokens.imports import AGAIN, LIVING, Imports, without_candidate, without_intent
from passoproxy.tokens.refreshing import Granted, Refreshing
from passoproxy.tokens.renewing import Renewing
from passoproxy.tokens.saving import Saving
from passoproxy.tokens.shutdown import LEAST_TIME, Shutdown
from passoproxy.tokens.telling import failure_of

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

    def refused_again(self, refused: Bearer, path: str) -> None:
        """A 401 of `path` for `refused`, after one for an older bearer: a newer one would not help."""
        self._rejections.again(refused.generation, path)

    async def renew_refused(self, refused: Bearer, path: str) -> Bearer | None:
        """A 401 of `path` for `refused`: a newer bearer by one refresh, None where none can be had. AuthorizationRequired while the chain is dead."""
        holding = self._holding
        if newer := self.newer_than(refused):
            return newer
        if holding.held is not None:
            # the older token is of no use any more, so there is nothing else left to live on
            self._renewing.use(holding.held)
            return holding.current()
        await self._refuse_if_dead()
        if self._may_renew(refused, path):
            self._rejections.began(refused.generation, self._clock.monotonic())
            await self._renewing.attempt()
            self._rejections.ended(holding.newest)
            if newer := self.newer_than(refused):
                return newer
            if holding.pair and holding.pair.access_until is None:
                await self._renewing.end_access()  # nobody knew its time; now it is known to be over
            await self._refuse_if_dead()
        return None

    def _may_renew(self, refused: Bearer, path: str) -> bool:
        pair = self._holding.newest
        if pair is None:
            return False
        if self._terms.needs_person and (pair.refresh_token is None or not self._renewing.may_present()):
            return False
        return self._rejections.may_refresh(refused.generation, path, pair, self._clock.monotonic())

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
        notes = taken_back(holding.record.extra) if returns else not_handed_over(holding.record.extra)
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
        holding.record = replace(holding.record, extra=taken_back(holding.record.extra))
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

    def newer_than(self, refused: Bearer) -> Bearer | None:
        """The bearer in use, where it is newer than `refused`."""
        bearer = self._holding.current()
        return bearer if bearer is not None and bearer.generation > refused.generation else None

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

"""One renewal as a transaction, carried out: record, present, keep the raw answer, read it (contract §4).

`core/oauth/transaction` says what each record means. The keeper calls this from its one task and decides what becomes of the pair.

Attempts in their order: when the next one is due, what becomes of a pair that was granted, and of an attempt that was not.

One attempt is carried out by `refreshing`; only the keeper's task calls what is here.

What a person at a terminal is told of an attempt that gave no pair.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from passoproxy.core.events import RefreshFailed, Warned
from passoproxy.core.oauth.chain import Access, Chain, Happening, Standing, arrival, has_ended, moved
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.schedule import is_last_stand, patience, pause, refresh_moment, time_left
from passoproxy.core.oauth.settings import Terms
from passoproxy.core.oauth.token_response import IMPORT, Dead, Lost, Misconfigured, Retryable, Unsent, read_answer
from passoproxy.core.oauth.transaction import (
    Candidate,
    Intent,
    begun,
    digest,
    hand_over,
    lost,
    may_present,
    refused,
    remembered,
    taken_back,
)
from passoproxy.errors import (
    AnswerUnusable,
    CannotCreate,
    CommandFailure,
    ConfigurationError,
    Fault,
    PairStoreFailure,
    PairStoreUnproven,
    PersonNeeded,
    ServiceUnreachable,
)
from passoproxy.ports import ChainRecord, Clock, Observer, RawAnswer
from passoproxy.tokens.persistence import RETRY_INTERVAL, Saving
from passoproxy.tokens.provider_client import Asking, Failure
from passoproxy.tokens.shutdown import LEAST_TIME, STOPPING, Shutdown
from passoproxy.tokens.state import Holding


@dataclass(frozen=True, slots=True)
class Granted:
    """A new pair. `durable`: its raw answer is on disk, so it may be used at once."""

    pair: Pair
    durable: bool


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """Nothing was sent, because the record could not be written."""

    reason: str


Outcome = Granted | Unrecorded | Failure


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one attempt came to, and the record that holds from now on."""

    outcome: Outcome
    record: ChainRecord


class Refreshing:
    """Carries out attempts. `steady` turns epoch seconds of the wall clock into the keeper's own time, which does not step."""

    def __init__(
        self,
        asking: Asking,
        saving: Saving,
        terms: Terms,
        salt: Callable[[], str],
        steady: Callable[[float], float],
        shutdown: Shutdown,
    ) -> None:
        self._asking = asking
        self._shutdown = shutdown
        self._saving = saving
        self._terms = terms
        self._salt = salt
        self._steady = steady

    async def renew(
        self, pair: Pair, record: ChainRecord, now: float, timeout: float, insist: bool, *, over: Pair | None = None
    ) -> Attempt:
        """Presents the pair's refresh token. `insist`: also where the record cannot be written (nothing is left to wait for).

        `over`: the pair was imported and is proved while that one is in use. It is the record's candidate, or becomes it with its intent.
        Never where a shared store cannot prove that nobody else presents it. The record is written when the connection stands, so that one
        on the disk says that the token may have left.
        """
        token = pair.refresh_token or ""
        recorded = _of_pair if over is None else _of_candidate
        before = record.intent if over is None else record.candidate.intent if record.candidate else None
        intent = begun(before, token, pair.generation, now)
        sent = recorded(record, pair, intent)
        faults: list[Exception] = []
        is_sent = False

        async def about_to_send() -> bool:
            nonlocal is_sent
            try:
                await self._saving.mark(sent)
            except Exception as fault:
                if not _is_borne(fault, insist):
                    faults.append(fault)
                    return False
            is_sent = self._saving.may_present()
            return is_sent

        if self._shutdown.left < LEAST_TIME:
            return Attempt(Unsent(STOPPING), record)
        if not await self._saving.retry() and not insist:
            # an answer to this one would be written over that of the newest pair, which is all that is on the disk of it
            return Attempt(Unrecorded(self._saving.fault), record)
        try:
            await self._saving.reserve()
        except PairStoreFailure as fault:
            if not _is_borne(fault, insist):
                return Attempt(Unrecorded(str(fault)), record)
        asked = await self._shutdown.bounded(self._asking.refresh(token, timeout, about_to_send), lambda: is_sent)
        match faults:
            case [PairStoreFailure() as unwritten]:
                return Attempt(Unrecorded(str(unwritten)), record)
            case [unforeseen]:
                raise unforeseen
        attempt = await self._read(asked, pair, sent, over)
        match attempt.outcome:
            case Granted(pair=new):
                spent = record.spent if new.refresh_token == token else remembered(record.spent, digest(token))
                after = replace(recorded(sent, pair, None), spent=spent)
            case Dead():
                after = replace(recorded(sent, pair, None), spent=remembered(record.spent, digest(token)))
            case Lost():
                after = recorded(sent, pair, lost(intent))
            case _:
                after = recorded(sent, pair, taken_back(intent))
        return Attempt(attempt.outcome, after)

    async def obtain(self, pair: Pair | None, record: ChainRecord, timeout: float) -> Attempt:
        """Asks for a client's own token: nothing is spent by it, so nothing is recorded before."""
        asked = await self._shutdown.bounded(self._asking.client_credentials(timeout), lambda: False)
        return await self._read(asked, pair, record)

    async def settle(self, answer: RawAnswer, pair: Pair | None, record: ChainRecord) -> Attempt:
        """The answer of a login: kept, then read."""
        if not await self._saving.retry():
            # the answer that is kept is all that is on the disk of the newest pair: only another pair may take its place
            try:
                self.read(answer, pair)
            except AnswerUnusable as fault:
                return Attempt(Lost(str(fault)), record)
        return await self._read(answer, pair, record)

    def read(self, answer: RawAnswer, pair: Pair | None) -> Pair:
        """The pair that a raw answer holds, after `pair`. Raises AnswerUnusable."""
        sent_at = self._steady(answer.sent_at)
        return read_answer(answer.body, answer.content_type, sent_at, answer.grant, pair, self._terms, self._salt())

    async def _read(
        self, asked: RawAnswer | Failure, pair: Pair | None, record: ChainRecord, over: Pair | None = None
    ) -> Attempt:
        if not isinstance(asked, RawAnswer):
            return Attempt(asked, record)
        newest = over or pair
        answer = replace(asked, previous_generation=newest.generation if newest else 0)
        if over is not None:
            answer = replace(answer, grant=IMPORT)
        durable = await self._saving.keep(answer)
        try:
            return Attempt(Granted(self.read(answer, pair), durable), record)
        except AnswerUnusable as fault:
            return Attempt(Lost(str(fault)), record)


def _of_pair(record: ChainRecord, pair: Pair, intent: Intent | None) -> ChainRecord:
    return replace(record, intent=intent)


def _of_candidate(record: ChainRecord, pair: Pair, intent: Intent | None) -> ChainRecord:
    return replace(record, candidate=None if intent is None else Candidate(pair, intent))


def _is_borne(fault: Exception, insist: bool) -> bool:
    """Whether a token is presented in spite of `fault`: on a last stand, where the disk is at fault and no shared store."""
    return insist and isinstance(fault, PairStoreFailure) and not isinstance(fault, PairStoreUnproven)


T = TypeVar("T")

SPACING = 1.0
"""Never more than one attempt within this many seconds."""

NO_TIME = 1e-6
"""Less than this is what is left of a wait by rounding, not by time."""

FIRST_REPLAY_WITHIN = 8.0
"""A token whose answer was lost is presented again within this many seconds, where it may be."""


class Renewing:
    """Renews what `holding` holds. `changed` is called when there is something new to see."""

    def __init__(
        self,
        holding: Holding,
        saving: Saving,
        refreshing: Refreshing,
        shutdown: Shutdown,
        terms: Terms,
        clock: Clock,
        chance: Callable[[], float],
        observe: Observer,
        changed: Callable[[], None],
    ) -> None:
        self._holding = holding
        self._saving = saving
        self._refreshing = refreshing
        self._shutdown = shutdown
        self._terms = terms
        self._clock = clock
        self._chance = chance
        self._observe = observe
        self._changed = changed
        self._asked_at = float("-inf")
        self.failures = 0
        self.attempting = False

    # ---- when ----------------------------------------------------------------------------------------------------------

    def due_in(self) -> float | None:
        """Seconds until the next attempt, 0 when it is due, None where there is none: none is begun before a stop but by order."""
        if self._holding.next_at is None or self._shutdown.begun:
            return None
        return max(0.0, self._holding.next_at - self._holding.now(), self.spacing())

    def plan(self, outcome: Failure | Unrecorded | None = None) -> None:
        """Sets when the next attempt is due: by the pair's life, or after an attempt that came to `outcome`."""
        holding, pair, now = self._holding, self._holding.newest, self._holding.now()
        chain = holding.standing.chain
        if chain is Chain.DEAD or holding.away or (pair is None and self._terms.needs_person):
            holding.next_at = None
        elif chain is Chain.UNKNOWN:
            wait = pause(pair, now, max(1, self.failures), self._chance())
            intent = holding.record.intent
            first = intent is None or intent.presented < 2
            holding.next_at = now + (min(wait, FIRST_REPLAY_WITHIN) if first else wait) if self.may_present() else None
        elif outcome is not None:
            holding.next_at = now + self._pause_after(outcome, now)
        elif pair is None:
            holding.next_at = now
        else:
            holding.next_at = refresh_moment(pair, self._terms, self._chance())

    def may_present(self) -> bool:
        """Whether the refresh token may be presented, as far as lost answers and hand-overs are concerned."""
        if self._holding.away:
            return False
        pair = self._holding.newest
        policy = self._terms.lost_answer_replay
        return may_present(
            self._holding.record.intent, policy, self._holding.now(), pair.access_until if pair else None
        )

    def _pause_after(self, outcome: Failure | Unrecorded, now: float) -> float:
        pair, chance = self._holding.newest, self._chance()
        match outcome:
            case Unrecorded():
                return min(RETRY_INTERVAL, max(SPACING, time_left(pair, now) or RETRY_INTERVAL))
            case Retryable(retry_after=retry_after):
                return pause(pair, now, self.failures, chance, retry_after=retry_after)
            case _:
                return pause(pair, now, self.failures, chance, slow=isinstance(outcome, Misconfigured | Dead))

    # ---- an attempt ----------------------------------------------------------------------------------------------------

    async def attempt(self, within: float | None = None) -> Outcome:
        """One renewal, from the record to what becomes of it.

        `within` bounds it, in seconds, before a stop: then nothing is sent that cannot be recorded, for there will be no memory to live in.
        """
        outcome = await self.spaced(lambda: self._carried_out(within))
        if isinstance(outcome, Granted):
            await self.adopt(outcome)
        else:
            outcome = await self._failed(outcome)
        self._changed()
        return outcome

    async def attempt_with(self, kept: Pair) -> Outcome:
        """Presents a pair that is kept for another client or token endpoint to this one, once. Nothing but success changes what is held here.

        The record of its own chain is in force meanwhile, so that a crash or a lost answer counts there; what this provider says against the
        token is no word of the one that it came from.
        """
        holding = self._holding
        ours = holding.record

        async def presented() -> Attempt:
            now = holding.now()
            theirs = replace(ours, asked_at=now).of(kept.client)
            return await self._refreshing.renew(kept, theirs, now, patience(kept, now), insist=False)

        attempt = await self.spaced(presented)
        outcome, after = attempt.outcome, attempt.record
        if isinstance(outcome, Granted):
            spent = replace(after, reason=f"its refresh token has brought a pair of {holding.client}")
            holding.record = spent.of(ours.client)
            if outcome.durable:  # before the generation, which is no successor of the other one's
                with contextlib.suppress(PairStoreFailure):
                    await self._saving.mark(replace(holding.record, state=Chain.HEALTHY))
            await self.adopt(outcome)
            if not holding.waiting:
                said = f"the pair of {kept.client} has brought one of {holding.client}"
                self._observe(Warned("pair_kept", said, over=True))
        else:
            holding.record = replace(after, spent=ours.spent).of(ours.client)
            holding.last_error = outcome.reason
            word = "unsent" if isinstance(outcome, Unrecorded) else outcome.word
            self._observe(RefreshFailed(word, outcome.reason, self.failures, holding.next_at))
            await self._saving.note(holding.record)
        self._changed()
        return outcome

    async def spaced(self, work: Callable[[], Awaitable[T]]) -> T:
        """Has the provider asked by `work`, a second after it was asked last at the earliest."""
        await self._clock.sleep(self.spacing())
        self.attempting = True
        try:
            return await work()
        finally:
            self.attempting = False
            self._asked_at = self._clock.monotonic()

    def spacing(self) -> float:
        """Seconds until the provider may be asked again."""
        wait = self._asked_at + SPACING - self._clock.monotonic()
        return wait if wait > NO_TIME else 0.0

    def count_before(self, asked_at: float) -> None:
        """The process before this one asked at `asked_at` (epoch seconds): a crash loop is no reason to ask more than once a second."""
        passed = max(0.0, self._holding.now() - asked_at)
        self._asked_at = self._clock.monotonic() - passed

    async def _carried_out(self, within: float | None) -> Outcome:
        holding, now = self._holding, self._holding.now()
        pair = holding.newest
        timeout = patience(pair, now) if within is None else min(patience(pair, now), within)
        holding.record = replace(holding.record, asked_at=now)
        if pair is None or not self._terms.needs_person:
            attempt = await self._refreshing.obtain(pair, holding.record, timeout)
        else:
            insist = (
                within is None and not self._shutdown.begun and (is_last_stand(pair, now) or holding.current() is None)
            )
            attempt = await self._refreshing.renew(pair, holding.record, now, timeout, insist)
        holding.record = attempt.record
        return attempt.outcome

    async def adopt(self, granted: Granted) -> None:
        """Saves a new pair, then uses it; where it cannot be saved it is held while the older one lives."""
        holding = self._holding
        new = holding.numbered(granted.pair)
        self.failures, holding.last_error = 0, ""
        holding.saved = await self.save(new) or granted.durable
        if holding.saved or holding.current() is None:
            self.use(new)
        else:
            holding.held = new
            self.plan()

    async def _failed(self, outcome: Failure | Unrecorded) -> Failure | Unrecorded:
        """What becomes of the pair; the outcome as it is told."""
        holding = self._holding
        if isinstance(outcome, Dead):
            if await self._found_another():
                return outcome
            outcome = self._refused(outcome)
        self.failures += 1
        holding.last_error = outcome.reason
        meaning = self._meaning(outcome)
        # why the token's fate is not known is not answered by a replay that told nothing of it
        keeps_reason = holding.standing.chain is Chain.UNKNOWN and meaning is Happening.FAILED
        holding.happened(meaning, reason=None if keeps_reason else outcome.reason)
        self._give_up_where_nothing_is_left()
        self.plan(outcome)
        word = "unsent" if isinstance(outcome, Unrecorded) else outcome.word
        self._observe(RefreshFailed(word, outcome.reason, self.failures, holding.next_at))
        await self._saving.note(holding.record)
        return outcome

    def _refused(self, outcome: Dead) -> Dead:
        """A refusal as it is told: of a pair that had been handed over, it says that the other side has used it.

        One of a token that nobody else can have spent is noted, because then the grant itself may be gone.
        """
        holding = self._holding
        token = holding.newest.refresh_token if holding.newest else None
        given = hand_over(holding.record.extra)
        if given is not None and holding.is_of(given):
            return replace(
                outcome, reason=f"the pair was handed over, and has been renewed elsewhere: {outcome.reason}"
            )
        if token is not None and holding.standing.chain in {Chain.HEALTHY, Chain.RETRYING}:
            holding.record = replace(holding.record, extra=refused(holding.record.extra, digest(token)))
        return outcome

    def _meaning(self, outcome: Failure | Unrecorded) -> Happening:
        """Client credentials cannot be spent, so a lost or refused request for them is just one that failed."""
        if self._terms.needs_person and isinstance(outcome, Dead):
            return Happening.REFUSED
        if self._terms.needs_person and isinstance(outcome, Lost):
            return Happening.LOST
        return Happening.FAILED

    async def _found_another(self) -> bool:
        """Whether the store holds a newer pair than the one that was refused (someone else rotated it): then that one is used."""
        pair, other = self._holding.newest, await self._saving.reread()
        if pair is None or other is None or other.generation <= pair.generation or self._holding.is_spent(other):
            return False
        self.failures = 0
        self.use(other)
        return True

    # ---- what becomes of a pair ----------------------------------------------------------------------------------------

    def use(self, pair: Pair, *, then: tuple[Happening, ...] = (), reason: str = "") -> None:
        """`pair` is in use from now on, and the next renewal planned; `then` is what is known to have followed, `reason` why."""
        self._holding.use(pair, then=then, reason=reason)
        self.plan()
        self._changed()

    async def save(self, pair: Pair) -> bool:
        """Makes a generation durable with the record that fits it; whether it is. What is not is tried again by `follow_time`."""
        holding = self._holding
        if pair is holding.pair:
            return await self._saving.commit(pair, holding.record)
        spent = holding.is_spent(pair)
        chain = moved(Standing(), arrival(pair, spent, self._terms)).chain
        reason = holding.record.reason if spent else ""
        return await self._saving.commit(pair, replace(holding.record, state=chain.value, reason=reason))

    async def follow_time(self) -> None:
        """What time alone brings: the end of the access token, and another try to write what could not be written."""
        holding = self._holding
        if await self._saving.retry():
            holding.saved = True
            if holding.held is not None:
                self.use(holding.held)
        if holding.pair and holding.standing.access is Access.VALID and has_ended(holding.pair, holding.now()):
            await self.end_access()
        elif self._give_up_where_nothing_is_left():
            await self._saving.note(holding.record)

    async def end_access(self) -> None:
        """The access token is of no use any more; a newer one that was held back takes its place."""
        holding = self._holding
        if holding.held is not None:
            self.use(holding.held)
            return
        holding.end_access()
        if self._give_up_where_nothing_is_left():
            await self._saving.note(holding.record)

    def _give_up_where_nothing_is_left(self) -> bool:
        """After a lost answer: `unknown` becomes `dead` when the access token has ended and no replay is left."""
        holding, intent = self._holding, self._holding.record.intent
        if holding.standing != Standing(Access.EXPIRED, Chain.UNKNOWN):
            return False
        if holding.away:
            holding.happened(Happening.GIVEN_UP)  # not remembered as spent: whoever has it may bring it back
            return True
        if intent is None or self.may_present():
            return False
        holding.record = replace(holding.record, intent=None, spent=remembered(holding.record.spent, intent.token))
        holding.happened(Happening.GIVEN_UP)
        holding.next_at = None
        return True


REMEDY = "check oauth.client_id, its secret, oauth.client_auth and oauth.token_url"
"""What to do where the provider refuses the client, or the request as such."""


def failure_of(outcome: Failure | Unrecorded) -> CommandFailure:
    """`outcome` with the exit code of contract §2."""
    match outcome:
        case Unsent(reason=reason) | Retryable(reason=reason):
            return ServiceUnreachable(f"{reason}; the pair is kept and it is tried again")
        case Lost(reason=reason):
            return ServiceUnreachable(f"the provider's answer was lost: {reason}; see 'passoproxy token status'")
        case Misconfigured(reason=reason):
            return ConfigurationError(Fault("", "oauth", reason, f"{REMEDY}; the pair is kept"))
        case Dead(reason=reason):
            return PersonNeeded(f"{reason}; run 'passoproxy login'")
        case Unrecorded(reason=reason):
            return CannotCreate(f"not refreshed, because the attempt cannot be recorded: {reason}")

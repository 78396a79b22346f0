"""One refresh, from the record to what becomes of the pair. Only the keeper's task calls what is here.

`present` is the transaction of contract §4: record, present, keep the raw answer, read it; `core/oauth/transaction` says what each record
means after a crash. `attempt` is one renewal of the pair in use: it saves a new pair before it publishes it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import AsyncIterator
from dataclasses import replace

from passoproxy.core.events import Warned
from passoproxy.core.oauth.chain import Access, Chain, Happening, Standing, arrival, has_ended, moved
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.schedule import is_last_stand, patience
from passoproxy.core.oauth.token_response import IMPORT, Dead, Lost, Misconfigured, Retryable, Unsent, read_answer
from passoproxy.core.oauth.transaction import (
    Candidate,
    Intent,
    begun,
    digest,
    hand_over,
    lost,
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
    PairDamaged,
    PairStoreFailure,
    PairStoreUnproven,
    PersonNeeded,
    ServiceUnreachable,
)
from passoproxy.ports import ChainRecord, RawAnswer
from passoproxy.tokens.provider_client import LEAST_TIME, STOPPING, Failure
from passoproxy.tokens.state import Granted, Outcome, State, Unrecorded
from passoproxy.values import dataclass

# ---- the transaction -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attempt:
    """What one presentation came to, and the record that holds from now on."""

    outcome: Outcome
    record: ChainRecord


async def present(
    state: State,
    pair: Pair,
    record: ChainRecord,
    *,
    over: Pair | None = None,
    insist: bool = False,
    within: float = math.inf,
) -> Attempt:
    """Presents the pair's refresh token, a second after the provider was asked last at the earliest, in `within` seconds at most.

    `insist`: on a last stand also if the record cannot be written, for then nothing is left to wait for. `over`: the pair was imported and is
    proved while that one is in use; it is the record's candidate, or becomes it with its intent.
    Never if a shared store cannot prove that no other instance presents it. The record is written when the connection stands, so that one
    on disk says that the token may have left.
    """
    async with _spaced(state):
        now, token, saving, store = state.now(), pair.refresh_token or "", state.saving, state.saving.store
        record = replace(record, asked_at=now)
        insist = insist and not state.shutdown.begun and (is_last_stand(pair, now) or state.current() is None)
        recorded = _of_pair if over is None else _of_candidate
        before = record.intent if over is None else record.candidate.intent if record.candidate else None
        intent = begun(before, token, pair.generation, now)
        sent = recorded(record, pair, intent)
        faults: list[Exception] = []
        is_sent = False

        async def about_to_send() -> bool:
            nonlocal is_sent
            try:
                await saving.call(store.save_record, sent)
            except Exception as fault:
                if not _is_borne(fault, insist):
                    faults.append(fault)
                    return False
            is_sent = store.may_present()
            return is_sent

        if state.shutdown.left < LEAST_TIME:
            return Attempt(Unsent(STOPPING), record)
        if not await saving.retry() and not insist:
            # an answer to this one would be written over that of the newest pair, which is all that is on disk of it
            return Attempt(Unrecorded(saving.fault), record)
        try:
            await saving.call(store.reserve)
        except PairStoreFailure as fault:
            if not _is_borne(fault, insist):
                return Attempt(Unrecorded(str(fault)), record)
        asking = state.asking.refresh(token, min(patience(pair, now), within), about_to_send)
        asked = await state.shutdown.bounded(asking, lambda: is_sent)
        match faults:
            case [PairStoreFailure() as unwritten]:
                return Attempt(Unrecorded(str(unwritten)), record)
            case [unforeseen]:
                raise unforeseen
        outcome = await _interpreted(state, asked, pair, over)
    match outcome:
        case Granted(pair=new):
            spent = record.spent if new.refresh_token == token else remembered(record.spent, digest(token))
            after = replace(recorded(sent, pair, None), spent=spent)
        case Dead():
            after = replace(recorded(sent, pair, None), spent=remembered(record.spent, digest(token)))
        case Lost():
            after = recorded(sent, pair, lost(intent))
        case _:
            after = recorded(sent, pair, taken_back(intent))
    return Attempt(outcome, after)


@contextlib.asynccontextmanager
async def _spaced(state: State) -> AsyncIterator[None]:
    """For what asks the provider: begins a second after it was asked last at the earliest."""
    await state.clock.sleep(state.spacing())
    state.attempting = True
    try:
        yield
    finally:
        state.attempting = False
        state.asked_at = state.clock.monotonic()


async def settle(state: State, answer: RawAnswer) -> Outcome:
    """The answer of a login: kept, then read."""
    if not await state.saving.retry():
        # the answer that is kept is all that is on disk of the newest pair: only another pair may take its place
        try:
            read(state, answer, state.newest)
        except AnswerUnusable as fault:
            return Lost(str(fault))
    return await _interpreted(state, answer, state.newest)


def read(state: State, answer: RawAnswer, pair: Pair | None) -> Pair:
    """The pair that a raw answer holds, after `pair`. Raises AnswerUnusable."""
    sent_at = state.steady(answer.sent_at)
    return read_answer(answer.body, answer.content_type, sent_at, answer.grant, pair, state.terms, state.salt())


async def _interpreted(
    state: State, asked: RawAnswer | Failure, pair: Pair | None, over: Pair | None = None
) -> Granted | Failure:
    if not isinstance(asked, RawAnswer):
        return asked
    newest = over or pair
    answer = replace(asked, previous_generation=newest.generation if newest else 0)
    if over is not None:
        answer = replace(answer, grant=IMPORT)
    durable = await state.saving.keep(answer)
    try:
        return Granted(read(state, answer, pair), durable)
    except AnswerUnusable as fault:
        return Lost(str(fault))


def _of_pair(record: ChainRecord, pair: Pair, intent: Intent | None) -> ChainRecord:
    return replace(record, intent=intent)


def _of_candidate(record: ChainRecord, pair: Pair, intent: Intent | None) -> ChainRecord:
    return replace(record, candidate=None if intent is None else Candidate(pair, intent))


def _is_borne(fault: Exception, insist: bool) -> bool:
    """Whether a token is presented in spite of `fault`: on a last stand, if the disk is at fault and no shared store."""
    return insist and isinstance(fault, PairStoreFailure) and not isinstance(fault, PairStoreUnproven)


# ---- attempts --------------------------------------------------------------------------------------------------------


async def attempt(state: State, within: float = math.inf) -> Outcome:
    """One renewal, from the record to what becomes of it.

    `within` bounds it, in seconds, before a stop: then nothing is sent that cannot be recorded, because no memory outlives the stop.
    """
    pair = state.newest
    outcome: Outcome
    if pair is None or not state.terms.needs_person:
        # a client's own token: nothing is spent by it, so nothing is recorded before
        async with _spaced(state):
            now = state.now()
            state.record = replace(state.record, asked_at=now)
            asking = state.asking.client_credentials(min(patience(pair, now), within))
            asked = await state.shutdown.bounded(asking, lambda: False)
            outcome = await _interpreted(state, asked, pair)
    else:
        done = await present(state, pair, state.record, insist=within == math.inf, within=within)
        outcome, state.record = done.outcome, done.record
    if isinstance(outcome, Granted):
        await adopt(state, outcome)
    else:
        outcome = await _failed(state, outcome)
    state.changed()
    return outcome


async def attempt_with(state: State, kept: Pair) -> Outcome:
    """Presents a pair that is kept for another client or token endpoint to this one, once. Only success changes the pair in use.

    The record of its own chain is in force meanwhile, so that a crash or a lost answer counts there; what this provider says against the
    token says nothing about the provider that issued it.
    """
    ours = state.record
    done = await present(state, kept, ours.of(kept.client))
    outcome, after = done.outcome, done.record
    if isinstance(outcome, Granted):
        spent = replace(after, reason=f"its refresh token has brought a pair of {state.client}")
        state.record = spent.of(ours.client)
        if outcome.durable:  # before the generation, which is no successor of the other one's
            with contextlib.suppress(PairStoreFailure):
                await state.saving.call(state.saving.store.save_record, replace(state.record, state=Chain.HEALTHY))
        await adopt(state, outcome)
        if not state.waiting:
            said = f"the pair of {kept.client} has brought one of {state.client}"
            state.observe(Warned("pair_kept", said, over=True))
    else:
        state.record = replace(after, spent=ours.spent).of(ours.client)
        state.last_error = outcome.reason
        state.observe(state.failed(outcome.word, outcome.reason))
        await state.saving.note(state.record)
    state.changed()
    return outcome


async def adopt(state: State, granted: Granted) -> None:
    """Saves a new pair, then uses it; if it cannot be saved it is held while the older one lives."""
    new = state.numbered(granted.pair)
    state.failures, state.last_error = 0, ""
    state.saved = await save(state, new) or granted.durable
    if state.saved or state.current() is None:
        state.use(new)
    else:
        state.held = new
        state.plan()


async def save(state: State, pair: Pair) -> bool:
    """Makes a generation durable with the record that fits it; whether it is. If not, `follow_time` tries again."""
    if pair is state.pair:
        return await state.saving.commit(pair, state.record)
    spent = state.is_spent(pair)
    chain = moved(Standing(), arrival(pair, spent, state.terms)).chain
    reason = state.record.reason if spent else ""
    return await state.saving.commit(pair, replace(state.record, state=chain.value, reason=reason))


async def _failed(state: State, outcome: Failure | Unrecorded) -> Failure | Unrecorded:
    """What becomes of the pair; the outcome as it is told."""
    needs_person = state.terms.needs_person
    if isinstance(outcome, Dead):
        if await _found_another(state):
            return outcome
        outcome = _refused(state, outcome)
    state.failures += 1
    state.last_error = outcome.reason
    # client credentials cannot be spent, so a lost or refused request for them is only one that failed
    refused = Happening.REFUSED if isinstance(outcome, Dead) and needs_person else None
    meaning = refused or (Happening.LOST if isinstance(outcome, Lost) and needs_person else Happening.FAILED)
    # a replay that told nothing leaves the reason why the token's fate is not known
    keeps_reason = state.standing.chain is Chain.UNKNOWN and meaning is Happening.FAILED
    state.happened(meaning, reason=None if keeps_reason else outcome.reason)
    state.give_up_if_nothing_is_left()
    state.plan(outcome)
    state.observe(state.failed(outcome.word, outcome.reason))
    await state.saving.note(state.record)
    return outcome


def _refused(state: State, outcome: Dead) -> Dead:
    """A refusal as it is told: of a pair that had been handed over, that the other side has used it.

    The refusal of a token that no other program can have spent is noted, because then the grant itself may be gone.
    """
    token = state.newest.refresh_token if state.newest else None
    given = hand_over(state.record.extra)
    if given is not None and state.is_of(given):
        return replace(outcome, reason=f"the pair was handed over, and has been renewed elsewhere: {outcome.reason}")
    if token is not None and state.standing.chain in {Chain.HEALTHY, Chain.RETRYING}:
        state.record = replace(state.record, extra=refused(state.record.extra, digest(token)))
    return outcome


async def _found_another(state: State) -> bool:
    """Whether the store holds a newer pair than the refused one (another program rotated it): then that one is used."""
    pair, other = state.newest, None
    with contextlib.suppress(PairStoreFailure, PairDamaged):
        other = await state.saving.call(state.saving.store.load)
    if pair is None or other is None or other.generation <= pair.generation or state.is_spent(other):
        return False
    state.failures = 0
    state.use(other)
    return True


# ---- time ------------------------------------------------------------------------------------------------------------


async def follow_time(state: State) -> None:
    """What time alone brings: the end of the access token, and another try to write what could not be written."""
    if await state.saving.retry():
        state.saved = True
        if state.held is not None:
            state.use(state.held)
    if state.pair and state.standing.access is Access.VALID and has_ended(state.pair, state.now()):
        await end_access(state)
    elif state.give_up_if_nothing_is_left():
        await state.saving.note(state.record)


async def end_access(state: State) -> None:
    """The access token is of no use any more; a newer one that was held back takes its place."""
    if state.held is not None:
        state.use(state.held)
        return
    state.end_access()
    if state.give_up_if_nothing_is_left():
        await state.saving.note(state.record)


REMEDY = "check oauth.client_id, its secret, oauth.client_auth and oauth.token_url"
"""What to do if the provider refuses the client, or the request as such."""


def failure_of(outcome: Failure | Unrecorded) -> CommandFailure:
    """`outcome` for a person at a terminal, with the exit code of contract §2."""
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

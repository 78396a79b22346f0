"""Pairs that come from outside, by an import or a login. An import over a pair that lives is proved by a refresh, and only with its success takes
the place of the old pair (contract §4).

From just before the proof is sent until its end is known, the imported pair stands in the record as its candidate, with an intent of its own.
Only the keeper's task calls what is here.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

from passoproxy.core.events import Warned
from passoproxy.core.oauth.chain import Happening
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.core.oauth.token_response import Dead, Lost, Misconfigured, Retryable, Unsent
from passoproxy.core.oauth.transaction import digest, hand_over, moved_to, not_handed_over, pair_taken_back, remembered
from passoproxy.errors import (
    AnswerUnusable,
    CannotCreate,
    CommandFailure,
    ConfigurationError,
    Fault,
    ImportRefused,
    ServiceUnreachable,
)
from passoproxy.ports import ChainRecord, RawAnswer
from passoproxy.tokens.refresh import REMEDY, adopt, failure_of, present, read, save, settle
from passoproxy.tokens.state import LIVING, Granted, Outcome, State, Unrecorded

AGAIN = "this pair was here before: a refresh with it was sent, and its answer was lost"

_KEPT = "both pairs are kept"


async def take(state: State, pair: Pair, force: bool) -> TokenSnapshot:
    """An imported pair is used, but never at the cost of one that lives: then it is proved first, unless by `force`.

    Raises ImportRefused if the pair in use goes on, and as `prove` does.
    """
    token, lives = pair.refresh_token, state.standing.chain in LIVING
    comes_back = state.away is not None and _returns(state, pair)
    if force or comes_back or not state.terms.needs_person or not lives:
        return await install(state, pair)
    if token is not None and state.newest is not None and token == state.newest.refresh_token:
        return state.snapshot()
    if token is None or state.is_spent(pair):
        unfit = "has no refresh token" if token is None else "was spent or refused before"
        raise ImportRefused(
            f"the imported pair {unfit}, and the pair in use lives and is kept; 'passoproxy token import --force' takes it all the same"
        )
    await prove(state, pair)
    state.no_longer_withdrawn()
    return state.snapshot()


async def take_answer(state: State, answer: RawAnswer) -> TokenSnapshot:
    """A login's answer is kept, read, and its pair used. Raises CommandFailure if it holds none."""
    with contextlib.suppress(AnswerUnusable):  # `settle` says so, when it is kept
        if state.is_spent(read(state, answer, state.newest)):
            # told again by a process that did not hear that it was taken, and renewed since: kept, it would be taken up at the next start
            return state.snapshot()
    outcome = await settle(state, answer)
    if not isinstance(outcome, Granted):
        raise failure_of(outcome)
    await install(state, outcome.pair)
    state.saved = state.saved or outcome.durable
    return state.snapshot()


async def install(state: State, pair: Pair) -> TokenSnapshot:
    """A pair from outside is saved and used, used also if it cannot be saved: a person has just given it."""
    returns, record = _returns(state, pair), without_candidate(state.record)
    pair = state.numbered(pair)
    notes = pair_taken_back(record.extra) if returns else not_handed_over(record.extra)
    intent = None if returns else moved_to(record.intent, pair)
    if not returns and intent is None:
        record = without_intent(record)
    state.record = replace(record, intent=intent, extra=notes)
    state.held, state.last_error, state.failures = None, "", 0
    state.logins.clear()
    saved = await save(state, pair)
    state.use(pair, then=() if intent is None else (Happening.LOST,), reason="" if intent is None else AGAIN)
    state.saved = saved
    state.no_longer_withdrawn()
    if returns and state.next_at is not None:
        state.next_at = state.now()  # renewed at once, so that the copy that was given away is worth nothing
    return state.snapshot()


def _returns(state: State, pair: Pair) -> bool:
    """Whether it is the pair that was handed over, which comes back."""
    given = hand_over(state.record.extra)
    return given is not None and pair.refresh_token is not None and digest(pair.refresh_token) == given.token


async def prove(state: State, pair: Pair) -> None:
    """Proves an imported pair at once, and uses what it brings. Raises CommandFailures that say why the old pair goes on."""
    waiting = state.record.candidate
    is_another = waiting is not None and waiting.intent.token != digest(pair.refresh_token or "")
    if waiting is None or is_another:
        pair = replace(pair, generation=state.newest.generation if state.newest else 0)
    elif state.may_prove(waiting):
        pair = waiting.pair
    else:
        raise ServiceUnreachable(f"the answer to this import's proof was lost before; {_KEPT}{_outlook(state)}")
    match await _attempt(state, pair):
        case Granted():
            if state.held is not None:
                raise CommandFailure(
                    f"the import is proved, and what it brought is held back until it can be saved: {state.snapshot().remedy}"
                )
        case Dead(reason=reason):
            raise ImportRefused(f"{reason}, to the imported refresh token; the pair in use is kept")
        case Lost(reason=reason):
            kept = "it and the pair in use are kept, the import that waited before is given up" if is_another else _KEPT
            raise ServiceUnreachable(f"the answer to the import's proof was lost: {reason}; {kept}{_outlook(state)}")
        case Misconfigured(reason=reason):
            raise ConfigurationError(Fault("", "oauth", reason, f"{REMEDY}; the pair in use is kept"))
        case Unsent(reason=reason) | Retryable(reason=reason):
            raise ServiceUnreachable(f"the import is not proved: {reason}; the pair in use is kept")
        case Unrecorded(reason=reason):
            raise CannotCreate(f"the import is not proved, because that cannot be recorded: {reason}")


async def repeat(state: State) -> None:
    """Presents the candidate once more, if it still may be."""
    candidate = state.record.candidate
    if candidate is not None and state.may_prove(candidate):
        await _attempt(state, candidate.pair)
    else:
        state.plan_proof()


async def follow_time(state: State) -> None:
    """What time alone brings: the old pair has died, or the candidate may not be presented any more and its access token has ended."""
    candidate = state.record.candidate
    if candidate is None:
        if state.proof_told:
            _tell(state, "no imported pair waits for its proof any more", over=True)
        return
    ends = candidate.pair.access_until
    if state.standing.chain not in LIVING:  # there is nothing to lose any more: the pair is used unproved
        pair = state.numbered(candidate.pair)
        intent, notes = moved_to(candidate.intent, pair), not_handed_over(state.record.extra)
        state.record = replace(state.record, candidate=None, intent=intent, extra=notes)
        state.held, state.proof_at = None, None
        state.saved = await save(state, pair)
        state.use(pair, then=(Happening.LOST,), reason=AGAIN)
        _tell(state, "the imported pair is in use, unproved, because the one before is lost", over=True)
    elif not state.may_prove(candidate) and ends is not None and state.now() >= ends:
        state.record = without_candidate(state.record)
        text = "an imported pair was given up: the answer to its proof was lost, and its access token has ended"
        _tell(state, text, over=True)
        await state.saving.note(state.record)


async def _attempt(state: State, pair: Pair) -> Outcome:
    before = state.record.candidate
    other = before if before is not None and before.pair is not pair else None
    if other is not None:
        state.record = without_candidate(state.record)
    done = await present(state, pair, state.record, over=state.newest or pair)
    outcome, state.record = done.outcome, done.record
    if other is not None and not isinstance(outcome, Granted) and state.record.candidate is None:
        # this one came to nothing, and the one that waited goes on waiting
        spent = tuple(mark for mark in state.record.spent if mark != other.intent.token)
        state.record = replace(state.record, candidate=other, spent=spent)
    if isinstance(outcome, Granted):
        state.record = replace(without_intent(state.record), extra=not_handed_over(state.record.extra))
        state.logins.clear()
        await adopt(state, outcome)
        text = "the imported pair is proved and in use"
    else:
        text = state.last_error = f"the imported pair is not proved: {outcome.reason}"
        if state.record.candidate not in (None, other):
            text = f"{text}; {_KEPT}{_outlook(state)}"
        await state.saving.note(state.record)
    state.plan_proof()
    if state.proof_told or state.record.candidate is not None:
        _tell(state, text, over=state.record.candidate is None)
    return outcome


def _outlook(state: State) -> str:
    candidate = state.record.candidate
    if candidate is not None and state.may_prove(candidate):
        return ", and the proof is repeated"
    return "; oauth.lost_answer_replay allows no further proof, and 'passoproxy token import --force' takes it unproved"


def _tell(state: State, text: str, *, over: bool = False) -> None:
    state.proof_told = not over
    state.observe(Warned("import_unproved", text, over=over))


def without_intent(record: ChainRecord) -> ChainRecord:
    """`record` without the intent of a pair that is given up; its token, which may be spent, is remembered."""
    if record.intent is None:
        return record
    return replace(record, intent=None, spent=remembered(record.spent, record.intent.token))


def without_candidate(record: ChainRecord) -> ChainRecord:
    """`record` without a candidate; its token, which may be spent, is remembered."""
    if record.candidate is None:
        return record
    return replace(record, candidate=None, spent=remembered(record.spent, record.candidate.intent.token))

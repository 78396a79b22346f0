"""What is found at the start: the stored pair, what a crash left of a refresh (`core/oauth/transaction` knows the way out), and the seed.

The seed (`oauth.seed_file`) is the pair that a machine is born with: it is taken up once, if nothing is stored, and never again. A seed that was
used is known by the digest of its refresh token, in the record and in the pair that came of it. If a stored file was damaged that knowledge may
be gone, so no seed is used then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from passoproxy.core.events import PairFileDamaged, Warned
from passoproxy.core.oauth.chain import Chain, Happening, arrival
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.schedule import rooted
from passoproxy.core.oauth.token_response import IMPORT, read_import
from passoproxy.core.oauth.transaction import (
    AnswerUnknown,
    NotCommitted,
    concerns,
    digest,
    floor,
    lost,
    moved_to,
    not_handed_over,
    proved_since,
    remembered,
    seeded,
    seeds,
    spent_since,
    unrecorded,
    way_out,
)
from passoproxy.errors import AnswerUnusable, PairStoreFailure, PassoproxyError
from passoproxy.ports import ChainRecord, RawAnswer
from passoproxy.tokens.imports import without_candidate
from passoproxy.tokens.refresh import follow_time, read, save
from passoproxy.tokens.state import State

SEED = "seed"
"""`Pair.source` of a seed."""

INTERRUPTED = "a refresh was sent before the last stop, and its answer is not known"
SILENT = "the stored record says nothing of the stored pair, so it is not known which tokens were spent"


async def load(state: State, seed: Callable[[], bytes] | None) -> None:
    """Takes up what is stored. A store that cannot be read is told of once; `state.unread` stays True until it can be.

    `seed` gives a document as for `token import`; it raises a PassoproxyError that says why it cannot.
    """
    try:
        pair, record, answer = await state.saving.load()
    except PairStoreFailure as fault:
        if not state.unread:
            state.reason = state.last_error = str(fault)
            state.observe(PairFileDamaged(str(fault)))
        state.unread = True
    else:
        if state.unread:
            state.reason = state.last_error = ""
        state.unread = False
        state.kept = await state.saving.call(state.saving.store.kept)
        await _take_up(state, pair, record, answer)
        _tell_changes(state)
        if seed is not None and state.newest is None and state.terms.needs_person:
            await _plant(state, seed)
    state.plan()
    state.plan_proof()


async def _take_up(state: State, pair: Pair | None, record: ChainRecord, answer: RawAnswer | None) -> None:
    damage = state.saving.damage
    state.generation = max(state.generation, pair.generation if pair else 0, floor(record.extra))
    # a record that was written, and says nothing of the pair beside it
    is_silent = pair is not None and record.client != "" and record.state == Chain.NONE
    unknown = state.saving.unrecorded or (SILENT if is_silent else "")
    record = record.of(state.client)
    if pair is not None:
        record = _with_seed(record, pair)  # a crash may have come between the two
        pair = rooted(pair, state.now(), state.terms)
    state.record = record
    if pair is not None and damage and state.is_spent(pair) and record.state != Chain.DEAD.value:
        # the provider refused nothing: the generation that this token was spent for is the damaged one
        record = state.record = replace(record, reason=damage)
    # the process before this one asked then: a crash loop is no reason to ask more than once a second
    state.asked_at = state.clock.monotonic() - max(0.0, state.now() - record.asked_at)
    answered = _answered(state, answer, pair)
    new = _readable(state, answer, answered)
    if new and answer and way_out(pair, record.intent, answer.previous_generation) == NotCommitted():
        pair = new = _adopted(state, new, answered, answer)
    else:
        new = None
    is_proved = _take_up_candidate(state, pair)
    if unknown and (intent := unrecorded(pair, state.now())):
        state.record = replace(state.record, state=Chain.UNKNOWN, reason=unknown, intent=intent)
    mark = ""
    match way_out(pair, state.record.intent, None):
        case AnswerUnknown(intent=intent) if pair:
            was_unknown = state.record.state == Chain.UNKNOWN
            reason = (state.record.reason if was_unknown else "") or INTERRUPTED
            state.record = replace(state.record, intent=intent)
            renewable = arrival(pair, state.is_spent(pair), state.terms) is Happening.OBTAINED
            then = (Happening.LOST,) if renewable else ()
            state.use(pair, loaded=new is None, then=then, reason=reason if then else "")
        case _:
            if mark := spent_since(state.record.intent, pair):
                state.record = replace(state.record, spent=remembered(state.record.spent, mark))
            state.record = replace(state.record, intent=None)
            if pair is not None:
                state.use(pair, loaded=new is None)
    if new is not None:
        await save(state, new)
    elif mark or is_proved or (pair and unknown):
        await state.saving.note(state.record)
    await follow_time(state)
    if state.pair is None and damage:
        state.reason = state.last_error = damage


def _tell_changes(state: State) -> None:
    if state.waiting:
        names = "; ".join(f"the pair of {pair.client}" for pair in state.waiting)
        said = f"{names}: kept until its own configuration is back, and sent nowhere; the configuration names {state.client}"
        state.observe(Warned("pair_kept", said))
    if state.pair is None:
        return
    for before, now, code, goes in (
        (state.pair.upstream, state.upstream, "upstream_changed", "upstream.url was {}: {} its access token goes to {}"),
        (state.pair.refresh_url, state.refresh_url, "refresh_url_changed", "refresh tokens went to {}: {} its refresh token goes to {}"),
    ):  # fmt: skip
        if before and now and before != now:
            state.observe(Warned(code, goes.format(before, "the pair that was obtained then is kept, and", now)))


# ---- a kept answer ---------------------------------------------------------------------------------------------------


def _answered(state: State, answer: RawAnswer | None, pair: Pair | None) -> Pair | None:
    """The pair that a kept answer follows: the stored one, the candidate if its proof was answered, or one that is kept for others."""
    if answer is not None and answer.grant == IMPORT:
        candidate = state.record.candidate
        return candidate.pair if candidate is not None else None
    if pair is not None or answer is None:
        return pair
    # a pair of another client may have been presented to this provider by force
    followed = [other for other in state.kept if other.generation == answer.previous_generation]
    intents = {other.client: other.intent for other in state.record.others}
    begun = (other for other in followed if concerns(intents.get(other.client), other))
    return next(begun, followed[0] if followed else None)


def _readable(state: State, answer: RawAnswer | None, pair: Pair | None) -> Pair | None:
    """The pair of a kept answer; None without one, or if it cannot be read (then it is a lost one)."""
    try:
        return read(state, answer, pair) if answer is not None else None
    except AnswerUnusable:
        return None


def _adopted(state: State, new: Pair, pair: Pair | None, answer: RawAnswer) -> Pair:
    """A kept answer that was not committed becomes the pair. It is durable already, so it is used even if it cannot be committed.

    If it could not be committed before either, its token may have been presented since: what the record says of that is kept.
    """
    record = state.record
    state.generation = max(state.generation, answer.previous_generation)
    new = state.numbered(new)
    if answer.grant == IMPORT:
        record = replace(record, candidate=None, extra=not_handed_over(record.extra))
    old = pair.refresh_token if pair and answer.grant in {"refresh_token", IMPORT} else None
    if old is not None and old != new.refresh_token:
        record = replace(record, spent=remembered(record.spent, digest(old)))
    if record.intent is not None and record.intent.generation > answer.previous_generation:
        record = replace(record, intent=moved_to(record.intent, new))
    state.record = record
    return new


def _take_up_candidate(state: State, pair: Pair | None) -> bool:
    """What is left of an import that was not proved yet; whether it is done with. `pair` is the newest one now."""
    candidate = state.record.candidate
    if candidate is None:
        return False
    if proved_since(candidate, pair):
        state.record = without_candidate(state.record)
        return True
    found = rooted(candidate.pair, state.now(), state.terms)
    state.record = replace(state.record, candidate=replace(candidate, pair=found, intent=lost(candidate.intent)))
    return False


# ---- the seed --------------------------------------------------------------------------------------------------------


async def _plant(state: State, seed: Callable[[], bytes]) -> None:
    """Takes the seed up, or tells why not."""
    record, damage = state.record, state.saving.damage
    try:
        pair = replace(read_import(seed(), state.now(), state.terms, state.salt()), source=SEED)
    except AnswerUnusable as fault:
        return _refuse(state, "seed_refused", str(fault).replace("the import", "the pair in oauth.seed_file"))
    except PassoproxyError as fault:
        return _refuse(state, "seed_refused", str(fault))
    if _mark(pair) in (*seeds(record.extra), *record.spent):
        return _refuse(state, "seed_spent", "the pair in oauth.seed_file was used before, and is not presented again")
    if damage:
        text = f"oauth.seed_file is not used, because a pair was here before: {damage}"
        return _refuse(state, "seed_unused", text)
    pair = state.numbered(pair)
    state.record = _with_seed(record, pair)
    state.saved = await save(state, pair)
    state.use(pair)
    return None


def _refuse(state: State, code: str, text: str) -> None:
    state.reason = state.last_error = text
    state.observe(Warned(code, text))


def _with_seed(record: ChainRecord, pair: Pair) -> ChainRecord:
    """The record with `pair` among the seeds that were used, if it is one."""
    return replace(record, extra=seeded(record.extra, _mark(pair))) if pair.source == SEED else record


def _mark(pair: Pair) -> str:
    return digest(pair.refresh_token or pair.access_token)

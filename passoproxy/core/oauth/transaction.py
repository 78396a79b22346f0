"""The refresh as a transaction: the record that is durable before a token is presented, and the way out after a crash.

A refresh token is spent when the provider reads it, not when its answer is stored. So before each presentation an `Intent` is made
durable; it tells which token was about to be spent, and how often it was presented without its fate being told. What stands
on disk after a crash, and the way out (`way_out`):

    on disk                                             what the provider may believe      way out
    no intent                                           nothing was sent                   NotSent: go on as before
    intent, no answer kept                              sent or not, it is not known       AnswerUnknown: a lost answer
    intent, an answer kept that cannot be read          answered, the token may be spent   AnswerUnknown: a lost answer
    answer kept that follows the newest generation,     answered, the token is spent       NotCommitted: interpret and commit it,
      or one that is not here any more                                                       then look again: the new token has a record too
    intent or answer of an older generation             done with                          NotSent: both are left-overs
    a record that is damaged                            it is not known                    AnswerUnknown, by an intent of its own (`unrecorded`)

Sending is in `tokens/refresh.py`, files in `stores/pair`. Here are no tokens, only their digests.

The record also keeps notes beside the chain, as pairs of text: a hand-over, seeds that were used, how a token was refused. Names that are not known
are kept, for later versions.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from passoproxy.core.oauth.pair import Pair
from passoproxy.values import dataclass

Notes = tuple[tuple[str, str], ...]

_HANDED_OVER = "handed_over"
_TAKEN_BACK = "taken_back"
_SEED = "seed"
_REFUSED = "refused"
_FLOOR = "generation"

SEEDS = 50
"""How many seeds are remembered; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """A pair that `token export` gave away: its refresh token's digest, when (epoch seconds), and whether it was taken back since."""

    token: str
    at: float
    is_back: bool = False


def hand_over(notes: Notes) -> HandOver | None:
    """The last hand-over; None if there was none since the last new pair."""
    for name, text in reversed(notes):
        token, _, at = text.partition(" ")
        if name in {_HANDED_OVER, _TAKEN_BACK}:
            return HandOver(token, _moment(at), name == _TAKEN_BACK)
    return None


def handed_over(notes: Notes, token: str, at: float) -> Notes:
    """The pair whose refresh token has the digest `token` belongs to another program from now on."""
    return (*not_handed_over(notes), (_HANDED_OVER, f"{token} {at:.3f}"))


def pair_taken_back(notes: Notes) -> Notes:
    """What was handed over is ours again, as far as is known here: the other program may have used it meanwhile."""
    given = hand_over(notes)
    return notes if given is None else (*not_handed_over(notes), (_TAKEN_BACK, f"{given.token} {given.at:.3f}"))


def not_handed_over(notes: Notes) -> Notes:
    """A new pair is here: no hand-over counts any more."""
    return tuple(note for note in notes if note[0] not in {_HANDED_OVER, _TAKEN_BACK})


def seeds(notes: Notes) -> tuple[str, ...]:
    """The digests of seeds that were used."""
    return tuple(text for name, text in notes if name == _SEED)


def seeded(notes: Notes, token: str) -> Notes:
    """A seed was used: it is never used again."""
    known = (*(each for each in seeds(notes) if each != token), token)[-SEEDS:]
    return (*(note for note in notes if note[0] != _SEED), *((_SEED, each) for each in known))


def refused(notes: Notes, token: str) -> Notes:
    """The provider refused a token of which nothing had been lost and that no other program had: the grant itself may be gone."""
    return (*(note for note in notes if note[0] != _REFUSED), (_REFUSED, token))


def was_refused(notes: Notes, token: str) -> bool:
    """Whether that was noted of `token`."""
    return (_REFUSED, token) in notes


def floored(notes: Notes, generation: int) -> Notes:
    """New pairs are numbered above `generation`, also if there is no pair any more."""
    return (*(note for note in notes if note[0] != _FLOOR), (_FLOOR, str(generation)))


def floor(notes: Notes) -> int:
    """What new pairs are numbered above; 0 if nothing is noted."""
    text = dict(notes).get(_FLOOR, "")
    return int(text) if text.isdecimal() else 0


def lasting(notes: Notes) -> Notes:
    """What outlives the pair: the seeds."""
    return tuple(note for note in notes if note[0] == _SEED)


def _moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


Replay = str | float
"""`oauth.lost_answer_replay`: 'never', 'once', 'always', or a grace period in seconds."""

REMEMBERED = 1000
"""How many spent tokens are remembered, two weeks of an hourly pair and more; the oldest are forgotten first."""


@dataclass(frozen=True, slots=True)
class Intent:
    """A token that is presented, or whose fate was never told.

    `token` is its digest, `generation` that of its pair. `begun_at` is when it was presented first (epoch seconds), `presented` how often it
    was presented without its fate being told, the one under way included. `lost` says that the last answer is known to be lost.
    """

    token: str
    generation: int
    begun_at: float
    presented: int = 1
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pair that was imported while another one lives, and is to be proved by a refresh; `intent` is that refresh, whose end is not known.

    Its generation is that of the pair which was in use then.
    """

    pair: Pair
    intent: Intent


def digest(token: str) -> str:
    """A token as it is remembered: SHA-256, hexadecimal. Tokens are long and random, so their digest gives nothing away."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def concerns(intent: Intent | None, pair: Pair | None) -> bool:
    """Whether `intent` speaks of the refresh token that `pair` holds now."""
    return (
        intent is not None
        and pair is not None
        and pair.refresh_token is not None
        and intent.generation == pair.generation
        and intent.token == digest(pair.refresh_token)
    )


def begun(before: Intent | None, token: str, generation: int, now: float) -> Intent:
    """The record that must be durable before `token` is presented (again)."""
    if before is not None and before.token == digest(token) and before.generation == generation:
        return replace(before, presented=before.presented + 1, lost=False)
    return Intent(digest(token), generation, now)


def taken_back(intent: Intent) -> Intent | None:
    """After an attempt that told nothing bad (unsent, or answered and still good): this presentation does not count.

    None if it was the only one; else the earlier loss stands.
    """
    return replace(intent, presented=intent.presented - 1, lost=True) if intent.presented > 1 else None


def lost(intent: Intent) -> Intent:
    """After an attempt whose answer is lost."""
    return replace(intent, lost=True)


def moved_to(intent: Intent | None, pair: Pair) -> Intent | None:
    """What is known of the token that `pair` holds, under the pair's own generation; None if nothing is.

    So it is known also if the same pair is imported again, or is committed after it was presented.
    """
    if intent is None or pair.refresh_token is None or intent.token != digest(pair.refresh_token):
        return None
    return replace(intent, generation=pair.generation)


def unrecorded(pair: Pair | None, now: float) -> Intent | None:
    """What stands for a record that is damaged: one answer to the pair's token is lost, whatever came before. None without a token."""
    if pair is None or pair.refresh_token is None:
        return None
    return Intent(digest(pair.refresh_token), pair.generation, now, lost=True)


def may_present(intent: Intent | None, policy: Replay, now: float, access_until: float | None) -> bool:
    """Whether a token may be presented, also again after its answer was lost (`oauth.lost_answer_replay`).

    `always` lasts until the access token ends, but is at least once: if it had ended before, there is nothing to lose by it.
    """
    if intent is None:
        return True
    match policy:
        case "never":
            return False
        case "once":
            return intent.presented < 2
        case "always":
            return intent.presented < 2 or access_until is None or now < access_until
        case _:
            return now - intent.begun_at < float(policy)


# ---- after a crash ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NotSent:
    """Nothing is under way."""


@dataclass(frozen=True, slots=True)
class AnswerUnknown:
    """The token may be spent; `intent` says how often it was presented."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class NotCommitted:
    """An answer was kept; it is to be interpreted and committed."""


WayOut = NotSent | AnswerUnknown | NotCommitted


def way_out(pair: Pair | None, intent: Intent | None, answer_follows: int | None) -> WayOut:
    """What a crash left behind. `answer_follows` is the generation that a kept and readable answer follows, None without one."""
    if answer_follows is not None and answer_follows >= (pair.generation if pair else 0):
        return NotCommitted()
    if intent is not None and concerns(intent, pair):
        return AnswerUnknown(lost(intent))
    return NotSent()


def spent_since(intent: Intent | None, pair: Pair | None) -> str:
    """The token whose fate a newer generation tells: a crash came between that generation and its record. '' if there is none."""
    if intent is None or pair is None or intent.generation >= pair.generation:
        return ""
    is_kept = pair.refresh_token is not None and intent.token == digest(pair.refresh_token)
    return "" if is_kept else intent.token


def proved_since(candidate: Candidate, pair: Pair | None) -> bool:
    """Whether `pair`, the newest one, came of a proof or a login after `candidate`: a crash came between it and its record."""
    return pair is not None and pair.generation > candidate.pair.generation and pair.source != "refresh"


def remembered(spent: tuple[str, ...], mark: str) -> tuple[str, ...]:
    """`spent` with the digest of one more token that must not be presented again; the oldest are forgotten."""
    return (*(known for known in spent if known != mark), mark)[-REMEMBERED:]

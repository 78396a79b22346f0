"""What the chain's record remembers beside the chain itself, as pairs of text: a hand-over, seeds that were used, how a token was refused.

Tokens are there as their digests (`transaction.digest`). Names that are not known are kept, for later versions.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """The last hand-over; None where there was none since the last new pair."""
    for name, text in reversed(notes):
        token, _, at = text.partition(" ")
        if name in {_HANDED_OVER, _TAKEN_BACK}:
            return HandOver(token, _moment(at), name == _TAKEN_BACK)
    return None


def handed_over(notes: Notes, token: str, at: float) -> Notes:
    """The pair whose refresh token has the digest `token` is somebody else's from now on."""
    return (*not_handed_over(notes), (_HANDED_OVER, f"{token} {at:.3f}"))


def taken_back(notes: Notes) -> Notes:
    """What was handed over is ours again, as far as we know: somebody may have used it meanwhile."""
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
    """The provider refused a token of which nothing had been lost and that nobody else had: the grant itself may be gone."""
    return (*(note for note in notes if note[0] != _REFUSED), (_REFUSED, token))


def was_refused(notes: Notes, token: str) -> bool:
    """Whether that was noted of `token`."""
    return (_REFUSED, token) in notes


def floored(notes: Notes, generation: int) -> Notes:
    """New pairs are numbered above `generation`, also where there is no pair any more."""
    return (*(note for note in notes if note[0] != _FLOOR), (_FLOOR, str(generation)))


def floor(notes: Notes) -> int:
    """What new pairs are numbered above; 0 where nothing is noted."""
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

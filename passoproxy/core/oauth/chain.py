"""The two machines of a pair, and every way from one state into another.

Access token and refresh chain live and die apart: a chain may be dead while its access token serves to its last second, and a failed
refresh never takes a valid token away. So there is no one boolean, but two words that move by the same happenings:

    access  none ──obtained──▶ valid ──ended──▶ expired ──obtained──▶ valid              (forgotten: none, from anywhere)
    chain   none ──obtained──▶ healthy ──failed──▶ retrying ──obtained──▶ healthy
            healthy, retrying ──lost──▶ unknown ──obtained──▶ healthy
                                        unknown ──given up──▶ dead
            healthy, retrying, unknown ──refused──▶ dead ──obtained──▶ healthy
            healthy, retrying ──handed over──▶ unknown   (another program may spend the token; taken back: obtained)

A chain is given up when its access token has ended and its refresh token may not be presented again, or was handed over. `unknown` does not go back to
`retrying`: a replay that failed has told nothing about the token. What is not in a table cannot happen, and `moved` says so. When things
happen is decided in `schedule`, what is shown in `snapshot`.
"""

from __future__ import annotations

from enum import StrEnum

from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.settings import Terms
from passoproxy.values import dataclass


class Access(StrEnum):
    """The access token."""

    NONE = "none"
    VALID = "valid"
    EXPIRED = "expired"


class Chain(StrEnum):
    """The refresh chain. `unknown`: a refresh was sent and its answer lost. `dead`: a person is needed."""

    NONE = "none"
    HEALTHY = "healthy"
    RETRYING = "retrying"
    UNKNOWN = "unknown"
    DEAD = "dead"


class Happening(StrEnum):
    """What moves the machines."""

    OBTAINED = "obtained"
    """A new pair that can be renewed is in use."""
    OBTAINED_BARE = "obtained bare"
    """A new access token without a refresh token is in use."""
    OBTAINED_SPENT = "obtained spent"
    """A pair came in whose refresh token is remembered as spent or dead."""
    FAILED = "failed"
    """An attempt gave nothing, and the token is unspent."""
    LOST = "lost"
    """An attempt's answer is lost."""
    REFUSED = "refused"
    """The provider refuses the refresh token."""
    HANDED_OVER = "handed over"
    """The pair was exported: another program renews it, and its fate is not known here."""
    ENDED = "ended"
    """The access token's time is up, or it was refused, and its time is not known or nothing can renew it."""
    GIVEN_UP = "given up"
    """After a lost answer nothing is left to try, and the access token has ended."""
    FORGOTTEN = "forgotten"
    """The pair was erased."""


_A, _C, _H = Access, Chain, Happening

ACCESS: dict[tuple[Access, Happening], Access] = {
    **{(state, _H.OBTAINED): _A.VALID for state in Access},
    **{(state, _H.OBTAINED_BARE): _A.VALID for state in Access},
    **{(state, _H.OBTAINED_SPENT): _A.VALID for state in Access},
    **{(state, _H.FORGOTTEN): _A.NONE for state in Access},
    **{
        (state, happening): state
        for state in Access
        for happening in (_H.FAILED, _H.LOST, _H.REFUSED, _H.HANDED_OVER, _H.GIVEN_UP)
    },
    (_A.NONE, _H.ENDED): _A.NONE,
    (_A.VALID, _H.ENDED): _A.EXPIRED,
    (_A.EXPIRED, _H.ENDED): _A.EXPIRED,
}

CHAIN: dict[tuple[Chain, Happening], Chain] = {
    **{(state, _H.OBTAINED): _C.HEALTHY for state in Chain},
    **{(state, _H.OBTAINED_BARE): _C.NONE for state in Chain},
    **{(state, _H.OBTAINED_SPENT): _C.DEAD for state in Chain},
    **{(state, _H.FORGOTTEN): _C.NONE for state in Chain},
    **{(state, _H.ENDED): state for state in Chain},
    (_C.UNKNOWN, _H.GIVEN_UP): _C.DEAD,
    # only client credentials are asked for without a pair, and they lose nothing by an answer that is lost
    (_C.NONE, _H.FAILED): _C.RETRYING,
    (_C.HEALTHY, _H.FAILED): _C.RETRYING,
    (_C.RETRYING, _H.FAILED): _C.RETRYING,
    (_C.UNKNOWN, _H.FAILED): _C.UNKNOWN,
    (_C.DEAD, _H.FAILED): _C.DEAD,  # a dead token was presented by force
    (_C.HEALTHY, _H.LOST): _C.UNKNOWN,
    (_C.RETRYING, _H.LOST): _C.UNKNOWN,
    (_C.UNKNOWN, _H.LOST): _C.UNKNOWN,
    (_C.DEAD, _H.LOST): _C.DEAD,
    (_C.HEALTHY, _H.HANDED_OVER): _C.UNKNOWN,
    (_C.RETRYING, _H.HANDED_OVER): _C.UNKNOWN,
    (_C.UNKNOWN, _H.HANDED_OVER): _C.UNKNOWN,
    (_C.DEAD, _H.HANDED_OVER): _C.DEAD,
    (_C.HEALTHY, _H.REFUSED): _C.DEAD,
    (_C.RETRYING, _H.REFUSED): _C.DEAD,
    (_C.UNKNOWN, _H.REFUSED): _C.DEAD,
    (_C.DEAD, _H.REFUSED): _C.DEAD,
}


@dataclass(frozen=True, slots=True)
class Standing:
    """Where both machines stand."""

    access: Access = Access.NONE
    chain: Chain = Chain.NONE


def moved(standing: Standing, *happenings: Happening) -> Standing:
    """Both machines after `happenings`, one after the other. Raises ValueError for what cannot happen there."""
    for happening in happenings:
        try:
            standing = Standing(ACCESS[standing.access, happening], CHAIN[standing.chain, happening])
        except KeyError:
            raise ValueError(f"{happening} cannot happen to a chain that is {standing.chain}") from None
    return standing


def arrival(pair: Pair, spent: bool, terms: Terms) -> Happening:
    """How a pair arrives. `spent`: its refresh token is remembered as spent or dead."""
    if terms.grant == "client_credentials":
        return Happening.OBTAINED
    if pair.refresh_token is None:
        return Happening.OBTAINED_BARE
    return Happening.OBTAINED_SPENT if spent else Happening.OBTAINED


def has_ended(pair: Pair, now: float) -> bool:
    """Whether the access token's time is up; one of unknown lifetime never ends by time."""
    return pair.access_until is not None and now >= pair.access_until

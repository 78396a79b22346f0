"""The keeper's one state: the pair in use, its record, both machines, what is planned, and the one clock that they live by.

Only the keeper's task changes it; other tasks look. Nothing here waits, writes or sends: that is done to it by `refresh`, `imports`, `recovery`
and `keeper`. Also here: which logins are open, and what clients are told while there is no usable token; a follower shows both as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace

from passoproxy.core.events import Audited, ChainChanged, RefreshFailed, TokenRefreshed, Warned
from passoproxy.core.oauth.alert_levels import spoken
from passoproxy.core.oauth.chain import Access, Chain, Happening, Standing, arrival, has_ended, moved
from passoproxy.core.oauth.identity import client_of, partition_of, shown_url
from passoproxy.core.oauth.pair import Bearer, Pair
from passoproxy.core.oauth.rejections import Rejections
from passoproxy.core.oauth.schedule import moved_in_time, pause, refresh_moment, runway, time_left
from passoproxy.core.oauth.settings import Terms
from passoproxy.core.oauth.snapshot import TokenSnapshot, snapshot
from passoproxy.core.oauth.token_response import Dead, Misconfigured, Retryable
from passoproxy.core.oauth.transaction import Candidate, HandOver, digest, hand_over, may_present, remembered
from passoproxy.errors import AuthorizationRequired, Refusal, TokenUnavailable
from passoproxy.ports import ChainRecord, Clock, Observer, nobody
from passoproxy.tokens.persistence import RETRY_INTERVAL, Saving
from passoproxy.tokens.provider_client import Asking, Failure, Shutdown
from passoproxy.values import dataclass

MOST = 1000
"""Processes whose open logins are known at once; of more, the ones that end first are forgotten."""


class OpenLogins:
    """Until when logins are open (seconds of one clock), by the process that began them; `of` and `until` give 0 for never.

    So a denial in one process ends the waiting for that process's logins, and for no others.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    @property
    def until(self) -> float:
        """When the last of them ends at the latest."""
        return max(self._until.values(), default=0.0)

    def of(self, by: str) -> float:
        """When those that were begun at `by` end."""
        return self._until.get(by, 0.0)

    def put(self, by: str, until: float) -> None:
        """Those that were begun at `by` end at `until`, whatever was said before."""
        self._until[by] = until
        if len(self._until) > MOST:
            del self._until[min((name for name in self._until if name != by), key=self.of)]

    def move(self, seconds: float) -> None:
        """The clock was set by so many seconds."""
        self._until = {by: until + seconds for by, until in self._until.items()}

    def clear(self) -> None:
        """A pair is here: no client waits for the logins that are still open in some browser."""
        self._until.clear()


def refusal_of(shown: TokenSnapshot, now: float) -> Refusal:
    """Why there is no bearer, while the pair stands as `shown` at `now` (epoch seconds)."""
    if shown.login_until is not None and now < shown.login_until:
        return TokenUnavailable("no usable access token; a login is under way", 5)
    needs_person = shown.grant == "authorization_code"
    if not needs_person or (shown.runway_seconds != 0 and shown.chain != "none"):
        wait = 5.0 if shown.next_refresh_at is None else shown.next_refresh_at - now
        return TokenUnavailable(f"no usable access token: {shown.reason}", max(1.0, min(wait, 60.0)))
    ended = f" (the access token's time: {spoken(shown.access_until) or 'far away'})" if shown.access_until else ""
    return AuthorizationRequired(f"no usable access token{ended}: {shown.reason}; {shown.remedy}", 30)


TOLERATED_DRIFT = 1.0
"""Seconds that the wall clock may leave the steady one before that counts as a step."""


@dataclass(frozen=True, slots=True)
class Granted:
    """A new pair. `durable`: its raw answer is on disk, so it may be used at once."""

    pair: Pair
    durable: bool


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """Nothing was sent, because the record could not be written."""

    reason: str
    word = "unsent"


Outcome = Granted | Unrecorded | Failure

SPACING = 1.0
"""Seconds between two attempts at least."""

NO_TIME = 1e-6
"""Less than this is left of a wait by rounding."""

FIRST_REPLAY_WITHIN = 8.0
"""Seconds within which a token whose answer was lost is presented again, if it may be."""

LIVING = frozenset({Chain.HEALTHY, Chain.RETRYING, Chain.UNKNOWN})
"""A chain in one of these states is not given up for an import that is not proved."""


@dataclass(slots=True, eq=False)
class State:
    """`now` is epoch seconds of a clock that does not step: wall time at the start, and the steady clock since.

    `chance` gives numbers from 0 to 1, `salt` random text that tells identities apart, `upstream` is where the access token goes.
    """

    asking: Asking
    saving: Saving
    terms: Terms
    clock: Clock
    chance: Callable[[], float]
    salt: Callable[[], str]
    observe: Observer = nobody
    upstream: str = ""
    by: str = "start"
    """Whose doing it is what happens to the pair now: start, timer, request (a 401) or stop; '' for a command, of which its sender's side tells."""
    changed: Callable[[], None] = field(default=lambda: None)
    """Called when there is something new to see."""
    client: str = field(init=False)
    """Whose pair is held, as `Pair.client`."""
    refresh_url: str = field(init=False)
    shutdown: Shutdown = field(init=False)
    # the pair
    pair: Pair | None = None
    held: Pair | None = None
    """A newer pair that could not be saved yet: unused while the older one lives."""
    kept: tuple[Pair, ...] = ()
    """The pairs that are kept for other clients and token endpoints (`PairStore.kept`)."""
    record: ChainRecord = field(init=False)
    standing: Standing = field(default_factory=Standing)
    generation: int = 0
    saved: bool = True
    reason: str = ""
    last_error: str = ""
    partition: str = field(init=False)
    _bearer: Bearer | None = None
    _usable_until: float | None = None
    _refused_at: float | None = None
    # attempts
    next_at: float | None = None
    """When the next renewal is due."""
    failures: int = 0
    attempting: bool = False
    asked_at: float = float("-inf")
    """When the provider was asked last, by the steady clock."""
    rejections: Rejections = field(default_factory=Rejections)
    withdrawn_generation: int = 0
    """The generation whose grant was withdrawn, 0 if none was."""
    # an import that waits for its proof
    proof_at: float | None = None
    """When the proof is repeated, by the steady clock."""
    proof_told: bool = False
    """Whether a candidate was told of that is not known to be done with."""
    unread: bool = False
    """Whether the start could not read the store yet."""
    logins: OpenLogins = field(default_factory=OpenLogins)
    _offset: float = field(init=False)

    def __post_init__(self) -> None:
        provider, client_id = self.asking.provider, self.asking.client.client_id
        self.client = client_of(provider, client_id, self.terms.grant)
        self.refresh_url = shown_url(provider.refresh_url or provider.token_url)
        self.shutdown, self.record = Shutdown(self.clock), ChainRecord(client=self.client)
        self.partition = self._partition(None)
        self._offset = self.clock.wall() - self.clock.monotonic()

    # ---- time --------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self.clock.monotonic() + self._offset

    def steady(self, wall: float) -> float:
        """A moment that the wall clock told just now or before its last step was noticed, in our own time."""
        return wall - (self.clock.wall() - self.now())

    @property
    def clock_has_stepped(self) -> bool:
        """Whether the wall clock was set, and `follow_clock` has not followed yet."""
        return abs(self.clock.wall() - self.now()) > TOLERATED_DRIFT

    def follow_clock(self) -> bool:
        """After a step of the wall clock, all moments move with it, so that what is left stays the same; whether there was one.

        A planned renewal is not moved later: a step forward may be a pause of the machine that its clock did not count, and then the pair is
        older than it looks. A renewal that comes too early costs nothing.
        """
        if not self.clock_has_stepped:
            return False
        step = self.clock.wall() - self.now()
        self._offset += step
        self.pair, self.held = _shifted(self.pair, step), _shifted(self.held, step)
        if self._bearer is not None and self._bearer.until is not None:
            self._bearer = replace(self._bearer, until=self._bearer.until + step)
        self.logins.move(step)
        self._refused_at = None if self._refused_at is None else self._refused_at + step
        self.next_at = None if self.next_at is None else self.next_at + min(step, 0.0)
        if self.record.intent is not None:
            intent = replace(self.record.intent, begun_at=self.record.intent.begun_at + step)
            self.record = replace(self.record, intent=intent)
        if (candidate := self.record.candidate) is not None:
            intent = replace(candidate.intent, begun_at=candidate.intent.begun_at + step)
            candidate = replace(candidate, pair=moved_in_time(candidate.pair, step), intent=intent)
            self.record = replace(self.record, candidate=candidate)
        text = f"the wall clock moved by {step:+.1f} s; the pair's moments moved with it"
        self.observe(Warned("clock_stepped", text))
        return True

    # ---- the pair ----------------------------------------------------------------------------------------------------

    def current(self) -> Bearer | None:
        """The bearer that is usable now."""
        if self._usable_until is None or self.clock.monotonic() < self._usable_until:
            return self._bearer
        return None

    @property
    def newest(self) -> Pair | None:
        """The pair that a renewal starts from."""
        return self.held or self.pair

    def numbered(self, pair: Pair) -> Pair:
        """`pair` under a generation that none had before, and for this upstream."""
        self.generation = max(self.generation, pair.generation - 1, self.newest.generation if self.newest else 0) + 1
        return replace(pair, generation=self.generation, upstream=self.upstream, refresh_url=self.refresh_url)

    def is_spent(self, pair: Pair) -> bool:
        """Whether its refresh token must not be presented any more."""
        return pair.refresh_token is not None and digest(pair.refresh_token) in self.record.spent

    @property
    def waiting(self) -> tuple[Pair, ...]:
        """Of those that are kept, the ones that a person would miss: neither spent, nor a client's own."""
        return tuple(pair for pair in self.kept if pair.source != "client_credentials" and not self.is_spent(pair))

    @property
    def away(self) -> HandOver | None:
        """The hand-over after which another program renews the newest pair; None while it is ours."""
        given = hand_over(self.record.extra)
        return given if given is not None and not given.is_back and self.is_of(given) else None

    def is_of(self, given: HandOver) -> bool:
        """Whether a hand-over speaks of the newest pair."""
        token = self.newest.refresh_token if self.newest else None
        return token is not None and digest(token) == given.token

    def _partition(self, pair: Pair | None) -> str:
        return partition_of(self.asking.provider, self.asking.client.client_id, pair)

    def use(self, pair: Pair, *, loaded: bool = False, then: tuple[Happening, ...] = (), reason: str = "") -> None:
        """`pair` is in use from now on, and the next renewal planned. `loaded`: it is not new, so no refresh is told of.

        `then` is what is known to have followed, `reason` why.
        """
        self.pair, self.held, self._refused_at = pair, None, None
        self.generation = max(self.generation, pair.generation)
        until = pair.access_until
        self._usable_until = None if until is None else until - self._offset
        self._bearer = Bearer(pair.access_token, pair.generation, until)
        self.partition = self._partition(pair)
        spent = self.is_spent(pair)
        ended = (Happening.ENDED,) if has_ended(pair, self.now()) else ()
        why = reason or (self.record.reason if spent else "")
        handed_over = (Happening.HANDED_OVER,) if self.away else ()
        self.happened(arrival(pair, spent, self.terms), *then, *handed_over, *ended, reason=why)
        if not loaded:
            took = self._took() if pair.source in ("refresh", "client_credentials") else None
            self.observe(TokenRefreshed(pair.generation, pair.source, until, self.runway(), took))
            if self.by:
                what = "refresh" if took is not None else pair.source
                self.observe(Audited(f"token {what}", self.by, target=f"generation {pair.generation}"))
        self.plan()
        self.changed()

    def failed(self, outcome: str, reason: str) -> RefreshFailed:
        """The event for an attempt that gave no pair."""
        return RefreshFailed(outcome, reason, self.failures, self.next_at, self._took())

    def _took(self) -> float:
        """Seconds since the provider was asked last."""
        return max(0.0, self.now() - self.record.asked_at)

    def drop(self) -> None:
        """Nothing is held any more."""
        self.pair = self.held = self._bearer = self._usable_until = self._refused_at = self.next_at = None
        self.saved, self.last_error = True, ""
        self.partition = self._partition(None)
        self.no_longer_withdrawn("the pair whose grant was withdrawn is erased")
        self.happened(Happening.FORGOTTEN, reason="")

    def end_access(self) -> None:
        """The access token is used no more."""
        self._bearer = None
        self.happened(Happening.ENDED)

    def refuse_access(self) -> None:
        """The origin refuses the access token, and nothing can renew it: shown as over, and tried on, for one path may be refused alone."""
        if self.standing.access is Access.VALID:
            self._refused_at = self.now()
            self.happened(Happening.ENDED)

    def no_longer_withdrawn(self, said: str = "another pair is in use: the grant was given again") -> None:
        """A pair came from outside, or was erased: a grant that was withdrawn concerns no pair any more."""
        if self.withdrawn_generation:
            self.withdrawn_generation = 0
            self.observe(Warned("grant_withdrawn", said, over=True))

    def happened(self, *happenings: Happening, reason: str | None = None) -> None:
        """Moves both machines, and tells where they moved. `reason` None keeps the one that was given last."""
        before, before_reason, recorded = self.standing, self.reason, self.record.state
        self.standing = moved(before, *happenings)
        self.reason = self.reason if reason is None else reason
        self.record = replace(self.record, state=self.standing.chain.value, reason=self.reason)
        if (self.standing, self.reason) != (before, before_reason):
            shown = self.snapshot()
            was = recorded if recorded != self.standing.chain else ""
            self.observe(ChainChanged(shown.access, shown.chain, shown.reason, shown.runway_seconds, shown.remedy, was))
            if was and self.standing.chain is Chain.DEAD:
                self.observe(Audited("token death", self.by or "command", outcome="dead"))

    def give_up_if_nothing_is_left(self) -> bool:
        """After a lost answer: `unknown` becomes `dead` when the access token has ended and no replay is left; whether it did."""
        intent = self.record.intent
        if self.standing != Standing(Access.EXPIRED, Chain.UNKNOWN):
            return False
        if self.away:
            self.happened(Happening.GIVEN_UP)  # not remembered as spent: the pair may be brought back
            return True
        if intent is None or self.may_present():
            return False
        self.record = replace(self.record, intent=None, spent=remembered(self.record.spent, intent.token))
        self.happened(Happening.GIVEN_UP)
        self.next_at = None
        return True

    # ---- when --------------------------------------------------------------------------------------------------------

    def due_in(self) -> float | None:
        """Seconds until the next attempt, 0 when it is due; None before a stop, because then none is begun but by a command."""
        if self.next_at is None or self.shutdown.begun:
            return None
        return max(0.0, self.next_at - self.now(), self.spacing())

    def proof_due_in(self) -> float | None:
        """The same for the proof of an imported pair."""
        if self.proof_at is None or self.record.candidate is None or self.shutdown.begun:
            return None
        return max(0.0, self.proof_at - self.clock.monotonic(), self.spacing())

    def spacing(self) -> float:
        """Seconds until the provider may be asked again."""
        wait = self.asked_at + SPACING - self.clock.monotonic()
        return wait if wait > NO_TIME else 0.0

    def plan(self, outcome: Failure | Unrecorded | None = None) -> None:
        """Sets when the next attempt is due: by the pair's life, or after an attempt that came to `outcome`."""
        pair, now, chain = self.newest, self.now(), self.standing.chain
        if chain is Chain.DEAD or self.away or (pair is None and self.terms.needs_person):
            self.next_at = None
        elif chain is Chain.UNKNOWN:
            intent = self.record.intent
            wait = self._replay_pause(pair, max(1, self.failures), intent is None or intent.presented < 2)
            self.next_at = now + wait if self.may_present(wait) else None
        elif outcome is not None:
            self.next_at = now + self._pause_after(outcome)
        elif pair is None:
            self.next_at = now
        else:
            self.next_at = refresh_moment(pair, self.terms, self.chance())

    def plan_proof(self) -> None:
        """Sets when the proof of an imported pair is repeated."""
        candidate, self.proof_at = self.record.candidate, None
        if candidate is not None:
            presented = candidate.intent.presented
            wait = self._replay_pause(candidate.pair, presented, presented < 2)
            if self.may_prove(candidate, wait):
                self.proof_at = self.clock.monotonic() + wait

    def may_present(self, after: float = 0.0) -> bool:
        """Whether the refresh token may be presented in `after` seconds, as far as lost answers and hand-overs are concerned."""
        until, now = self.newest.access_until if self.newest else None, self.now() + after
        return not self.away and may_present(self.record.intent, self.terms.lost_answer_replay, now, until)

    def may_prove(self, candidate: Candidate, after: float = 0.0) -> bool:
        """The same of an imported pair that waits for its proof."""
        now, until = self.now() + after, candidate.pair.access_until
        return may_present(candidate.intent, self.terms.lost_answer_replay, now, until)

    def _replay_pause(self, pair: Pair | None, failures: int, is_first: bool) -> float:
        wait = pause(pair, self.now(), failures, self.chance())
        return min(wait, FIRST_REPLAY_WITHIN) if is_first else wait

    def _pause_after(self, outcome: Failure | Unrecorded) -> float:
        pair, now, chance = self.newest, self.now(), self.chance()
        match outcome:
            case Unrecorded():
                return min(RETRY_INTERVAL, max(SPACING, time_left(pair, now) or RETRY_INTERVAL))
            case Retryable(retry_after=retry_after):
                return pause(pair, now, self.failures, chance, retry_after=retry_after)
            case _:
                return pause(pair, now, self.failures, chance, slow=isinstance(outcome, Misconfigured | Dead))

    # ---- what is said of it ------------------------------------------------------------------------------------------

    def runway(self) -> float | None:
        return runway(self.pair, self.standing, self.terms, self.now())

    @property
    def login_open(self) -> bool:
        return self.now() < self.logins.until

    def snapshot(self) -> TokenSnapshot:
        now = self.now()
        standing, pair = self.standing, self.pair
        if pair is not None and standing.access is Access.VALID and has_ended(pair, now):
            standing = moved(standing, Happening.ENDED)  # the keeper's task is about to notice
        if pair is not None and self._refused_at is not None and not has_ended(pair, self._refused_at):
            pair = replace(pair, access_until=self._refused_at)
        shown = snapshot(
            pair,
            standing,
            self.terms,
            now,
            reason=self.reason,
            last_error=self.last_error,
            next_refresh_at=self.next_at,
            saved=self.saved,
            login_until=self.logins.until if self.login_open else None,
            handed_over_at=self.away.at if self.away else None,
            client=self.client,
            kept="; ".join(f"the pair of {pair.client}" for pair in self.waiting),
        )
        if self._refused_at is None:
            return shown
        # said and not kept: after a restart it would be old news, and be said twice
        return replace(shown, reason=f"{shown.reason}; the origin refuses the access token too")

    def refusal(self) -> Refusal:
        """Why there is no bearer, for a client."""
        return refusal_of(self.snapshot(), self.now())


def _shifted(pair: Pair | None, step: float) -> Pair | None:
    return None if pair is None else moved_in_time(pair, step)

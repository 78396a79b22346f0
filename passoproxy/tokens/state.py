"""Logins that are open now, by where they were begun: a denial in one process ends the waiting for that process's logins, and for no other's.

What an open login means to clients is said by `refusing` and `proxy/parking`; who may complete one is the business of `login`.

What a client is told where there is no usable access token: whether a person is needed, and when to come again.

What the keeper holds in memory: the pair in use, where both machines stand, and the one clock that they live by.

Nothing here waits, writes or asks; the keeper's task is the only one that changes it, everybody may look.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from passoproxy.core.events import ChainChanged, TokenRefreshed
from passoproxy.core.oauth.chain import Access, Happening, Standing, arrival, has_ended, moved
from passoproxy.core.oauth.identity import client_of, partition_of
from passoproxy.core.oauth.pair import Bearer, Pair
from passoproxy.core.oauth.schedule import moved_in_time, runway
from passoproxy.core.oauth.settings import Provider, Terms
from passoproxy.core.oauth.snapshot import TokenSnapshot, snapshot
from passoproxy.core.oauth.transaction import HandOver, digest, hand_over
from passoproxy.errors import AuthorizationRequired, Refusal, TokenUnavailable
from passoproxy.ports import ChainRecord, Clock, Observer

MOST = 1000
"""So many other processes are known at once; those whose logins end first give way."""


class OpenLogins:
    """Until when logins are open, in seconds of one clock. `of` and `until` give 0 for never."""

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
        """A pair is here: whatever is still open in some browser, nobody waits for it."""
        self._until.clear()


def refusal_of(shown: TokenSnapshot, now: float) -> Refusal:
    """Why there is no bearer, while the pair stands as `shown` at `now` (epoch seconds)."""
    if shown.login_until is not None and now < shown.login_until:
        return TokenUnavailable("no usable access token; a login is under way", 5)
    needs_person = shown.grant == "authorization_code"
    if not needs_person or (shown.runway_seconds != 0 and shown.chain != "none"):
        wait = 5.0 if shown.next_refresh_at is None else shown.next_refresh_at - now
        return TokenUnavailable(f"no usable access token: {shown.reason}", max(1.0, min(wait, 60.0)))
    ended = f" (the access token's time: {_spoken(shown.access_until)})" if shown.access_until else ""
    return AuthorizationRequired(f"no usable access token{ended}: {shown.reason}; {shown.remedy}", 30)


def _spoken(moment: float) -> str:
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "long ago or far away"


TOLERATED_DRIFT = 1.0
"""Seconds that the wall clock may leave the steady one before that counts as a step."""


class Holding:
    """The pair in memory. `now` is epoch seconds of a clock that does not step: wall time at the start, and the steady clock since."""

    def __init__(
        self, provider: Provider, client_id: str, terms: Terms, clock: Clock, observe: Observer, upstream: str = ""
    ) -> None:
        self.client = client_of(provider, client_id, terms.grant)
        """Whose pair is held, as `Pair.client`."""
        self.upstream = upstream
        self.kept: tuple[Pair, ...] = ()
        """The pairs that are kept for other clients and token endpoints (`PairStore.kept`)."""
        self._provider = provider
        self._client_id = client_id
        self._terms = terms
        self._clock = clock
        self._observe = observe
        self._offset = clock.wall() - clock.monotonic()
        self._bearer: Bearer | None = None
        self._usable_until: float | None = None
        self._refused_at: float | None = None
        self.pair: Pair | None = None
        self.held: Pair | None = None
        """A newer pair that could not be saved yet: unused while the older one lives."""
        self.record = ChainRecord(client=self.client)
        self.standing = Standing()
        self.saved = True
        self.reason = ""
        self.last_error = ""
        self.next_at: float | None = None
        self.logins = OpenLogins()
        self.generation = 0
        self.partition = partition_of(provider, client_id, None)

    # ---- time --------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        return self._clock.monotonic() + self._offset

    def steady(self, wall: float) -> float:
        """A moment that the wall clock told just now or before its last step was noticed, in our own time."""
        return wall - (self._clock.wall() - self.now())

    def follow_clock(self) -> float:
        """After a step of the wall clock: everything moves with it, so that what is left stays the same. Returns the step, 0 for none.

        Only a renewal that was planned does not move on: a step forward may be a pause of the whole machine that no clock of it counted, and
        then the pair is older than it looks. One that comes too early costs nothing.
        """
        step = self._clock.wall() - self.now()
        if abs(step) <= TOLERATED_DRIFT:
            return 0.0
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
        return step

    # ---- the pair ----------------------------------------------------------------------------------------------------

    def current(self) -> Bearer | None:
        """The bearer that is usable now."""
        if self._usable_until is None or self._clock.monotonic() < self._usable_until:
            return self._bearer
        return None

    @property
    def newest(self) -> Pair | None:
        """The pair that a renewal starts from."""
        return self.held or self.pair

    def numbered(self, pair: Pair) -> Pair:
        """`pair` under a generation that none had before, and for this upstream."""
        self.generation = max(self.generation, pair.generation - 1, self.newest.generation if self.newest else 0) + 1
        return replace(pair, generation=self.generation, upstream=self.upstream)

    def is_spent(self, pair: Pair) -> bool:
        """Whether its refresh token must not be presented any more."""
        return pair.refresh_token is not None and digest(pair.refresh_token) in self.record.spent

    @property
    def waiting(self) -> tuple[Pair, ...]:
        """Of those that are kept, the ones that a person would miss: neither spent, nor a client's own."""
        return tuple(pair for pair in self.kept if pair.source != "client_credentials" and not self.is_spent(pair))

    @property
    def away(self) -> HandOver | None:
        """The hand-over that made the newest pair somebody else's; None while it is ours."""
        given = hand_over(self.record.extra)
        return given if given is not None and not given.is_back and self.is_of(given) else None

    def is_of(self, given: HandOver) -> bool:
        """Whether a hand-over speaks of the newest pair."""
        token = self.newest.refresh_token if self.newest else None
        return token is not None and digest(token) == given.token

    def use(self, pair: Pair, *, loaded: bool = False, then: tuple[Happening, ...] = (), reason: str = "") -> None:
        """`pair` is in use from now on. `loaded`: it is no new one, and nobody is told of a refresh; `then` is what is known to have followed."""
        self.pair, self.held, self._refused_at = pair, None, None
        self.generation = max(self.generation, pair.generation)
        until = pair.access_until
        self._usable_until = None if until is None else until - self._offset
        self._bearer = Bearer(pair.access_token, pair.generation, until)
        self.partition = partition_of(self._provider, self._client_id, pair)
        spent = self.is_spent(pair)
        ended = (Happening.ENDED,) if has_ended(pair, self.now()) else ()
        why = reason or (self.record.reason if spent else "")
        handed_over = (Happening.HANDED_OVER,) if self.away else ()
        self.happened(arrival(pair, spent, self._terms), *then, *handed_over, *ended, reason=why)
        if not loaded:
            self._observe(TokenRefreshed(pair.generation, pair.source, until, self.runway()))

    def drop(self) -> None:
        """Nothing is held any more."""
        self.pair = self.held = self._bearer = self._usable_until = self._refused_at = self.next_at = None
        self.saved, self.last_error = True, ""
        self.partition = partition_of(self._provider, self._client_id, None)
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

    def happened(self, *happenings: Happening, reason: str | None = None) -> None:
        """Moves both machines, and tells where they moved. `reason` None keeps the one that was given last."""
        before, before_reason = self.standing, self.reason
        self.standing = moved(before, *happenings)
        self.reason = self.reason if reason is None else reason
        self.record = replace(self.record, state=self.standing.chain.value, reason=self.reason)
        if (self.standing, self.reason) != (before, before_reason):
            shown = self.snapshot()
            self._observe(ChainChanged(shown.access, shown.chain, shown.reason, shown.runway_seconds, shown.remedy))

    # ---- what is said of it ------------------------------------------------------------------------------------------

    def runway(self) -> float | None:
        return runway(self.pair, self.standing, self._terms, self.now())

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
            self._terms,
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

"""The limiter: who may be under way at the origin, and when (contract §5). At most `upstream.max_concurrency` at once, the others in turn by
client; nothing during a pause that the origin asked for; one request at a time, to see whether it is back, while it is away.

What answers say of the origin is judged in `core.origin`, what may be served meanwhile in `core.cache.reuse`; connections are kept in `outbound`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Iterator

from passoproxy.core.cache.invalidation import SAFE_METHODS
from passoproxy.core.cache.key import side_effects
from passoproxy.core.events import Warned
from passoproxy.core.http.limits import low_quota, retry_after
from passoproxy.core.origin import ASK_EVERY, LONGEST_RETRY_AFTER, Answered, Failed, Health, QuotaTold, Refused, Told
from passoproxy.core.routes import UNLISTED
from passoproxy.errors import (
    ConnectFailed,
    ConnectionDropped,
    ConnectTimeout,
    CoolingDown,
    OriginInvalid,
    OriginTimeout,
    OriginUnreachable,
    Overloaded,
    Refusal,
)
from passoproxy.ports import Body, BytesBody, Clock, Hop, Observer, Request, Response, nobody
from passoproxy.values import dataclass

_NO_CONNECTION = (ConnectFailed, ConnectTimeout)
_NO_HEAD = (OriginUnreachable, OriginTimeout, OriginInvalid)
_REFUSALS: dict[str, type[Refusal]] = {kind.code: kind for kind in _NO_HEAD}
_DEFAULT_WAIT = 5.0
"""Seconds after which a client that found no place may ask again."""
_COOL_DOWN = "origin_cool_down"


@dataclass(frozen=True, slots=True)
class LimiterState:
    """Moments are epoch seconds, None if there is none. `away` says why the origin is taken for away, '' if it is not."""

    in_flight: int
    waiting: int
    cool_down_until: float | None = None
    background_rests_until: float | None = None
    budget_rests_until: float | None = None
    away: str = ""


class Limiter:
    """The hop. A request that waits longer than `queue_timeout` seconds is refused.

    A place is taken until the answer's body was read to its end or closed. `first_pause` is the cool-down after a 429 without `Retry-After`,
    doubled by each that follows.
    """

    def __init__(
        self,
        next: Hop,
        *,
        max_concurrency: int,
        queue_timeout: float,
        clock: Clock,
        observer: Observer = nobody,
        first_pause: float = 1.0,
    ) -> None:
        self._next, self._clock, self._observer = next, clock, observer
        self.max_concurrency, self._queue_timeout = max_concurrency, queue_timeout
        self.lent_until = math.inf
        """Until this steady moment the places may be used (those that instances of a store share are lent)."""
        self._health = Health(first_pause)
        self._noted: dict[tuple[str, str], bool] = {}
        """The warnings that stand, by code and what they are about, and whether they began here."""
        self._in_flight = 0
        self._trials = 0
        """Requests under way that show whether the next one may begin."""
        self._asking: set[str] = set()
        """Paths that are away and are asked for at this moment."""
        self._waiting: list[_Turn] = []
        self._round = 0
        """The round of the request that began last; each client has one turn in a round."""
        self._clients = 0
        """How often a client has begun to wait: clients take their turns in that order."""
        self._alarm: asyncio.TimerHandle | None = None
        self.watch: Callable[[], None] = lambda: None
        """Called when queue length or in-flight count changes (used by the cross-worker limit)."""
        self.tell: Callable[[Told], None] = lambda told: None
        """Called with what happened here that other limiters for the same origin have to `hear`."""

    async def send(self, request: Request) -> Response:
        """The answer of the hop behind.

        Raises Overloaded if no place came free in time, CoolingDown if the origin's pause is longer than may be waited, and the last failure
        of an origin that is away; background work is refused at once.
        """
        place = self._enter(request)
        if place is None:
            came = self._clock.monotonic()
            try:
                place = await self._wait(request)
            finally:
                request.trail.queue_seconds += self._clock.monotonic() - came
        began = self._clock.monotonic()
        try:
            response = await self._next.send(request)
        except BaseException as fault:
            # A kept connection that was dropped says nothing: an origin that restarts drops them all.
            if isinstance(fault, _NO_HEAD) and not isinstance(fault, ConnectionDropped):
                path = None if isinstance(fault, _NO_CONNECTION) else request.head.path
                self._take_in(Failed(path, fault.code, fault.detail))
            place.leave()
            raise
        self._answered(request, response, began)
        if isinstance(response.body, BytesBody):
            place.leave()
            return response
        if place.is_trial or place.asks:
            place.head_came()
        return Response(response.head, _PlacedBody(response.body, place))

    # ---- how it stands -------------------------------------------------------------------------------------------------

    @property
    def use(self) -> tuple[int, int]:
        """How many are under way, and how many would begin at once if there were places for them."""
        health = self._health
        if not self._waiting or health.is_calm:
            return self._in_flight, len(self._waiting)
        now = self._clock.monotonic()
        ready = sum(self._may_begin(turn, now) for turn in self._waiting)
        return self._in_flight, min(1, ready) if health.goes_one_at_a_time else ready

    @property
    def goes_one_at_a_time(self) -> bool:
        """Whether only one request of all processes may be under way, for what the origin said or did."""
        return self._health.goes_one_at_a_time

    def spared(self, path: str) -> str:
        """Why a request for `path` would wait on the origin's account, so that stored answers serve as after a failure; '' if it would not."""
        if self._health.is_calm:
            return ""
        if self._health.away(path) is not None:
            return "the origin is away"
        if self._health.is_cooling and (self._trials or self._health.pause_left(self._clock.monotonic()) > 0):
            return "the origin asked for a pause (429)"
        return ""

    def is_to_be_asked(self, path: str) -> bool:
        """Whether the origin, or `path`, is away, and it is time to ask whether it still is."""
        if self._health.is_calm or self._health.away(path) is None:
            return False
        return self._is_open(path, self._clock.monotonic()) and not any(
            turn.request.background for turn in self._waiting
        )

    def snapshot(self) -> LimiterState:
        """How it stands now."""
        health, now, wall = self._health, self._clock.monotonic(), self._clock.wall()
        pause, rest, spent = health.pause_left(now), health.background_rests(now), health.budget_rests(now)
        return LimiterState(
            in_flight=self._in_flight,
            waiting=len(self._waiting),
            cool_down_until=wall + pause if pause > 0 else None,
            background_rests_until=wall + rest if rest > 0 else None,
            budget_rests_until=wall + spent if spent > 0 else None,
            away=health.away_because,
        )

    # ---- what others set -----------------------------------------------------------------------------------------------

    def set_limits(
        self,
        *,
        max_concurrency: int | None = None,
        queue_timeout: float | None = None,
        lent_until: float | None = None,
    ) -> None:
        """New limits; None leaves one as it is. They hold for those who wait already too, the time they may wait excepted."""
        if queue_timeout is not None:
            self._queue_timeout = queue_timeout
        if max_concurrency is not None:
            self.max_concurrency = max_concurrency
        if lent_until is not None:
            self.lent_until = lent_until
        self._admit()

    def hear(self, told: Told) -> None:
        """Takes in what happened at another limiter for the same origin."""
        self._health.hear(told, self._clock.monotonic())
        self._note(here=False)
        self._look(told)

    def story(self) -> Iterator[Told]:
        """What a new limiter for the same origin has to hear."""
        return self._health.story(self._clock.monotonic())

    # ---- places --------------------------------------------------------------------------------------------------------

    def _is_open(self, path: str, now: float) -> bool:
        """Whether a request for `path` may begin, as far as the origin is concerned."""
        health = self._health
        if health.is_calm:
            return True
        if (health.goes_one_at_a_time and self._trials) or path in self._asking:
            return False
        return health.due_in(path, now) <= 0

    def _enter(self, request: Request) -> _Place | None:
        """A place at once, None if it has to be waited for. Raises what it would be waited for in vain."""
        health, path = self._health, request.head.path
        now = self._clock.monotonic() if request.background or not health.is_calm else 0.0
        if request.background:
            if (rests := self._background_rests(path, now)) is not None:
                raise rests
            if (failed := health.away(path)) is not None and not self.is_to_be_asked(path):
                raise _refusal(failed)
        elif not health.is_calm and (left := health.pause_left(now)) > self._queue_timeout:
            raise _cooling_down(left)
        if self._waiting or self._is_full() or not (health.is_calm or self._is_open(path, now)):
            return None
        if not health.is_calm and health.away(path) is not None and not is_safe(request):
            return None  # a safe one is to ask, if one comes soon
        return self._begin(path)

    def _background_rests(self, path: str, now: float) -> CoolingDown | None:
        """Why background work for `path` is refused now. The budget lets pass what asks whether an origin that is away is back: that is for clients."""
        if (left := self._health.background_rests(now)) > 0:
            return _cooling_down(left, "background work rests")
        if (left := self._health.budget_rests(now)) > 0 and self._health.away(path) is None:
            return CoolingDown(
                f"upstream.daily_budget is used up: background work rests for {max(1.0, left):.0f} s", left
            )
        return None

    def _is_full(self) -> bool:
        return self._in_flight >= self.max_concurrency or (
            self.lent_until < math.inf and self._clock.monotonic() >= self.lent_until
        )

    def _begin(self, path: str) -> _Place:
        health = self._health
        self._in_flight += 1
        place = _Place(self, path)
        if not health.is_calm:
            place.is_trial, place.asks = health.goes_one_at_a_time, health.away(path) is not None
            self._trials += place.is_trial
            if place.asks:
                self._asking.add(path)
                health.asks(path, self._clock.monotonic())
        return place

    async def _wait(self, request: Request) -> _Place:
        now, client = self._clock.monotonic(), request.client
        own = [turn for turn in self._waiting if turn.request.client == client]
        self._clients += not own
        turn = _Turn(
            request,
            asyncio.get_running_loop().create_future(),
            since=now,
            until=now + self._queue_timeout,
            round=max(self._round, own[-1].round + 1 if own else 0),
            number=own[-1].number if own else self._clients,
        )
        self._waiting.append(turn)
        self._admit()
        self.watch()
        try:
            async with asyncio.timeout(self._queue_timeout):
                return await turn.place
        except BaseException as error:
            if turn in self._waiting:
                self._waiting.remove(turn)
                self.watch()
            elif turn.place.done() and not turn.place.cancelled() and turn.place.exception() is None:
                turn.place.result().leave()  # it came in the very moment in which the wait was given up
            if isinstance(error, TimeoutError):
                raise self._in_vain(turn) from error
            raise

    def _in_vain(self, turn: _Turn) -> Refusal:
        """What a client is told that has waited to the end."""
        if (left := self._health.pause_left(self._clock.monotonic())) > 0:
            return _cooling_down(left)
        if (failed := self._health.away(turn.path)) is not None:
            return _refusal(failed)
        return Overloaded(
            f"{self._in_flight} requests are under way at the origin and none ended within {self._queue_timeout:g} s; "
            "ask again, or see upstream.max_concurrency and upstream.queue_timeout",
            _DEFAULT_WAIT,
        )

    def _admit(self) -> None:
        """Gives places to those whose turn it is: first to requests that may find out whether the origin is back, then to clients, then to
        background work; the round counts before the order in which they came."""
        now = self._clock.monotonic()
        while self._waiting and not self._is_full():
            ready = [turn for turn in self._waiting if not turn.place.done() and self._may_begin(turn, now)]
            if not ready:
                break
            turn = min(ready, key=self._order)
            self._waiting.remove(turn)
            self._round = max(self._round, turn.round)
            turn.place.set_result(self._begin(turn.path))
        self._set_alarm(now)

    def _order(self, turn: _Turn) -> tuple[bool, bool, int, int]:
        return not self._may_ask(turn), turn.stands_back, turn.round, turn.number

    def _may_begin(self, turn: _Turn, now: float) -> bool:
        return self._health.is_calm or (self._is_open(turn.path, now) and self._due_in(turn, now) <= 0)

    def _may_ask(self, turn: _Turn) -> bool:
        return self._health.is_calm or self._health.away(turn.path) is None or is_safe(turn.request)

    def _due_in(self, turn: _Turn, now: float) -> float:
        """Seconds until a turn may come, as far as the origin is concerned.

        A safe request asks whether it is back; one that changes something asks only if no safe one has come for a while, since an origin
        that is asked for nothing else would else be away for ever.
        """
        due = self._health.due_in(turn.path, now)
        return due if self._may_ask(turn) else max(due, turn.since + ASK_EVERY - now)

    def _set_alarm(self, now: float) -> None:
        """Looks again when the pause is over, and at those who wait for a moment and for no place. `now` is when it was judged who may begin:
        what became due since would have no alarm."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._health.is_calm:
            return
        dues = [self._health.pause_left(now), *(self._due_in(turn, now) for turn in self._waiting)]
        if (due := min((due for due in dues if due > 0), default=None)) is not None:
            self._alarm = asyncio.get_running_loop().call_later(due, self._wake)

    def _wake(self) -> None:
        self._note(here=False, by_time=True)
        self._admit()
        self.watch()

    # ---- what answers say ----------------------------------------------------------------------------------------------

    def _answered(self, request: Request, response: Response, began: float) -> None:
        status, fields, wall = response.head.status, response.head.fields, self._clock.wall()
        low = low_quota(fields, wall)
        if self._health.is_blank and low is None and status < 500 and status != 429:
            return  # as nearly always: nothing to learn
        told: list[Told] = []
        if status == 429:
            asked = retry_after(fields.get("Retry-After"), wall)
            told.append(Refused(None if asked is None else min(asked, LONGEST_RETRY_AFTER), began))
        told.append(Answered(request.head.path, status < 500 and status != 429, began))
        if low is not None:
            told.append(QuotaTold(low))
        self._take_in(*told)

    def _take_in(self, *told: Told) -> None:
        now = self._clock.monotonic()
        for_others = [heard for each in told if (heard := self._health.hear(each, now)) is not None]
        for each in for_others:
            self.tell(each)
        if for_others:
            self._note(here=True)
            self._look(*told)

    def _look(self, *told: Told) -> None:
        """Those who would wait in vain hear of it, and the others may begin."""
        health, now = self._health, self._clock.monotonic()
        left = health.pause_left(now)
        failed = next((each for each in told if isinstance(each, Failed)), None)
        for turn in [turn for turn in self._waiting if not turn.place.done()]:
            refusal: Refusal | None = self._background_rests(turn.path, now) if turn.stands_back else None
            if refusal is None and not turn.stands_back and left > 0 and turn.until < now + left:
                refusal = _cooling_down(left)
            elif refusal is None and failed is not None and health.away(turn.path) is not None:
                refusal = _refusal(failed)  # the failure is that of all who wait for what is away
            if refusal is not None:
                self._waiting.remove(turn)
                turn.place.set_exception(refusal)
        self._admit()
        self.watch()

    def _note(self, *, here: bool, by_time: bool = False) -> None:
        """Tells what has begun, and what is over: what happened `here`, or what was told that it began and is over by time alone."""
        stands = dict(self._standing())
        for (code, about), said in stands.items():
            if (code, about) not in self._noted:
                self._noted[code, about] = here
                if here:
                    self._observer(Warned(code, said, about=about))
        for code, about in self._noted.keys() - stands.keys():
            began_here = self._noted.pop((code, about))
            if here or (by_time and began_here):
                said = "the origin's pause is over" if code == _COOL_DOWN else "the origin answers again"
                self._observer(Warned(code, said, over=True, about=about))

    def _standing(self) -> Iterator[tuple[tuple[str, str], str]]:
        """What people should know of the origin now: the warning's code and what it is about, and its words."""
        health = self._health
        if because := health.away_because:
            yield ("origin_away", ""), f"the origin is taken for away, and asked again every second: {because}"
        for path, because in health.away_paths.items():
            said = f"no answer comes on {path}, which is asked for again every second: {because}"
            yield ("origin_path_away", path), said
        if (left := health.pause_left(self._clock.monotonic())) > 0:
            said = f"the origin answered 429; nothing is sent for {left:.0f} s, then one request at a time"
            yield (_COOL_DOWN, ""), said


def is_safe(request: Request) -> bool:
    """Whether asking changes nothing: by the method, or because the cache found the request to be a read."""
    if request.trail.key:
        return True
    bypass = (request.policy or UNLISTED).bypass_when
    return request.head.method in SAFE_METHODS and not side_effects(request.head.target, bypass)


def _refusal(failed: Failed) -> Refusal:
    return _REFUSALS.get(failed.code, OriginUnreachable)(failed.detail)


def _cooling_down(left: float, what: str = "nothing was sent") -> CoolingDown:
    return CoolingDown(
        f"the origin asked for fewer requests, so {what}; ask again in {max(1.0, left):.0f} s, it resumes by itself",
        left,
    )


@dataclass(slots=True, eq=False)
class _Turn:
    """A request that waits, since `since` and until `until` (steady seconds), for its client's turn in `round`, in which clients come by `number`."""

    request: Request
    place: asyncio.Future[_Place]
    since: float
    until: float
    round: int
    number: int

    @property
    def path(self) -> str:
        return self.request.head.path

    @property
    def stands_back(self) -> bool:
        return self.request.background and not self.request.trail.awaited


class _Place:
    """One place at the origin. `is_trial`: the next request begins when the head of this one's answer came; `asks`: its path is away."""

    __slots__ = ("_limiter", "_path", "asks", "is_trial")

    def __init__(self, limiter: Limiter, path: str) -> None:
        self._limiter: Limiter | None = limiter
        self._path = path
        self.is_trial = self.asks = False

    def head_came(self) -> None:
        """A head came, or none will; once."""
        if (limiter := self._limiter) is not None and (self.is_trial or self.asks):
            limiter._trials -= self.is_trial
            if self.asks:
                limiter._asking.discard(self._path)
            self.is_trial = self.asks = False
            limiter._admit()

    def leave(self) -> None:
        """The place is free; once."""
        if self.is_trial or self.asks:
            self.head_came()
        if (limiter := self._limiter) is not None:
            self._limiter = None
            limiter._in_flight -= 1
            if limiter._waiting:
                limiter._admit()
            limiter.watch()


class _PlacedBody:
    """An answer's body that gives its place back once: at its end, at a fault, or when it is closed."""

    __slots__ = ("_body", "_place", "length")

    def __init__(self, body: Body, place: _Place) -> None:
        self.length = body.length
        self._body = body
        self._place = place

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._body.__anext__()
        except asyncio.CancelledError:
            raise  # a cancelled reader still closes the body
        except BaseException:
            self._place.leave()
            raise

    async def aclose(self) -> None:
        try:
            await self._body.aclose()
        finally:
            self._place.leave()

"""Who may be under way at the origin, and when (contract §5): so many at once, the others in turn by client; nobody during a pause that it asked
for; and one at a time, to see whether it is back, while it is away.

What answers say of the origin is judged in `core.origin`, what may be served meanwhile in `core.cache.reuse`; how connections are kept is
the business of outbound.

`upstream.max_concurrency` among worker processes: the places at the origin, lent from one pool and given back (contract §3).

`Pool` decides, in the one process that has it; `Share` is a process's part, over its own queue. What carries the words between them
(wants, holds, granted) is not known here. A worker that is gone gives back what it held. Nobody starves: what cannot be split evenly goes
round, to whoever has been without it for longest.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass

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
from passoproxy.ports import Body, BytesBody, Client, Clock, Hop, Observer, Request, Response, nobody

_NO_CONNECTION = (ConnectFailed, ConnectTimeout)
_NO_HEAD = (OriginUnreachable, OriginTimeout, OriginInvalid)
_REFUSALS: dict[str, type[Refusal]] = {kind.code: kind for kind in _NO_HEAD}
_DEFAULT_WAIT = 5.0
"""Seconds after which a client that found no place may ask again."""
_BACKGROUND_RESTS = "background work rests"
_COOL_DOWN = "origin_cool_down"


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """Moments are epoch seconds, None where there is none. `away` says why the origin is taken for away, '' where it is not."""

    in_flight: int
    waiting: int
    cool_down_until: float | None = None
    background_rests_until: float | None = None
    away: str = ""


class Queueing:
    """Lets at most `max_concurrency` requests be under way; one that waits longer than `queue_timeout` seconds is refused.

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
        self._next = next
        self._max = max_concurrency
        self._queue_timeout = queue_timeout
        self._clock = clock
        self._observer = observer
        self._health = Health(first_pause)
        self._noted: dict[tuple[str, str], bool] = {}
        """The warnings that stand, by code and what they are about, and whether they began here."""
        self._in_flight = 0
        self._trials = 0
        """Requests under way that show whether the next one may begin."""
        self._asking: set[str] = set()
        """Paths that are away and are asked for at this moment."""
        self._line = _Line()
        self._background = _Line()
        self._waking: asyncio.TimerHandle | None = None
        self.watch: Callable[[], None] = _nothing
        """Called when more or fewer wait, or are under way: for whoever lends places to several queues."""
        self.tell: Callable[[Told], None] = _told_nobody
        """Told what happened here that other queues for the same origin have to `hear`."""

    async def send(self, request: Request) -> Response:
        """The answer of the hop behind.

        Raises Overloaded where no place came free in time, CoolingDown where the origin's pause is longer than may be waited, and the last
        failure of an origin that is away; background work is refused at once.
        """
        place = self._enter(request) or await self._wait(request)
        began = self._clock.monotonic()
        try:
            response = await self._next.send(request)
        except BaseException as fault:
            self._failed(request, fault)
            place.leave()
            raise
        self._answered(request, response, began)
        place.head_came()
        if isinstance(response.body, BytesBody):
            place.leave()
            return response
        return Response(response.head, _PlacedBody(response.body, place))

    # ---- how it stands -------------------------------------------------------------------------------------------------

    @property
    def max_concurrency(self) -> int:
        """How many may be under way at once."""
        return self._max

    @property
    def use(self) -> tuple[int, int]:
        """How many are under way, and how many would begin at once if there were places for them."""
        health, waiting = self._health, len(self._line) + len(self._background)
        if not waiting or health.is_calm:
            return self._in_flight, waiting
        now = self._clock.monotonic()
        ready = sum(
            self._is_open(turn.path) and self._due_in(turn, now) <= 0 for turn in (*self._line, *self._background)
        )
        return self._in_flight, min(1, ready) if health.goes_one_at_a_time else ready

    @property
    def goes_one_at_a_time(self) -> bool:
        """Whether only one request of all processes may be under way, for what the origin said or did."""
        return self._health.goes_one_at_a_time

    def spared(self, path: str) -> str:
        """Why a request for `path` would wait on the origin's account, so that stored answers serve as after a failure; '' where it would not."""
        if self._health.is_calm:
            return ""
        if self._health.away(path) is not None:
            return "the origin is away"
        if self._health.is_cooling and (self._trials or self._health.pause_left(self._clock.monotonic()) > 0):
            return "the origin asked for a pause (429)"
        return ""

    def is_to_be_asked(self, path: str) -> bool:
        """Whether the origin, or `path`, is away, and it is time to ask whether it still is."""
        return self._health.away(path) is not None and not self._background and self._is_open(path)

    def snapshot(self) -> QueueSnapshot:
        """How it stands now."""
        health, now, wall = self._health, self._clock.monotonic(), self._clock.wall()
        pause, rest = health.pause_left(now), health.background_rests(now)
        return QueueSnapshot(
            in_flight=self._in_flight,
            waiting=len(self._line) + len(self._background),
            cool_down_until=wall + pause if pause > 0 else None,
            background_rests_until=wall + rest if rest > 0 else None,
            away=health.away_because,
        )

    # ---- what others set -----------------------------------------------------------------------------------------------

    def set_places(self, count: int) -> None:
        """So many may be under way at once from now on."""
        self._max = count
        self._admit()

    def set_timeout(self, queue_timeout: float) -> None:
        """So many seconds may be waited, by those who come from now on."""
        self._queue_timeout = queue_timeout

    def set_limits(self, max_concurrency: int, queue_timeout: float) -> None:
        """New limits, for those who wait already as well (the time they may wait excepted)."""
        self._max, self._queue_timeout = max_concurrency, queue_timeout
        self._admit()

    def hear(self, told: Told) -> None:
        """Takes in what happened at another queue for the same origin."""
        self._health.hear(told, self._clock.monotonic())
        self._note(here=False)
        self._look(told)

    def story(self) -> Iterator[Told]:
        """What a new queue for the same origin has to hear."""
        return self._health.story(self._clock.monotonic())

    # ---- places --------------------------------------------------------------------------------------------------------

    def _is_open(self, path: str) -> bool:
        """Whether a request for `path` may begin as far as the origin is concerned."""
        health = self._health
        if health.is_calm:
            return True
        if (health.goes_one_at_a_time and self._trials) or path in self._asking:
            return False
        return health.due_in(path, self._clock.monotonic()) <= 0

    def _enter(self, request: Request) -> _Place | None:
        """A place at once, None where it has to be waited for. Raises what it would be waited for in vain."""
        path = request.head.path
        if not self._health.is_calm or request.background:
            self._refuse_at_once(request, path)
        if self._line or self._background or self._in_flight >= self._max or not self._is_open(path):
            return None
        if self._health.away(path) is not None and not is_safe(request):
            return None  # a safe one is to ask, if one comes soon
        return self._begin(path)

    def _refuse_at_once(self, request: Request, path: str) -> None:
        now = self._clock.monotonic()
        if request.background:
            if (rests := self._health.background_rests(now)) > 0:
                raise _cooling_down(rests, _BACKGROUND_RESTS)
            if (failed := self._health.away(path)) is not None and not self.is_to_be_asked(path):
                raise _refusal(failed)
        elif (left := self._health.pause_left(now)) > self._queue_timeout:
            raise _cooling_down(left)

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
        now = self._clock.monotonic()
        turn = _Turn(request, asyncio.get_running_loop().create_future(), now, now + self._queue_timeout)
        line = self._background if request.background else self._line
        line.join(turn)
        self._admit()
        self.watch()
        try:
            async with asyncio.timeout(self._queue_timeout):
                return await turn.place
        except BaseException as error:
            if turn in line:
                line.quit(turn)
                self.watch()
            elif turn.is_given:
                turn.place.result().leave()  # it came in the very moment in which the wait was given up
            if isinstance(error, TimeoutError):
                raise self._in_vain(turn) from error
            raise
        finally:
            request.trail.queue_seconds += self._clock.monotonic() - now

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
        """Gives places to those whose turn it is; to background work only where nobody else may have them."""
        while self._in_flight < self._max and (turn := self._next_turn()) is not None:
            turn.place.set_result(self._begin(turn.path))
        self._wake_in_time()

    def _next_turn(self) -> _Turn | None:
        if self._health.is_calm:
            return self._line.next() or self._background.next()
        now = self._clock.monotonic()

        def fits(turn: _Turn) -> bool:
            return self._is_open(turn.path) and self._due_in(turn, now) <= 0

        def asks_safely(turn: _Turn) -> bool:
            return fits(turn) and (self._health.away(turn.path) is None or is_safe(turn.request))

        return self._line.next(asks_safely) or self._background.next(asks_safely) or self._line.next(fits)

    def _due_in(self, turn: _Turn, now: float) -> float:
        """Seconds until a turn may come, as far as the origin is concerned.

        A safe request asks whether it is back; one that changes something asks only where no safe one has come for a while, since an origin
        that is asked for nothing else would else be away for ever.
        """
        due = self._health.due_in(turn.path, now)
        if self._health.away(turn.path) is None or is_safe(turn.request):
            return due
        return max(due, turn.since + ASK_EVERY - now)

    def _wake_in_time(self) -> None:
        """Looks again when the pause is over, and at those who wait for a moment and for no place."""
        if self._waking is not None:
            self._waking.cancel()
            self._waking = None
        if self._health.is_calm:
            return
        now = self._clock.monotonic()
        dues = [self._health.pause_left(now), *(self._due_in(turn, now) for turn in (*self._line, *self._background))]
        if (due := min((due for due in dues if due > 0), default=None)) is not None:
            self._waking = asyncio.get_running_loop().call_later(due, self._wake)

    def _wake(self) -> None:
        self._note(here=False, by_time=True)
        self._admit()
        self.watch()

    def _end_trial(self, path: str, is_trial: bool, asks: bool) -> None:
        self._trials -= is_trial
        if asks:
            self._asking.discard(path)
        self._admit()

    def _leave(self) -> None:
        self._in_flight -= 1
        self._admit()
        self.watch()

    # ---- what answers say ----------------------------------------------------------------------------------------------

    def _failed(self, request: Request, fault: BaseException) -> None:
        # A kept connection that was dropped says nothing: an origin that restarts drops them all.
        if isinstance(fault, _NO_HEAD) and not isinstance(fault, ConnectionDropped):
            path = None if isinstance(fault, _NO_CONNECTION) else request.head.path
            self._take_in(Failed(path, fault.code, fault.detail))

    def _answered(self, request: Request, response: Response, began: float) -> None:
        status, fields, wall = response.head.status, response.head.fields, self._clock.wall()
        told: list[Told] = []
        if status == 429:
            asked = retry_after(fields.get("Retry-After"), wall)
            told.append(Refused(None if asked is None else min(asked, LONGEST_RETRY_AFTER), began))
        told.append(Answered(request.head.path, status < 500 and status != 429, began))
        if (low := low_quota(fields, wall)) is not None:
            told.append(QuotaTold(low))
        self._take_in(*told)

    def _take_in(self, *told: Told) -> None:
        now = self._clock.monotonic()
        for_others = [heard for each in told if (heard := self._health.hear(each, now)) is not None]
        if not for_others:
            return
        for each in for_others:
            self.tell(each)
        self._note(here=True)
        self._look(*told)

    def _look(self, *told: Told) -> None:
        """Those who would wait in vain hear of it, and the others may begin."""
        health, now = self._health, self._clock.monotonic()
        if (left := health.pause_left(now)) > 0:
            _refuse(self._line.take(lambda turn: turn.until < now + left), lambda: _cooling_down(left))
        if (rests := health.background_rests(now)) > 0:
            _refuse(self._background.take(lambda turn: True), lambda: _cooling_down(rests, _BACKGROUND_RESTS))
        for each in told:
            if isinstance(each, Failed):
                self._share(each)
        self._admit()
        self.watch()

    def _share(self, failed: Failed) -> None:
        """The failure is that of all who wait for what is away."""
        for line in (self._line, self._background):
            _refuse(line.take(lambda turn: self._health.away(turn.path) is not None), lambda: _refusal(failed))

    def _note(self, *, here: bool, by_time: bool = False) -> None:
        """Tells what has begun, and what is over: where it happened `here`, or where it was told that it began and is over by time alone."""
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
            yield (
                ("origin_path_away", path),
                f"no answer comes on {path}, which is asked for again every second: {because}",
            )
        if (left := health.pause_left(self._clock.monotonic())) > 0:
            yield (
                (_COOL_DOWN, ""),
                f"the origin answered 429; nothing is sent for {left:.0f} s, then one request at a time",
            )


def _nothing() -> None:
    pass


def _told_nobody(told: Told) -> None:
    pass


def is_safe(request: Request) -> bool:
    """Whether asking changes nothing: by the method, or because the cache found the request to be a read."""
    if request.trail.key:
        return True
    bypass = (request.policy or UNLISTED).bypass_when
    return request.head.method in SAFE_METHODS and not side_effects(request.head.target, bypass)


def _refuse(turns: Iterable[_Turn], why: Callable[[], Refusal]) -> None:
    for turn in turns:
        turn.place.set_exception(why())


def _refusal(failed: Failed) -> Refusal:
    return _REFUSALS.get(failed.code, OriginUnreachable)(failed.detail)


def _cooling_down(left: float, what: str = "nothing was sent") -> CoolingDown:
    return CoolingDown(
        f"the origin asked for fewer requests, so {what}; ask again in {max(1.0, left):.0f} s, it resumes by itself",
        left,
    )


@dataclass(slots=True, eq=False)
class _Turn:
    """One who waits, since `since` and until `until` (steady seconds)."""

    request: Request
    place: asyncio.Future[_Place]
    since: float
    until: float

    @property
    def path(self) -> str:
        return self.request.head.path

    @property
    def is_given(self) -> bool:
        """Whether a place was given."""
        return self.place.done() and not self.place.cancelled() and self.place.exception() is None


class _Line:
    """Those who wait, one queue for each client; the clients take turns."""

    def __init__(self) -> None:
        self._queues: OrderedDict[Client, deque[_Turn]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, turn: _Turn) -> bool:
        return turn in self._queues.get(turn.request.client, ())

    def __iter__(self) -> Iterator[_Turn]:
        return (turn for queue in self._queues.values() for turn in queue)

    def join(self, turn: _Turn) -> None:
        self._queues.setdefault(turn.request.client, deque()).append(turn)
        self._count += 1

    def quit(self, turn: _Turn) -> None:
        client = turn.request.client
        queue = self._queues[client]
        queue.remove(turn)
        self._count -= 1
        if not queue:
            del self._queues[client]

    def next(self, fits: Callable[[_Turn], bool] = lambda turn: True) -> _Turn | None:
        """Whose turn it is; the client goes to the end of the round. A turn given up stays its owner's to remove."""
        for client in list(self._queues):
            for turn in self._queues[client]:
                if not turn.place.done() and fits(turn):
                    self._queues.move_to_end(client)
                    self.quit(turn)
                    return turn
        return None

    def take(self, which: Callable[[_Turn], bool]) -> list[_Turn]:
        """Removes turns, and gives them."""
        taken = [turn for turn in self if not turn.place.done() and which(turn)]
        for turn in taken:
            self.quit(turn)
        return taken


class _Place:
    """One place at the origin. `is_trial`: the next one begins when this one's head came; `asks`: its path is away."""

    __slots__ = ("_path", "_queue", "asks", "is_trial")

    def __init__(self, queue: Queueing, path: str) -> None:
        self._queue: Queueing | None = queue
        self._path = path
        self.is_trial = self.asks = False

    def head_came(self) -> None:
        """A head came, or none will; once."""
        if self._queue is not None and (self.is_trial or self.asks):
            self._queue._end_trial(self._path, self.is_trial, self.asks)
            self.is_trial = self.asks = False

    def leave(self) -> None:
        """The place is free; once."""
        self.head_came()
        queue, self._queue = self._queue, None
        if queue is not None:
            queue._leave()


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
            raise  # whoever was cancelled still closes the body
        except BaseException:
            self._place.leave()
            raise

    async def aclose(self) -> None:
        try:
            await self._body.aclose()
        finally:
            self._place.leave()


Who = Hashable
Grants = dict[Who, int]
"""How many places each of those may use from now on to whom that is to be told."""


@dataclass(slots=True)
class _Member:
    """`held` is what may be in use: a place that was called back counts until it is free."""

    wants: int = 0
    granted: int = 0
    held: int = 0
    lent_at: int = 0


class Pool:
    """`most` places, among about `expected` members."""

    def __init__(self, most: int, expected: int) -> None:
        self._most, self._expected = most, max(1, expected)
        self._members: dict[Who, _Member] = {}
        self._count = 0

    @property
    def held(self) -> int:
        """Places that may be in use now."""
        return sum(member.held for member in self._members.values())

    def join(self, who: Who, *, seldom: bool = False) -> Grants:
        """A new member: it gets an even part of what is free, so that its first request need not ask; not so where it asks `seldom`."""
        member = self._members[who] = _Member()
        if not seldom:
            self._lend(member, min(self._free(), max(1, self._most // self._expected)))
        return {who: member.granted, **self._settled()}

    def leave(self, who: Who) -> Grants:
        """A member is gone, and what it held is free."""
        self._members.pop(who, None)
        return self._settled()

    def wants(self, who: Who, count: int) -> Grants:
        """A member could use so many."""
        if who in self._members:
            self._members[who].wants = count
        return self._settled()

    def holds(self, who: Who, count: int) -> Grants:
        """A member uses no more than so many from now on, or what it was granted since."""
        if (member := self._members.get(who)) is not None:
            member.held = max(member.granted, min(member.held, count))
        return self._settled()

    def set_most(self, most: int) -> Grants:
        """Another number of places; those in use too many are given back as they become free."""
        self._most = most
        return self._settled()

    # ---- how they are shared -----------------------------------------------------------------------------------------

    def _settled(self) -> Grants:
        """Lends what is free to those who are short, and calls back what others have beyond their part."""
        before = {who: member.granted for who, member in self._members.items()}
        parts = self._parts()
        for who, member in self._members.items():  # beyond the whole, after there are fewer
            if self._granted() > self._most and member.granted > parts[who]:
                member.granted = max(parts[who], member.granted - (self._granted() - self._most))
        short = [who for who, member in self._members.items() if parts[who] > member.granted]
        needed = sum(parts[who] - self._members[who].granted for who in short)
        for who in sorted(short, key=lambda each: self._members[each].lent_at):
            taken = min(parts[who] - self._members[who].granted, self._free())
            self._lend(self._members[who], taken)
            needed -= taken
        needed -= sum(member.held - member.granted for member in self._members.values())
        for who, member in self._members.items():
            if needed > 0 and member.granted > parts[who]:
                called_back = min(needed, member.granted - parts[who])
                member.granted -= called_back
                needed -= called_back
        return {who: member.granted for who, member in self._members.items() if member.granted != before[who]}

    def _parts(self) -> dict[Who, int]:
        """What each should have of what it wants: equal parts, none more than it wants, the rest to who went without for longest."""
        parts = dict.fromkeys(self._members, 0)
        left = self._most
        order = sorted(self._members, key=lambda each: self._members[each].lent_at)
        while left:
            open_ = [who for who in order if parts[who] < self._members[who].wants]
            if not open_:
                break
            step = max(1, left // len(open_))
            for who in open_[:left]:
                given = min(step, self._members[who].wants - parts[who], left)
                parts[who] += given
                left -= given
        return parts

    def _lend(self, member: _Member, count: int) -> None:
        if count > 0:
            self._count += 1
            member.granted += count
            member.held = max(member.held, member.granted)
            member.lent_at = self._count

    def _free(self) -> int:
        return max(0, self._most - self.held)

    def _granted(self) -> int:
        return sum(member.granted for member in self._members.values())


class Share:
    """One process's part: sets the limit of its queue as places are granted, and tells (`wants`, `holds`) what it could use and does."""

    def __init__(self, queueing: Queueing, most: int, tell: Callable[[str, int], None]) -> None:
        self._queueing, self._most, self._tell = queueing, most, tell
        self._granted = self._held = self._wanted = 0
        queueing.set_places(0)
        queueing.watch = self._look

    def follow(self, most: int) -> None:
        """`upstream.max_concurrency` is another one now; what may be used still has to be granted."""
        self._most = most
        self._look()

    def granted(self, count: int) -> None:
        """So many may be used from now on."""
        self._granted = count
        self._held = max(self._held, count)
        self._queueing.set_places(count)
        self._look()

    def _look(self) -> None:
        used, waiting = self._queueing.use
        wanted = min(self._most, used + waiting)
        if wanted != self._wanted and (wanted > self._granted or wanted < self._wanted):
            self._wanted = wanted
            self._tell("wants", wanted)
        held = max(self._granted, used)
        if held < self._held:
            self._held = held
            self._tell("holds", held)

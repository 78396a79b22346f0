"""Who may be under way at the origin: so many at once, the others in turn by client, and nearly nobody after a 429 (contract §5).

What a 429 means for a stored answer is judged by caching; how connections are kept is the business of outbound.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from passoproxy.core.events import Warned
from passoproxy.core.http.grammar import parse_date
from passoproxy.errors import Overloaded
from passoproxy.ports import Body, BytesBody, Client, Clock, Hop, Observer, Request, Response, nobody

_LONGEST_PAUSE = 60.0
_LONGEST_RETRY_AFTER = 86400.0


@dataclass(frozen=True, slots=True)
class QueueSnapshot:
    """`cool_down_until` is epoch seconds, None while there is none."""

    in_flight: int
    waiting: int
    cool_down_until: float | None


class Queueing:
    """Lets at most `max_concurrency` requests be under way; who waits longer than `queue_timeout` seconds is Overloaded.

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
        self._in_flight = 0
        self._line = _Line()
        self._background = _Line()
        self._cooling = CoolDown(clock, first_pause)
        self._reopening: asyncio.TimerHandle | None = None
        self.watch: Callable[[], None] = _nothing
        """Called when more or fewer wait, or are under way: for whoever lends places to several queues."""
        self.cooled: Callable[[float], None] = _cooled_alone
        """Told the seconds of a cool-down that a 429 opened here."""

    async def send(self, request: Request) -> Response:
        """The answer of the hop behind. Raises Overloaded where no place came free in time, for background work at once while cooling down."""
        if not self._enter_now(request):
            await self._wait(request)
        began = self._clock.monotonic()
        try:
            response = await self._next.send(request)
        except BaseException:
            self._leave()
            raise
        if response.head.status == 429:
            self._cool_down(response, began)
        else:
            self._cooling.answered()
        if isinstance(response.body, BytesBody):
            self._leave()
            return response
        return Response(response.head, _PlacedBody(response.body, self))

    @property
    def max_concurrency(self) -> int:
        """How many may be under way at once."""
        return self._max

    @property
    def use(self) -> tuple[int, int]:
        """How many are under way, and how many wait."""
        return self._in_flight, len(self._line) + len(self._background)

    def set_places(self, count: int) -> None:
        """So many may be under way at once from now on."""
        self._max = count
        self._admit()

    def set_timeout(self, queue_timeout: float) -> None:
        """So many seconds may be waited, by those who come from now on."""
        self._queue_timeout = queue_timeout

    def cool(self, seconds: float) -> None:
        """A 429 was met elsewhere: the origin is to be spared for so many seconds."""
        self._cooling.heard(seconds)
        self._reopen_in(seconds)

    def set_limits(self, max_concurrency: int, queue_timeout: float) -> None:
        """New limits, for those who wait already as well (the time they may wait excepted)."""
        self._max, self._queue_timeout = max_concurrency, queue_timeout
        self._admit()

    def snapshot(self) -> QueueSnapshot:
        """How it stands now."""
        left = self._cooling.left()
        return QueueSnapshot(
            in_flight=self._in_flight,
            waiting=len(self._line) + len(self._background),
            cool_down_until=self._clock.wall() + left if left > 0 else None,
        )

    # ---- places

    @property
    def _limit(self) -> int:
        return min(1, self._max) if self._cooling.left() > 0 else self._max

    def _enter_now(self, request: Request) -> bool:
        if request.background and self._cooling.left() > 0:
            text = "the origin asked for fewer requests (429), so background work rests; it resumes by itself"
            raise Overloaded(text, self._cooling.left())
        if self._line or self._background or self._in_flight >= self._limit:
            self._admit()
            return False
        self._in_flight += 1
        return True

    async def _wait(self, request: Request) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._background if request.background else self._line
        line.join(request.client, turn)
        self._admit()
        self.watch()
        try:
            async with asyncio.timeout(self._queue_timeout):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._leave()  # the place came in the very moment in which the wait was given up
            else:
                line.quit(request.client, turn)
                self.watch()
            if isinstance(error, TimeoutError):
                raise Overloaded(
                    f"{self._limit} requests are under way at the origin and none ended within {self._queue_timeout:g} s; "
                    "ask again, or see upstream.max_concurrency and upstream.queue_timeout",
                    max(5.0, self._cooling.left()),
                ) from error
            raise

    def _leave(self) -> None:
        self._in_flight -= 1
        self._admit()
        self.watch()

    def _admit(self) -> None:
        """Gives free places to those whose turn it is; background work only where nobody else waits."""
        while self._in_flight < self._limit:
            turn = self._line.next() or self._background.next()
            if turn is None:
                return
            self._in_flight += 1
            turn.set_result(None)

    # ---- the cool-down

    def _cool_down(self, response: Response, began: float) -> None:
        fresh = self._cooling.left() <= 0
        self._cooling.refused(response.head.fields.get("Retry-After"), began)
        left = self._cooling.left()
        if fresh and left > 0:
            self._observer(
                Warned("origin_cool_down", f"the origin answered 429; requests go one at a time for {left:.0f} s")
            )
        if left > 0:
            self.cooled(left)
        self._reopen_in(left)

    def _reopen_in(self, left: float) -> None:
        if self._reopening is not None:
            self._reopening.cancel()
        self._reopening = asyncio.get_running_loop().call_later(left, self._admit)


def _nothing() -> None:
    pass


def _cooled_alone(seconds: float) -> None:
    pass


class CoolDown:
    """How long the origin is to be spared after a 429: as long as it says, else growing with each one in a row."""

    def __init__(self, clock: Clock, first_pause: float) -> None:
        self._clock = clock
        self._first = first_pause
        self._until = float("-inf")
        self._opened_at = float("-inf")
        self._in_a_row = 0

    def left(self) -> float:
        """Seconds until it is over; 0 or less when it is."""
        return self._until - self._clock.monotonic()

    def answered(self) -> None:
        """Something other than a 429 came."""
        self._in_a_row = 0

    def heard(self, seconds: float) -> None:
        """Another queue was refused, and the origin is to be spared for so many seconds."""
        self._opened_at = self._clock.monotonic()
        self._until = max(self._until, self._opened_at + seconds)

    def refused(self, retry_after: str | None, began: float) -> None:
        """A 429 came to a request that began at `began`; one that was under way when the cool-down opened counts as the same refusal."""
        now = self._clock.monotonic()
        asked = self._asked(retry_after)
        if asked is None:
            if began <= self._opened_at:
                return
            asked = min(self._first * 2.0 ** min(self._in_a_row, 16), _LONGEST_PAUSE)
        self._in_a_row += 1 if began > self._opened_at else 0
        self._opened_at = now
        self._until = max(self._until, now + asked)

    def _asked(self, retry_after: str | None) -> float | None:
        """What `Retry-After` says in seconds from now (RFC 9110 §10.2.3); None where it says nothing that can be understood."""
        if retry_after is None:
            return None
        if retry_after.isascii() and retry_after.isdigit():
            return float(min(int(retry_after[:10]), _LONGEST_RETRY_AFTER))
        wall = self._clock.wall()
        moment = parse_date(retry_after, wall)
        return None if moment is None else min(max(0.0, moment - wall), _LONGEST_RETRY_AFTER)


class _Line:
    """Those who wait, one queue for each client; the clients take turns."""

    def __init__(self) -> None:
        self._queues: OrderedDict[Client, deque[asyncio.Future[None]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def join(self, client: Client, turn: asyncio.Future[None]) -> None:
        self._queues.setdefault(client, deque()).append(turn)
        self._count += 1

    def quit(self, client: Client, turn: asyncio.Future[None]) -> None:
        queue = self._queues[client]
        queue.remove(turn)
        self._count -= 1
        if not queue:
            del self._queues[client]

    def next(self) -> asyncio.Future[None] | None:
        """Whose turn it is; the client goes to the end of the round. A turn given up stays its owner's to remove."""
        for _ in range(len(self._queues)):
            client, queue = next(iter(self._queues.items()))
            self._queues.move_to_end(client)
            for turn in queue:
                if not turn.done():
                    self.quit(client, turn)
                    return turn
        return None


class _PlacedBody:
    """An answer's body that gives its place back once: at its end, at a fault, or when it is closed."""

    __slots__ = ("_body", "_queue", "length")

    def __init__(self, body: Body, queue: Queueing) -> None:
        self.length = body.length
        self._body = body
        self._queue: Queueing | None = queue

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._body.__anext__()
        except asyncio.CancelledError:
            raise  # whoever was cancelled still closes the body
        except BaseException:
            self._leave()
            raise

    async def aclose(self) -> None:
        try:
            await self._body.aclose()
        finally:
            self._leave()

    def _leave(self) -> None:
        queue, self._queue = self._queue, None
        if queue is not None:
            queue._leave()

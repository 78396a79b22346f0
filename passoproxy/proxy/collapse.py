"""Request collapsing: one question to the origin at a time for each key, in a task of its own, shared by all requests that want the answer; and
its body, read once at the origin's pace, given to the store and to every client.

A client that hangs up takes nothing with it. What is asked is decided in `fetch`, what becomes of the answer in `cache`. A slow client gets the
rest of a body from the spool. If that has no room, the source waits; while the body is also being stored, a client that holds the others up
is set aside: it gets the rest from the store once that is complete.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.events import TaskFailed
from passoproxy.core.http.messages import ResponseHead
from passoproxy.errors import BodyBroken, Overloaded, PassoproxyError
from passoproxy.ports import Body, BytesBody, Clock, Observer, Response, Trail, nobody
from passoproxy.proxy.spool import BegunBody, Reader, Spool, Spools
from passoproxy.values import value

LONGEST_STALL = 5.0
"""Seconds that a client may hold up a body that others or the store are waiting for."""

ROOM_AGAIN = 1.0
"""Seconds after which room is looked for again on disk, where others may have given some back."""

LONGEST_HELD = 0.1
"""Seconds that the end of a body is kept back until the store has it, so that a client which asks again at once finds it there."""

MOST_PASSED_BY = 16 * 1024 * 1024
"""Bytes that are read of a body without readers, before its connection is ended."""

Sink = Callable[[bytes], Awaitable[bool]]
"""Takes one part; False as soon as nothing more is to be stored."""


class SharedBody(Spool):
    """`pump` reads the source to its end; `reader` gives bodies that begin at its start. Not for more than one loop."""

    def __init__(
        self,
        source: Body,
        clock: Clock,
        spools: Spools,
        read: Callable[[Entry], Awaitable[Body | None]],
        watch: Callable[[int], None] = lambda readers: None,
        longest_stall: float = LONGEST_STALL,
    ) -> None:
        """`read` reads what `stored` names; `watch` is told how many readers there are, whenever that changes."""
        super().__init__(spools, source.length)
        self._read = read
        self._source = source
        self._clock = clock
        self._watch = watch
        self._stall = longest_stall
        self._set_aside: set[Reader] = set()
        self._storing = False
        self._news: asyncio.Future[None] | None = None
        self.stored: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        """Settled when storing is done or given up."""

    async def pump(self, sink: Sink | None) -> bool:
        """Reads the source to its end, also without readers; says whether `sink` took all of it.

        Never raises what the source raises: readers are told.
        """
        self._storing = sink is not None
        passed_by = 0
        try:
            async for part in self._source:
                if not self._readers and not self._storing:
                    self.pass_by(part)
                    if (passed_by := passed_by + len(part)) > MOST_PASSED_BY:
                        raise BodyBroken("no client waits for this body any more")
                    continue
                self.add(part)
                if sink is not None and self._storing:
                    self._storing = await sink(part)
                await self._room()
            self.end(True)
        except PassoproxyError as fault:
            self.end(fault)
        finally:
            if self._ended is False:  # cancelled, or a fault of our own: the body must not pass for complete
                self.end(BodyBroken("the body was given up"))
            await self._source.aclose()
        return self._ended is True and self._storing

    async def _room(self) -> None:
        """Waits until there is room for another part, or no reader is left."""
        waited_since = self._clock.monotonic()
        while not await self.has_room():
            if not self._readers and not self._storing:
                return
            rest = self._stall - (self._clock.monotonic() - waited_since)
            slow = self._slow()
            if slow and rest <= 0.0:
                self._set_aside.update(slow)
                for reader in slow:
                    super().leave(reader)
            else:
                await self._something_new(min(rest, ROOM_AGAIN) if slow else ROOM_AGAIN)

    def _slow(self) -> list[Reader]:
        # A client that holds up no other is not set aside, nor is one of a body that the store may yet find too long: a slow client of a long
        # answer is served at its own pace.
        if not self._storing or self.length is None:
            return []
        slowest = min((reader.at for reader in self._readers), default=0)
        slow = [reader for reader in self._readers if reader.at == slowest]
        return slow if len(slow) < len(self._readers) else []

    async def _something_new(self, within: float) -> None:
        self._news = asyncio.get_running_loop().create_future()
        await done_within(self._clock, self._news, within)

    def reader(self) -> Reader | None:
        reader = super().reader()
        self._watch(len(self._readers) + len(self._set_aside))
        return reader

    def leave(self, reader: Reader) -> None:
        super().leave(reader)
        self._set_aside.discard(reader)
        self._watch(len(self._readers) + len(self._set_aside))

    def advanced(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def from_disk(self, reader: Reader) -> bytes:
        if reader not in self._set_aside:
            return await super().from_disk(reader)
        entry = await asyncio.shield(self.stored)
        body = await self._read(entry) if entry is not None else None
        if body is None:
            raise BodyBroken("this client was too slow, and the answer could not be kept for it")
        reader.rest = await _after(body, reader.at)
        return b""

    async def before_the_last(self) -> None:
        await self.held_until_stored()

    async def held_until_stored(self) -> None:
        """Waits until the body is stored, or is not going to be, for at most LONGEST_HELD."""
        if self._storing and not self.stored.done():
            await done_within(self._clock, self.stored, LONGEST_HELD)


async def _after(body: Body, skip: int) -> Body:
    """The body without its first `skip` bytes."""
    if isinstance(body, BytesBody):
        return BytesBody(body.data[skip:])
    while skip > 0:
        part = await anext(body, b"")
        if not part:
            return BytesBody()
        if len(part) > skip:
            return BegunBody(BytesBody(part[skip:]), body)
        skip -= len(part)
    return body


async def done_within(clock: Clock, future: asyncio.Future[Any], seconds: float) -> bool:
    """Whether `future` is done within so many seconds; it is not cancelled."""
    alarm = asyncio.ensure_future(clock.sleep(seconds))
    try:
        await asyncio.wait((future, alarm), return_when=asyncio.FIRST_COMPLETED)
    finally:
        alarm.cancel()
    return future.done()


MOST_REMEMBERED = 10_000
UNSHARED_FOR = 60.0
"""Seconds for which a key whose answer could not be shared lets its requests go side by side."""
PAUSE_AFTER_FAILURE = 10.0
"""Seconds before a background renewal that failed is tried again."""
RENEWAL_LINGERS = 3
"""A renewal may take so many times as long as a fetch without a client, from its wait for a place to its end."""


@value
class Validated:
    """The stored `entry` answers: it was validated just now. `status` is the origin's."""

    entry: Entry
    status: int


@value
class Stored:
    """The answer, for all that wait, is stored as `entry`, or on its way there. `body` is all of it, or what is shared of it while it arrives; then
    `first` is the first requester's view. `is_kept` is False once it is known that it could not be stored."""

    head: ResponseHead
    entry: Entry
    body: bytes | SharedBody
    first: Reader | None = None
    is_kept: bool = True


@value
class Forwarded:
    """The answer is not stored. It is for the first requester alone, or for all that wait (`for_all`: a failure, whose body is in memory)."""

    response: Response
    request_time: float
    response_time: float
    for_all: bool = False


Outcome = Validated | Stored | Forwarded | Exception
"""What came of a question; an exception is the same for all that waited."""


class SharedFetch:
    """One question under way. `outcome` is settled once, and no request joins any more when the entry is stored or given up."""

    def __init__(
        self,
        key: object,
        trail: Trail,
        background: bool = False,
        sent: bool = False,
        from_nothing: bool = False,
        stands_back: bool = False,
    ) -> None:
        self.key = key
        self.background = background
        self.stands_back = stands_back or background
        """Whether its question is refused earlier than a client's would be."""
        self.from_nothing = from_nothing
        """Whether nothing was stored when it began."""
        self.task: asyncio.Task[None] | None = None
        self.subject: Entry | None = None
        """What the answer would be stored as, as far as that is known before it comes."""
        self.outcome: Outcome | None = None
        self.has_ended = False
        self.waiting = 0 if background else 1
        """How many wait for the outcome."""
        self.reading = 0
        """How many read the answer's body."""
        self.requester_left = background
        """Whether the request that began this has left."""
        self.ending: asyncio.TimerHandle | None = None
        self._waiters: list[asyncio.Future[bool]] = []
        self.trail, self._sent_before = trail, -1 if sent else trail.origin_requests

    def settle(self, outcome: Outcome) -> None:
        """Tells all that wait; only the first outcome counts."""
        if self.outcome is None:
            self.outcome = outcome
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(True)

    def waiter(self) -> asyncio.Future[bool]:
        """Done when there is an outcome; a future of the caller's own, which it may cancel."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        return waiter

    @property
    def was_sent(self) -> bool:
        """Whether anything of the question may have reached the origin."""
        return self.outcome is not None or self.trail.origin_requests > self._sent_before

    @property
    def has_failed(self) -> bool:
        """Whether a request that joined now would get a failure, or a transfer that is broken."""
        match self.outcome:
            case Stored(body=SharedBody() as body):
                return body.is_broken
            case outcome:
                return isinstance(outcome, Exception)


Work = Callable[[SharedFetch], Awaitable[None]]


class Collapser:
    """All fetches of one process. `patience` is how many seconds a request waits for another's fetch, `linger` how many a fetch without
    a client may take to its end: the origin works on it anyway.
    """

    def __init__(
        self,
        clock: Clock,
        observer: Observer = nobody,
        patience: float = 30.0,
        most_background: int = 8,
        linger: float = 30.0,
    ) -> None:
        self._clock = clock
        self._observer = observer
        self.linger = linger
        self._patience = patience
        self._most_background = most_background
        self._joinable: dict[object, SharedFetch] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._background = 0
        self._ended = 0
        self._last_ended: dict[str, int] = {}
        self._unshared = _Memory(clock, UNSHARED_FOR)
        self._paused = _Memory(clock, PAUSE_AFTER_FAILURE)
        self._waiting: deque[tuple[float, asyncio.Future[bool]]] = deque()
        self._alarm: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def of(self, key: object) -> SharedFetch | None:
        """The fetch that is under way for a key, and may still be joined."""
        fetch = self._joinable.get(key)
        return None if fetch is None or fetch.has_failed else fetch

    @property
    def mark(self) -> int:
        """A moment, to be given to `ended_since`."""
        return self._ended

    def ended_since(self, mark: int, key: str) -> bool:
        """Whether a fetch for the primary key `key` has ended since: what was selected from the store before may have missed its entry."""
        return self._last_ended.get(key, 0) > mark

    def may_share(self, key: object) -> bool:
        """Whether requests of the key may wait for one another."""
        return key not in self._unshared

    def remember_unshared(self, key: object, unshared: bool) -> None:
        """Whether the last answer for the key was one that could not be shared."""
        if unshared:
            self._unshared.add(key)
        else:
            self._unshared.discard(key)

    def start(
        self,
        key: object | None,
        fetch_entry: Work,
        trail: Trail,
        *,
        background: bool = False,
        sent: bool = False,
        from_nothing: bool = False,
        stands_back: bool = False,
    ) -> SharedFetch:
        """Starts a fetch, whose questions are counted in `trail`; `sent`: the origin was asked already. With a key it is found by `of` until it is
        done; without one no request joins it.
        """
        fetch = SharedFetch(key, trail, background, sent, from_nothing, stands_back)
        if key is not None:
            self._joinable[key] = fetch
        if background:
            self._background += 1
            self._end_in(fetch, RENEWAL_LINGERS * self.linger)
        fetch.task = task = asyncio.create_task(self._run(fetch, fetch_entry), name="fetch")
        self._tasks.add(task)
        # Not within the task, which may be cancelled before it has begun.
        task.add_done_callback(lambda task: self._clear(task, fetch))
        return fetch

    def may_renew(self, key: object, *, though_failed: bool = False) -> bool:
        """Whether a background fetch may start: none is under way for the key, none failed just now (or never mind), and there is room."""
        is_paused = key in self._paused and not though_failed
        return key not in self._joinable and not is_paused and self._background < self._most_background

    async def outcome_of(self, fetch: SharedFetch) -> Outcome:
        """The outcome of a fetch, for the request that began it."""
        try:
            if fetch.outcome is None:
                await fetch.waiter()
            assert fetch.outcome is not None
            return fetch.outcome
        except asyncio.CancelledError:
            fetch.requester_left = True
            match fetch.outcome:  # the reader of a requester that has left wants nothing more
                case Stored(first=Reader() as reader) | Forwarded(response=Response(body=Reader() as reader)):
                    reader.leave()
            raise
        finally:
            self._waits_no_more(fetch)

    async def joined(self, fetch: SharedFetch) -> Outcome | None:
        """The outcome of another request's fetch; None if that takes longer than `patience`."""
        fetch.waiting += 1
        try:
            if fetch.outcome is None:
                await self._patient(fetch.waiter())
            return fetch.outcome
        finally:
            self._waits_no_more(fetch)

    async def _patient(self, waiter: asyncio.Future[bool]) -> None:
        """Waits for `waiter`, for at most `patience`: one alarm for all, since the first to begin is the first to lose it."""
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()
        waiting.append((self._clock.monotonic() + self._patience, waiter))
        if self._alarm is None:
            self._alarm = asyncio.create_task(self._end_waits(), name="patience")
        await waiter

    async def _end_waits(self) -> None:
        try:
            while self._waiting:
                until, waiter = self._waiting[0]
                left = until - self._clock.monotonic()
                if not waiter.done() and left > 0.0:
                    await self._clock.sleep(left)
                    continue
                self._waiting.popleft()
                if not waiter.done():
                    waiter.set_result(False)
        finally:
            self._alarm = None

    def read_by(self, fetch: SharedFetch, readers: int) -> None:
        """So many read the fetch's body now."""
        fetch.reading = readers
        self._look_at(fetch)

    def _waits_no_more(self, fetch: SharedFetch) -> None:
        fetch.waiting -= 1
        self._look_at(fetch)

    def _look_at(self, fetch: SharedFetch) -> None:
        """Ends a fetch without a client: at once if nothing was sent, else when the origin has had time to end its answer."""
        if fetch.waiting or fetch.reading or fetch.background or fetch.task is None or fetch.task.done():
            return
        if not fetch.was_sent:
            self._give_up(fetch)
        elif fetch.ending is None:
            self._end_in(fetch, self.linger)

    def _end_in(self, fetch: SharedFetch, seconds: float) -> None:
        fetch.ending = asyncio.get_running_loop().call_later(seconds, self._give_up, fetch)

    def _give_up(self, fetch: SharedFetch) -> None:
        fetch.ending = None
        if not (fetch.waiting or fetch.reading) and fetch.task is not None:
            self.release(fetch)
            fetch.task.cancel()
        elif fetch.background:
            self._end_in(fetch, self.linger)

    async def in_time(self, future: asyncio.Future[Entry | None] | asyncio.Future[None]) -> bool:
        """Whether `future` is done within the time one may wait."""
        return future.done() or await done_within(self._clock, future, self._patience)

    async def close(self) -> None:
        """Ends every fetch; what was being stored is given up."""
        tasks = [*self._tasks, *([] if self._alarm is None else [self._alarm])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, fetch: SharedFetch, fetch_entry: Work) -> None:
        try:
            await fetch_entry(fetch)
        except PassoproxyError as fault:
            fetch.settle(fault)
        except Exception as fault:  # a fault of our own: told also if no request waits for it
            self._observer(TaskFailed("fetch", f"{type(fault).__name__} while an answer was fetched"))
            fetch.settle(fault)

    def _clear(self, task: asyncio.Task[None], fetch: SharedFetch) -> None:
        self._tasks.discard(task)
        fetch.task = None
        if fetch.ending is not None:
            fetch.ending.cancel()
        if not fetch.has_ended:
            self.end(fetch, fetch.outcome or Overloaded("the answer was given up; ask again in a moment"))
        if fetch.background:
            self._background -= 1
            if not isinstance(fetch.outcome, Validated | Stored):
                self._paused.add(fetch.key)

    def end(self, fetch: SharedFetch, outcome: Outcome) -> None:
        """Settles a fetch whose entry is stored or given up; no request joins it any more."""
        fetch.has_ended = True
        self.release(fetch)
        self._ended += 1
        if fetch.subject is not None:
            self._last_ended.pop(fetch.subject.key, None)
            while len(self._last_ended) >= MOST_REMEMBERED:
                del self._last_ended[next(iter(self._last_ended))]
            self._last_ended[fetch.subject.key] = self._ended
        fetch.settle(outcome)

    def release(self, fetch: SharedFetch) -> None:
        """From now on no request joins the fetch; those that wait for it go on waiting."""
        if fetch.key is not None and self._joinable.get(fetch.key) is fetch:
            del self._joinable[fetch.key]

    def release_where(self, selector: Selector) -> None:
        """From now on no request joins a fetch whose answer `selector` means, or whose subject is not known yet."""
        for fetch in list(self._joinable.values()):
            if fetch.subject is None or selector.matches(fetch.subject):
                self.release(fetch)


class _Memory:
    """Keys that are remembered for a while, at most MOST_REMEMBERED of them; the oldest are forgotten first."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._until: dict[object, float] = {}

    def __contains__(self, key: object) -> bool:
        until = self._until.get(key)
        if until is None:
            return False
        if self._clock.monotonic() < until:
            return True
        del self._until[key]
        return False

    def add(self, key: object) -> None:
        self._until.pop(key, None)
        while len(self._until) >= MOST_REMEMBERED:
            del self._until[next(iter(self._until))]
        self._until[key] = self._clock.monotonic() + self._seconds

    def discard(self, key: object) -> None:
        self._until.pop(key, None)

"""One body from the origin, read once and at the origin's pace, and given to many: the store and every client that waits for it.

Clients that take it slowly get the rest from the spool. Where that has no room, the source waits for them; while the body is also being
stored, a client that holds the others up is parked: it gets the rest from the store once that is complete.

Flights: one question to the origin at a time for each key, in a task of its own, shared by all who want the answer.

A client that hangs up takes nothing with it. What is asked, and what is made of the answer, is given by caching as `carry`; here it is
settled who waits for what, for how long, and which keys are not worth waiting for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.events import TaskFailed
from passoproxy.core.http.messages import ResponseHead
from passoproxy.errors import BodyBroken, Overloaded, PassoproxyError
from passoproxy.ports import Body, BytesBody, Clock, Observer, Response, Trail, nobody
from passoproxy.proxy.bodies import BegunBody
from passoproxy.proxy.spool import Reader, Spool, Spools

LONGEST_STALL = 5.0
"""Seconds that a client may hold up a body that others or the store are waiting for."""

ROOM_AGAIN = 1.0
"""Seconds after which room is looked for again on disk, where others may have given some back."""

LONGEST_HELD = 0.1
"""Seconds that the end of a body is kept back until the store has it, so that a client which asks again at once finds it there."""

MOST_PASSED_BY = 16 * 1024 * 1024
"""Bytes that are read of a body that nobody wants any more, before its connection is ended."""

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
        self._parked: set[Reader] = set()
        self._storing = False
        self._news: asyncio.Future[None] | None = None
        self.stored: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()
        """Settled by whoever stores, when that is done or given up."""

    async def pump(self, sink: Sink | None) -> bool:
        """Reads the source to its end, also where nobody wants it any more; says whether `sink` took all of it.

        Never raises what the source raises: readers are told.
        """
        self._storing = sink is not None
        passed_by = 0
        try:
            async for part in self._source:
                if not self._readers and not self._storing:
                    self.pass_by(part)
                    if (passed_by := passed_by + len(part)) > MOST_PASSED_BY:
                        raise BodyBroken("nobody waits for this body any more")
                    continue
                self.add(part)
                if sink is not None and self._storing:
                    self._storing = await sink(part)
                await self._room()
            self.end(True)
        except PassoproxyError as fault:
            self.end(fault)
        finally:
            if self._ended is False:  # cancelled, or a fault of our own: nobody may take the body for complete
                self.end(BodyBroken("the body was given up"))
            await self._source.aclose()
        return self._ended is True and self._storing

    async def _room(self) -> None:
        """Waits until there is room for another part, or nobody is left who wants one."""
        waited_since = self._clock.monotonic()
        while not await self.has_room():
            if not self._readers and not self._storing:
                return
            rest = self._stall - (self._clock.monotonic() - waited_since)
            slow = self._slow()
            if slow and rest <= 0.0:
                self._parked.update(slow)
                for reader in slow:
                    super().leave(reader)
            else:
                await self._something_new(min(rest, ROOM_AGAIN) if slow else ROOM_AGAIN)

    def _slow(self) -> list[Reader]:
        # Nobody is parked who holds up nobody else, nor where the store may yet find the body too long: a plain slow client of a long
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
        self._watch(len(self._readers) + len(self._parked))
        return reader

    def leave(self, reader: Reader) -> None:
        super().leave(reader)
        self._parked.discard(reader)
        self._watch(len(self._readers) + len(self._parked))

    def advanced(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def from_disk(self, reader: Reader) -> bytes:
        if reader not in self._parked:
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
"""For so many times as long as a flight that nobody waits for may a renewal take, from its wait for a place to its end."""


@dataclass(frozen=True, slots=True)
class Landed:
    """The stored `entry` answers: it was validated just now. `status` is the origin's."""

    entry: Entry
    status: int


@dataclass(frozen=True, slots=True)
class Shared:
    """The answer is on its way, for all who wait, and is stored as `entry`. `first` is the asker's view of the body."""

    head: ResponseHead
    body: SharedBody
    first: Reader | None
    entry: Entry


@dataclass(frozen=True, slots=True)
class Told:
    """An answer that is a failure, for all who waited: small enough to be in memory."""

    head: ResponseHead
    data: bytes
    request_time: float
    response_time: float


@dataclass(frozen=True, slots=True)
class Handed:
    """The answer is for the one who asked, and nobody else."""

    response: Response
    request_time: float
    response_time: float


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no answer, for any who waited."""

    fault: Exception


Landing = Landed | Shared | Told | Handed | Failed


class Flight:
    """One question under way. `landing` is settled once; `done` when the entry is stored or given up."""

    def __init__(self, key: object, background: bool, trail: Trail) -> None:
        loop = asyncio.get_running_loop()
        self.key = key
        self.background = background
        self.task: asyncio.Task[None] | None = None
        self.subject: Entry | None = None
        """What the answer would be stored as, as far as that is known before it comes."""
        self.landing: asyncio.Future[Landing] = loop.create_future()
        self.done: asyncio.Future[None] = loop.create_future()
        self.waiting = 0 if background else 1
        """How many wait for the landing."""
        self.reading = 0
        """How many read the answer's body."""
        self.asker_left = background
        """Whether nobody is there any more for whom this was begun."""
        self.ending: asyncio.TimerHandle | None = None
        self._trail, self._sent_before = trail, trail.origin_requests

    def land(self, landing: Landing) -> None:
        """Tells everybody; only the first landing counts."""
        if not self.landing.done():
            self.landing.set_result(landing)

    @property
    def is_wanted(self) -> bool:
        """Whether anybody waits for the answer, or reads it."""
        return bool(self.waiting or self.reading)

    @property
    def was_sent(self) -> bool:
        """Whether anything of the question may have reached the origin."""
        return self.landing.done() or self._trail.origin_requests > self._sent_before

    @property
    def has_broken_off(self) -> bool:
        """Whether the answer broke off on its way: whoever comes now would get nothing but a broken transfer."""
        return self.landing.done() and isinstance(landing := self.landing.result(), Shared) and landing.body.is_broken


Carry = Callable[[Flight], Awaitable[None]]


class Flights:
    """All flights of one process. `patience` is how many seconds a follower waits for somebody else's flight, `linger` how many a flight
    that nobody waits for any more may take to its end: the origin works on it, whoever has gone.
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
        self._aloft: dict[object, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._background = 0
        self._ended = 0
        self._last_ended: dict[str, int] = {}
        self._unshared = _Memory(clock, UNSHARED_FOR)
        self._paused = _Memory(clock, PAUSE_AFTER_FAILURE)

    def __len__(self) -> int:
        return len(self._tasks)

    def of(self, key: object) -> Flight | None:
        """The flight that is under way for a key, and may still be joined."""
        flight = self._aloft.get(key)
        return None if flight is None or flight.has_broken_off else flight

    @property
    def mark(self) -> int:
        """A moment, to be given to `ended_since`."""
        return self._ended

    def ended_since(self, mark: int, key: str) -> bool:
        """Whether a flight for the primary key `key` has ended since: what was selected from the store before may have missed its entry."""
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

    def launch(self, key: object | None, carry: Carry, trail: Trail, *, background: bool = False) -> Flight:
        """Starts a flight, whose questions are counted in `trail`; with a key it is found by `of` until it is done, without one nobody
        follows it."""
        flight = Flight(key, background, trail)
        if key is not None:
            self._aloft[key] = flight
        if background:
            self._background += 1
            self._end_in(flight, RENEWAL_LINGERS * self.linger)
        flight.task = task = asyncio.create_task(self._fly(flight, carry), name="flight")
        self._tasks.add(task)
        # Not within the task, which may be cancelled before it has begun.
        task.add_done_callback(lambda _: self._clear(flight))
        return flight

    def may_renew(self, key: object, *, though_failed: bool = False) -> bool:
        """Whether a background flight may start: none is under way for the key, none failed just now (or never mind), and there is room."""
        is_paused = key in self._paused and not though_failed
        return key not in self._aloft and not is_paused and self._background < self._most_background

    async def led(self, flight: Flight) -> Landing:
        """How one's own flight landed."""
        try:
            return await asyncio.shield(flight.landing)
        except asyncio.CancelledError:
            flight.asker_left = True
            if flight.landing.done():
                _left_behind(flight.landing.result())
            raise
        finally:
            self._waits_no_more(flight)

    async def followed(self, flight: Flight) -> Landing | None:
        """How somebody else's flight landed; None where that takes longer than one may wait."""
        flight.waiting += 1
        try:
            if not flight.landing.done() and not await done_within(self._clock, flight.landing, self._patience):
                return None
            return flight.landing.result()
        finally:
            self._waits_no_more(flight)

    def read_by(self, flight: Flight, readers: int) -> None:
        """So many read the flight's body now."""
        flight.reading = readers
        self._look_at(flight)

    def _waits_no_more(self, flight: Flight) -> None:
        flight.waiting -= 1
        self._look_at(flight)

    def _look_at(self, flight: Flight) -> None:
        """Ends a flight that is for nobody: at once where nothing was sent, else when the origin has had time to end its answer."""
        if flight.is_wanted or flight.background or flight.done.done():
            return
        if not flight.was_sent:
            self._give_up(flight)
        elif flight.ending is None:
            self._end_in(flight, self.linger)

    def _end_in(self, flight: Flight, seconds: float) -> None:
        flight.ending = asyncio.get_running_loop().call_later(seconds, self._give_up, flight)

    def _give_up(self, flight: Flight) -> None:
        flight.ending = None
        if not flight.is_wanted and flight.task is not None:
            self.release(flight)
            flight.task.cancel()
        elif flight.background:
            self._end_in(flight, self.linger)

    async def in_time(self, future: asyncio.Future[Entry | None] | asyncio.Future[None]) -> bool:
        """Whether `future` is done within the time one may wait."""
        return future.done() or await done_within(self._clock, future, self._patience)

    async def close(self) -> None:
        """Ends every flight; what was being stored is given up."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fly(self, flight: Flight, carry: Carry) -> None:
        try:
            await carry(flight)
        except PassoproxyError as fault:
            flight.land(Failed(fault))
        except Exception as fault:  # a fault of our own: whoever waits gets it, and it is told even if nobody does
            self._observer(TaskFailed("flight", f"{type(fault).__name__} while an answer was fetched"))
            flight.land(Failed(fault))

    def _clear(self, flight: Flight) -> None:
        self._tasks.discard(cast("asyncio.Task[None]", flight.task))
        if flight.ending is not None:
            flight.ending.cancel()
        self.release(flight)
        self._note_end(flight)
        flight.land(Failed(Overloaded("the answer was given up; ask again in a moment")))
        if flight.background:
            self._background -= 1
            if not isinstance(flight.landing.result(), Landed | Shared):
                self._paused.add(flight.key)
        flight.done.set_result(None)

    def _note_end(self, flight: Flight) -> None:
        self._ended += 1
        if flight.subject is not None:
            self._last_ended.pop(flight.subject.key, None)
            while len(self._last_ended) >= MOST_REMEMBERED:
                del self._last_ended[next(iter(self._last_ended))]
            self._last_ended[flight.subject.key] = self._ended

    def release(self, flight: Flight) -> None:
        """From now on nobody finds the flight; whoever waits for it already goes on waiting."""
        if flight.key is not None and self._aloft.get(flight.key) is flight:
            del self._aloft[flight.key]

    def release_where(self, selector: Selector) -> None:
        """From now on nobody finds a flight whose answer `selector` means, or whose subject is not known yet."""
        for flight in list(self._aloft.values()):
            if flight.subject is None or selector.matches(flight.subject):
                self.release(flight)


def _left_behind(landing: Landing) -> None:
    """Nobody will read what was landed for the asker."""
    reader = landing.first if isinstance(landing, Shared) else None
    if isinstance(landing, Handed) and isinstance(landing.response.body, Reader):
        reader = landing.response.body
    if reader is not None:
        reader.leave()


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

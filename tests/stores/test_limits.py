"""What instances share in the store: the places of all together, by a model of instances on the real script; and the count of requests."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passoproxy.core.events import Event, TaskFailed, Warned
from passoproxy.errors import EntryStoreFailure
from passoproxy.host.clock import SystemClock
from passoproxy.proxy.fleet_places import AGAIN_SECONDS, LEASE_SECONDS, PRESENCE_SECONDS, FleetPlaces, Lent, Question
from passoproxy.proxy.places import Grants, PlacePool
from passoproxy.stores.limits import MOMENTS, PLACES, RedisLedger, RedisPlaces
from passoproxy.stores.redis_client import RedisLink, ended
from tests.redis_server import RedisServer

P = "passoproxy:{x}:limits:"
STEP = 0.25


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path_factory.mktemp("redis"))
    yield made
    made.stop()


class Store:
    """The real script on a real server, by a clock of the test's."""

    def __init__(self, client: redis.Redis) -> None:
        client.flushall()
        told = PLACES.replace("redis.call('TIME')", "redis.call('LRANGE', KEYS[1] .. 'clock', 0, 1)")
        assert told != PLACES
        self.client, self.script = client, client.register_script(told)
        self.now, self.is_away, self.calls = 1_700_000_000.0, False, 0

    def ask(self, name: str, asked: Question) -> Lent:
        self.calls += 1
        seconds, rest = divmod(round(self.now * 1000), 1000)
        self.client.delete(f"{P}clock")
        self.client.rpush(f"{P}clock", seconds, rest * 1000)
        given = (name, asked.held, asked.wants, asked.limit, asked.instances, asked.word, *MOMENTS)
        return Lent(*map(int, self.script(keys=[P], args=list(given))))

    def has_called(self, name: str) -> bool:
        return self.client.lpop(f"{P}call:{name}") is not None


@dataclass
class Instance:
    """One, with a client side that takes every place that it may."""

    store: Store
    name: str
    limit: int
    used: int = 0
    waiting: int = 0
    granted: int = 0
    served: int = 0
    strays: int = 0
    """Requests under way that were begun under a lease that was lost."""
    is_paused: bool = False
    due_at: float = 0.0
    heard: int = -1
    """How many answers the store had given when it was looked whether it had called."""
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pool = PlacePool(0, 1)
        self.pool.join("own", seldom=True)
        self.places = FleetPlaces(self.pool, self._spread, self.limit, 10.0, self.events.append)

    def _spread(self, grants: Grants) -> None:
        for count in grants.values():
            self.granted = count
            self.move()

    def move(self) -> None:
        if self.places.is_alone or self.store.now < self.places.until:  # as the limiter looks at `lent_until`
            taken = max(0, min(self.waiting, self.granted - self.used))
            self.used, self.waiting, self.served = self.used + taken, self.waiting - taken, self.served + taken
        self._spread(self.pool.wants("own", min(self.limit, self.used + self.waiting)))
        self._spread(self.pool.holds("own", max(self.granted, self.used)))

    def ask_for(self, count: int) -> None:
        self.waiting += count
        self.move()

    def end_one(self) -> None:
        if self.used:
            self.used, self.strays = self.used - 1, max(0, self.strays - 1)
            self.move()

    def turn(self) -> bool:
        """One turn of its loop; whether it asked."""
        now, is_called = self.store.now, False
        if self.is_paused:
            return False
        if not self.store.is_away and self.heard != self.store.calls:
            self.heard, is_called = self.store.calls, self.store.has_called(self.name)
        if not (now >= self.due_at or (not self.places.is_away and (is_called or self.places.look()))):
            return False
        question = self.places.question(now)
        if self.store.is_away:
            self.places.failed(now)
            self.due_at = now + AGAIN_SECONDS
        else:
            self.places.answered(self.store.ask(self.name, question), now, now)
            self.due_at = now + self.places.due_in()
        return True


class Fleet:
    def __init__(self, client: redis.Redis, limit: int, count: int) -> None:
        self.store, self.limit, self.number = Store(client), limit, count
        self.instances = [Instance(self.store, f"i{each}", limit) for each in range(count)]
        self.settle()
        self.pass_time(PRESENCE_SECONDS + STEP)  # each has heard of the others

    def settle(self) -> None:
        for _ in range(200):
            if not [each for each in self.instances if each.turn()]:
                return
        raise AssertionError("they ask for ever")

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds / STEP)):
            self.store.now += STEP
            for each in self.instances:
                # What an instance has under way when its lease ends, beyond its share, cannot be called back.
                if self.store.now >= each.places.until + LEASE_SECONDS * 0.2:
                    share = self.limit // len(self.instances)
                    each.strays = each.used if each.is_paused else max(0, each.used - max(1, share))
            self.settle()

    def crash(self, which: int) -> None:
        """Its connections to the origin end with it; another one takes its place."""
        self.number += 1
        self.instances[which] = Instance(self.store, f"i{self.number}", self.limit)
        self.settle()

    @property
    def used(self) -> int:
        return sum(each.used for each in self.instances)


WHICH = st.integers(0, 3)
TIMES = st.sampled_from([0.25, 1.0, 2.0, 4.0, 6.0, 12.0])
COMMON = [
    st.tuples(st.just("ask"), WHICH, st.integers(1, 5)),
    st.tuples(st.just("ask"), WHICH, st.integers(1, 5)),
    st.tuples(st.just("end"), WHICH, st.integers(1, 5)),
    st.tuples(st.just("end"), WHICH, st.integers(1, 5)),
    st.tuples(st.just("time"), WHICH, TIMES),
    st.tuples(st.just("crash"), WHICH, st.just(1)),
]
PAUSES = [st.tuples(st.sampled_from(["pause", "resume"]), WHICH, st.just(1))]
FLEETS = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def happen(fleet: Fleet, what: str, which: int, count: float) -> None:
    one = fleet.instances[which % len(fleet.instances)]
    match what:
        case "ask" if not one.is_paused:
            one.ask_for(int(count))
        case "end" if not one.is_paused:
            for _ in range(int(count)):
                one.end_one()
                fleet.settle()
        case "time":
            fleet.pass_time(count)
        case "crash":
            fleet.crash(which % len(fleet.instances))
        case "pause" | "resume":
            one.is_paused = what == "pause"
        case "away" | "back" | "lost":
            fleet.store.is_away = what == "away"
            if what == "lost":
                fleet.store.client.flushall()
    fleet.settle()


@FLEETS
@given(st.integers(1, 6), st.integers(1, 4), st.lists(st.one_of(*COMMON, *PAUSES), max_size=24))
def test_never_more_than_there_are_and_none_idle(
    server: RedisServer, limit: int, count: int, story: list[tuple[str, int, float]]
) -> None:
    with server.client() as client:
        fleet = Fleet(client, limit, count)
        for each in story:
            happen(fleet, *each)
            strays = sum(each.strays for each in fleet.instances)
            assert fleet.used - strays <= limit
        for one in fleet.instances:
            one.is_paused = False
        fleet.pass_time(LEASE_SECONDS + 2)
        waiting = sum(each.waiting for each in fleet.instances)
        assert not waiting or fleet.used >= limit
        for _ in range(200):
            for one in fleet.instances:
                one.end_one()
            fleet.settle()
            if not sum(each.waiting + each.used for each in fleet.instances):
                break
        else:
            raise AssertionError("some wait for ever")
        fleet.pass_time(16)
        assert client.hgetall(f"{P}places") == {}  # an idle instance holds nothing
        before = fleet.store.calls
        fleet.pass_time(10)
        assert fleet.store.calls - before <= 4 * count


@FLEETS
@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.lists(
        st.one_of(*COMMON[:-1], st.tuples(st.sampled_from(["away", "back", "lost"]), st.just(0), st.just(1))),
        max_size=24,
    ),
)
def test_a_store_that_is_away_leaves_each_its_share(
    server: RedisServer, limit: int, count: int, story: list[tuple[str, int, float]]
) -> None:
    """All together use no more than there are, or one each; also while the store goes and comes back, with or without what it held."""
    with server.client() as client:
        fleet = Fleet(client, limit, count)
        bound = max(limit, count)
        for each in story:
            happen(fleet, *each)
            if each[0] in ("back", "lost"):
                fleet.pass_time(AGAIN_SECONDS)  # by then all have told what they use
                fleet.settle()
                # One that did not know of the outage may have taken what the others used without the store.
                bound = max(bound, fleet.used)
            used = fleet.used - sum(each.strays for each in fleet.instances)
            assert used <= bound
            if used <= max(limit, count):
                bound = max(limit, count)
        fleet.store.is_away = True
        fleet.pass_time(16)
        for one in fleet.instances:
            one.ask_for(1)
        fleet.settle()
        assert all(each.used for each in fleet.instances)  # each goes on


@pytest.mark.parametrize(("limit", "count"), [(1, 3), (2, 3), (4, 3), (4, 2)])
def test_nobody_starves_and_a_call_is_needed_for_what_goes_round_alone(
    server: RedisServer, limit: int, count: int
) -> None:
    with server.client() as client:
        fleet, chance = Fleet(client, limit, count), random.Random(1)
        for each in fleet.instances:
            each.ask_for(10_000)
        fleet.settle()
        before, calls = sum(each.served for each in fleet.instances), fleet.store.calls
        for _ in range(300):
            chance.choice([each for each in fleet.instances if each.used]).end_one()
            fleet.settle()
            assert fleet.used == limit
        served = [each.served for each in fleet.instances]
        assert min(served) > 0.5 * max(served), served
        each_asked = (fleet.store.calls - calls) / (sum(served) - before)
        assert each_asked <= (0.1 if limit % count == 0 else 2.1)


def test_one_that_died_is_done_with_within_a_lease(server: RedisServer) -> None:
    with server.client() as client:
        fleet = Fleet(client, 4, 2)
        fleet.instances[0].ask_for(4)
        fleet.settle()
        fleet.instances[1].ask_for(4)
        fleet.settle()
        fleet.crash(0)
        fleet.pass_time(LEASE_SECONDS - 0.5)
        assert fleet.instances[1].used <= 1
        fleet.pass_time(1.5)
        assert fleet.instances[1].used == 4


def test_one_that_ends_in_order_gives_back_what_it_was_given_meanwhile(server: RedisServer) -> None:
    with server.client() as client:
        store = Store(client)
        assert store.ask("a", Question(0, 1, 1, 1, "new")).held == 1
        assert store.ask("b", Question(0, 1, 1, 1, "new")).held == 0
        store.ask("a", Question(0, 0, 1, 2))  # b gets its place
        store.ask("b", Question(0, 0, 1, 2, "gone"))
        assert store.ask("a", Question(0, 1, 1, 2)).held == 1


def test_an_instance_alone_asks_once_a_second_while_it_is_busy(server: RedisServer) -> None:
    with server.client() as client:
        fleet = Fleet(client, 8, 2)
        one, calls = fleet.instances[0], fleet.store.calls
        for _ in range(40):  # ten seconds, a hundred requests
            one.ask_for(5)
            fleet.settle()
            for _ in range(5):
                one.end_one()
            fleet.pass_time(STEP)
        assert one.served == 200
        assert fleet.store.calls - calls <= 20


def test_what_a_pause_left_over_begins_nothing(server: RedisServer) -> None:
    """A process that was frozen and wakes has lost its places, before its loop has looked."""
    with server.client() as client:
        fleet = Fleet(client, 2, 2)
        one, other = fleet.instances
        one.ask_for(1)
        fleet.settle()
        one.is_paused = True
        other.ask_for(5)
        fleet.pass_time(LEASE_SECONDS + 1)
        assert other.used == 2
        one.used = 0  # the origin has answered meanwhile
        one.ask_for(3)
        assert one.used == 0


def test_the_share_is_told_once_and_so_is_its_end(server: RedisServer) -> None:
    with server.client() as client:
        fleet = Fleet(client, 4, 3)
        fleet.pass_time(10)
        fleet.store.is_away = True
        fleet.pass_time(20)
        fleet.store.is_away = False
        fleet.pass_time(2)
        for each in fleet.instances:
            begun, over = [event for event in each.events if isinstance(event, Warned)]
            assert (begun.code, begun.over, over.code, over.over) == ("places_shared_out", False) * 1 + (
                "places_shared_out",
                True,
            )
            assert "1 of 4 requests at once" in begun.detail
            assert each.places.shown() == {"limit": 4, "held": 0, "instances": 3, "alone": False}


async def test_a_fault_of_our_own_is_told_and_the_share_goes_on() -> None:
    class Broken:
        def register_script(self, script: str) -> object:
            raise ZeroDivisionError

        async def aclose(self) -> None:
            pass

    events: list[Event] = []
    pool = PlacePool(0, 1)
    machine = FleetPlaces(pool, lambda grants: None, 4, 0.0, events.append)
    places = RedisPlaces(lambda *_: Broken(), P, "the store", machine, SystemClock(), events.append)  # type: ignore[arg-type, return-value]
    running = asyncio.ensure_future(places.run())
    try:
        async with asyncio.timeout(20):
            while not machine.is_alone:
                await asyncio.sleep(0.01)
    finally:
        await ended(running)
    assert TaskFailed("places", "ZeroDivisionError") in events
    assert machine.shown()["held"] == 1


async def test_requests_are_counted_for_all_and_a_store_that_lost_them_begins_with_what_is_known(
    server: RedisServer,
) -> None:
    with server.client() as client:
        client.flushall()
    link = RedisLink(server.url)

    def connect(connect_seconds: float, answer_seconds: float) -> object:
        return link.asynchronous(connect_seconds=10, answer_seconds=10)

    one, two = (RedisLedger(connect, P, "the store") for _ in range(2))  # type: ignore[arg-type]
    try:
        assert await one.add(0, {}, 0.0) == {}
        assert await one.add(2, {0: 2, 5: 7, 200: 1}, 0.0) == {0: 2, 5: 7}
        assert await two.add(3, {0: 3}, 0.0) == {0: 5, 5: 7}
        assert sum((await one.add(1, {0: 6, 5: 7}, 0.0)).values()) == 13
        with server.client() as client:
            future = int(next(iter(client.hkeys(f"{P}requests")))) + 1000
            client.hset(f"{P}requests", str(future), 4)  # of a clock that was set back
            found = await one.add(0, {}, 0.0)
            assert sum(found.values()) == 17
            assert not client.hexists(f"{P}requests", str(future))
        server.kill()
        with pytest.raises(EntryStoreFailure):
            await one.add(1, {}, 0.0)
    finally:
        server.start() if server.process is None else None
        await one.aclose()
        await two.aclose()

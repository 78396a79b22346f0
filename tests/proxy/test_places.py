"""Places at the origin among processes: never more than there are, none idle while somebody is short, nobody starves."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.proxy.limiter import Limiter
from passoproxy.proxy.places import Grants, PlacePool, PlaceShare
from tests.fakes import ChunkedBody, FakeClock, ScriptedHop, request, response, settle


class Process:
    """A process as the pool sees it: so many want a place, so many have one."""

    def __init__(self, pool: PlacePool, who: int) -> None:
        self.pool, self.who = pool, who
        self.granted = self.used = self.waiting = 0
        self.served = 0

    def told(self, count: int) -> Grants:
        self.granted = count
        return self.move()

    def move(self) -> Grants:
        """Takes the places that it may, and says what it could use and does."""
        taken = max(0, min(self.waiting, self.granted - self.used))
        self.used, self.waiting, self.served = self.used + taken, self.waiting - taken, self.served + taken
        grants = self.pool.wants(self.who, self.used + self.waiting)
        return {**grants, **self.pool.holds(self.who, max(self.granted, self.used))}

    def end_one(self) -> Grants:
        self.used = max(0, self.used - 1)
        return self.move()


def spread(processes: dict[int, Process], grants: Grants) -> None:
    while grants:
        who, count = next(iter(grants.items()))
        del grants[who]
        if who in processes:
            grants.update(processes[who].told(count))  # type: ignore[index]


ACTIONS = st.lists(st.tuples(st.sampled_from(["ask", "end", "die", "join"]), st.integers(0, 3)), max_size=60)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 7), ACTIONS)
def test_never_more_than_there_are_and_none_idle(most: int, actions: list[tuple[str, int]]) -> None:
    pool, processes = PlacePool(most, 4), dict[int, Process]()
    for action, who in [("join", 0), ("join", 1), ("join", 2), *actions]:
        if action == "join" and who not in processes:
            processes[who] = Process(pool, who)
            spread(processes, pool.join(who))
        elif who in processes:
            if action == "ask":
                processes[who].waiting += 1
                spread(processes, processes[who].move())
            elif action == "end":
                spread(processes, processes[who].end_one())
            elif action == "die":
                del processes[who]
                spread(processes, pool.leave(who))
        used, waiting = (sum(getattr(each, name) for each in processes.values()) for name in ("used", "waiting"))
        assert used <= pool.held <= most
        assert not waiting or used == most, (used, waiting, {who: vars(each) for who, each in processes.items()})


@pytest.mark.parametrize(("most", "count"), [(1, 3), (2, 5), (4, 4), (7, 3)])
def test_nobody_starves(most: int, count: int) -> None:
    pool, chance = PlacePool(most, count), random.Random(1)
    processes = {who: Process(pool, who) for who in range(count)}
    for who in processes:
        spread(processes, pool.join(who))
    for each in processes.values():
        each.waiting = 10_000
        spread(processes, each.move())
    for _ in range(1000):
        busy = [each for each in processes.values() if each.used]
        spread(processes, chance.choice(busy).end_one())
    served = [each.served for each in processes.values()]
    assert min(served) > 0.5 * max(served), served


def test_fewer_places_are_given_back_as_they_become_free() -> None:
    pool = PlacePool(4, 2)
    processes = {who: Process(pool, who) for who in range(2)}
    for who in processes:
        spread(processes, pool.join(who))
    for each in processes.values():
        each.waiting = 9
        spread(processes, each.move())
    assert sum(each.used for each in processes.values()) == 4
    spread(processes, pool.set_most(1))
    for _ in range(3):
        spread(processes, next(each for each in processes.values() if each.used).end_one())
    assert sum(each.used for each in processes.values()) == 1
    spread(processes, pool.set_most(4))
    assert sum(each.used for each in processes.values()) == 4


def test_one_who_asks_seldom_begins_with_none() -> None:
    pool = PlacePool(4, 2)
    assert pool.join("parent", seldom=True) == {"parent": 0}
    assert pool.join("a") == {"a": 2}
    assert pool.join("b") == {"b": 2}
    assert pool.wants("parent", 1) in ({"a": 1}, {"b": 1})
    assert pool.wants("nobody", 1) == pool.holds("nobody", 1) == {}
    idle = "a" if pool.wants("a", 0) == {} else "b"
    given = {**pool.holds("a", 1), **pool.holds("b", 1)}
    assert given.get("parent") == 1, (idle, given)


async def test_a_share_sets_the_queues_limit_and_tells_what_it_could_use() -> None:
    told: list[tuple[str, int]] = []
    bodies = [ChunkedBody(b"x") for _ in range(3)]
    hop = ScriptedHop([response(body=body) for body in bodies])
    limiter = Limiter(hop, max_concurrency=9, queue_timeout=5, clock=FakeClock())
    share = PlaceShare(limiter, 4, lambda word, count: told.append((word, count)))
    sending = [asyncio.create_task(limiter.send(request())) for _ in range(3)]
    await settle()
    assert not hop.seen
    assert told[-1] == ("wants", 3)
    share.granted(2)
    await settle()
    assert len(hop.seen) == 2
    share.granted(1)  # one is called back: it is free when one has ended
    assert ("holds", 1) not in told
    await (await sending[0]).body.aclose()
    assert told[-1] == ("holds", 1)
    assert len(hop.seen) == 2
    await (await sending[1]).body.aclose()
    await settle()
    assert len(hop.seen) == 3
    await (await sending[2]).body.aclose()
    assert ("wants", 0) in told
    share.follow(1)

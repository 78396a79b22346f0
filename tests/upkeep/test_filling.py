"""Prefetch: what is fetched, what is left alone, how many at once, and what a pause of the origin means."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from passoproxy.core.http.messages import RequestHead, fields_of
from passoproxy.errors import EntryStoreFailure, OriginUnreachable, Overloaded
from passoproxy.ports import BytesBody, Outlook, Request, Response
from passoproxy.upkeep.prefetch import LONGEST_REST, MOST_ATTEMPTS, Filled, Order, Prefetch
from tests.fakes import BROKEN, ChunkedBody, FakeClock, ScriptedHop, Step, response, settle

STORED = [("Cache-Status", "passoproxy; fwd=uri-miss; fwd-status=200; stored; ttl=60")]


class Stand:
    """A filling over a cache that follows a script."""

    def __init__(self, *script: Step, at_once: int = 3, repeat: bool = False) -> None:
        self.clock = FakeClock()
        self.cache = ScriptedHop(list(script), repeat)
        self.outcomes: dict[str, Any] = {}
        self.cool_down_until: float | None = None
        self.budget_until: float | None = None
        self.filling = Prefetch(
            self.cache, self._outlook, lambda: at_once, self._cool_down, lambda: self.budget_until, self.clock
        )

    def _cool_down(self) -> float | None:
        if self.cool_down_until is not None and self.cool_down_until <= self.clock.wall():
            self.cool_down_until = None
        return self.cool_down_until

    async def _outlook(self, head: RequestHead, body: bytes) -> Outlook:
        found = self.outcomes.get(head.target, {})
        if isinstance(found, Exception):
            raise found
        return Outlook("miss", "the reason", False, Request(head, BytesBody(body)))._replace(**found)

    def order(self, number: int, target: str, fields: Any = ()) -> Order:
        return Order(number, target, RequestHead("GET", target, fields_of(fields)))

    async def fill(self, *targets: str) -> list[Filled]:
        orders = [self.order(number, target) for number, target in enumerate(targets)]
        return [each async for each in self.filling.fill(orders)]

    def begin(self, *targets: str) -> asyncio.Task[list[Filled]]:
        return asyncio.ensure_future(self.fill(*targets))


def answers(status: int = 200, word: str = "miss", fields: Any = STORED, body: Any = b"body") -> Step:
    def answered(request: Request) -> Response:
        request.trail.cache = word
        return response(status, fields, body)

    return answered


async def test_what_is_stored_is_fetched_as_background_work() -> None:
    body = ChunkedBody(b"a", b"b")
    stand = Stand(answers(body=body))
    assert await stand.fill("/a") == [Filled(0, "/a", "fetched", 200)]
    (sent,) = stand.cache.seen
    assert sent.background
    assert (sent.client.name, sent.received_at) == ("cache warm", stand.clock.wall())
    assert sent.head.fields["Cache-Control"] == "min-fresh=0"
    assert body.closed


async def test_its_own_cache_directives_are_kept() -> None:
    stand = Stand(answers())
    orders = [stand.order(0, "/a", [("Cache-Control", "no-cache")])]
    assert [each.outcome async for each in stand.filling.fill(orders)] == ["fetched"]
    assert stand.cache.seen[0].head.fields.getall("Cache-Control") == ["no-cache, min-fresh=0"]


async def test_what_is_fresh_is_left_alone() -> None:
    stand = Stand(answers(word="hit"))
    stand.outcomes["/fresh"] = {"outcome": "hit", "is_fresh": True}
    assert await stand.fill("/fresh") == [Filled(0, "/fresh", "fresh")]
    assert stand.cache.seen == []
    assert await stand.fill("/just-now") == [Filled(0, "/just-now", "fresh", 200)]


async def test_what_would_not_be_stored_is_not_sent() -> None:
    stand = Stand()
    stand.outcomes["/a"] = {"outcome": "pass"}
    (found,) = await stand.fill("/a")
    assert (found.outcome, found.detail) == ("failed", "it would not be stored, so it was not sent: the reason")
    assert stand.cache.seen == []


@pytest.mark.parametrize(
    ("step", "status", "detail"),
    [
        (answers(404), 404, "the origin answered 404"),
        (answers(fields=[("Cache-Status", "passoproxy; fwd=uri-miss")]), 200, "the origin answered 200, and that is not stored"),
        (answers(fields=[("Cache-Status", "other; stored, passoproxy; fwd=miss")]), 200, "the origin answered 200, and that is not stored"),
        (answers(word="stale"), 200, "the origin gave no new answer, and the old one is kept"),
        (OriginUnreachable("away"), None, "origin_unreachable: away"),
        (answers(body=ChunkedBody(b"a", BROKEN)), None, "the body broke off"),
    ],
)  # fmt: skip
async def test_what_failed_is_told_and_the_rest_done(step: Step, status: int | None, detail: str) -> None:
    stand = Stand(step, answers(), at_once=1)
    found = await stand.fill("/a", "/b")
    assert found == [Filled(0, "/a", "failed", status, detail), Filled(1, "/b", "fetched", 200)]


async def test_a_validated_answer_counts_as_fetched() -> None:
    stand = Stand(answers(fields=[("Cache-Status", "passoproxy; fwd=stale; fwd-status=304; ttl=60")]))
    assert [each.outcome for each in await stand.fill("/a")] == ["fetched"]


async def test_a_store_that_is_away_fails_the_order() -> None:
    stand = Stand()
    stand.outcomes["/a"] = EntryStoreFailure("/cache: away")
    assert [each.detail for each in await stand.fill("/a")] == ["/cache: away"]


class Gate:
    """Holds requests until it is opened, and counts those that are in it."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.within = self.most = self.cancelled = 0

    async def send(self, request: Request) -> Response:
        self.within += 1
        self.most = max(self.most, self.within)
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.within -= 1
        return response(200, STORED)


async def test_so_many_at_once_and_no_more_for_all_who_fill() -> None:
    stand, gate = Stand(at_once=3), Gate()
    stand.filling._cache = gate
    both = [stand.begin(*(f"/{n}" for n in range(10))), stand.begin(*(f"/{n}" for n in range(10)))]
    await settle(50)
    assert (gate.within, gate.most) == (3, 3)
    gate.opened.set()
    assert [len(found) for found in await asyncio.gather(*both)] == [10, 10]
    assert gate.most == 3


async def test_whoever_stops_asking_stops_the_rest() -> None:
    stand, gate = Stand(at_once=2), Gate()
    stand.filling._cache = gate
    task = stand.begin(*(f"/{n}" for n in range(10)))
    await settle(50)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle()
    assert (gate.within, gate.cancelled) == (0, 2)
    gate.opened.set()
    assert len(await stand.fill("/again")) == 1


async def test_a_pause_of_the_origin_is_waited_for() -> None:
    stand = Stand(answers())
    stand.cool_down_until = stand.clock.wall() + 30
    task = stand.begin("/a")
    await stand.clock.advance(29)
    assert stand.cache.seen == []
    await stand.clock.advance(2)
    assert [each.outcome for each in await task] == ["fetched"]


async def test_a_429_in_the_midst_is_tried_again_after_the_pause() -> None:
    stand = Stand(at_once=1)

    def limited(request: Request) -> Response:
        stand.cool_down_until = stand.clock.wall() + 10
        request.trail.cache = "miss"
        return response(429)

    stand.cache.script = [limited, answers()]
    task = stand.begin("/a")
    await stand.clock.advance(15)
    assert [each.outcome for each in await task] == ["fetched"]


async def test_no_place_is_tried_again_and_given_up_in_the_end() -> None:
    stand = Stand(Overloaded("full"), answers())
    task = stand.begin("/a")
    await stand.clock.advance(5)
    assert [each.outcome for each in await task] == ["fetched"]
    stand.cache.script, stand.cache.repeat = [Overloaded("full")], True
    stand.cache.seen.clear()
    task = stand.begin("/a")
    await stand.clock.advance(60)
    assert [each.detail for each in await task] == ["overloaded: full"]
    assert len(stand.cache.seen) == MOST_ATTEMPTS


async def test_a_pause_that_is_too_long_is_not_waited_for() -> None:
    stand = Stand()
    stand.cool_down_until = stand.clock.wall() + LONGEST_REST + 100
    (found,) = await stand.fill("/a")
    assert found.detail == "cooling_down: the origin wants no background work for 1000 s; run it again then"


async def test_a_spent_budget_is_waited_for_and_that_is_told_once() -> None:
    stand = Stand(answers(), answers(), answers())
    stand.budget_until = stand.clock.wall() + 7200
    task = stand.begin("/a", "/b", "/c")
    await stand.clock.advance(7100)
    assert (stand.cache.seen, task.done()) == ([], False)
    stand.budget_until = None
    await stand.clock.advance(5)
    told, *found = await task
    assert (told.number, told.outcome) == (-1, "waiting")
    assert told.detail.startswith("upstream.daily_budget is used up; this goes on by itself, not before 2023-")
    assert [each.outcome for each in found] == ["fetched"] * 3


async def test_nothing_to_do_is_done() -> None:
    assert await Stand().fill() == []
    assert replace(Stand().order(1, "/a"), number=2).number == 2

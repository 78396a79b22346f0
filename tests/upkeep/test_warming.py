"""As the runway shrinks, the most used entries are revalidated first: bounded, in the background, first to stand back (contract §4)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.events import EntriesWarmed, TaskFailed
from passoproxy.core.oauth.alert_levels import Level
from passoproxy.core.oauth.snapshot import UNTOLD, TokenSnapshot
from passoproxy.errors import AuthorizationRequired, OriginTimeout, Overloaded
from passoproxy.ports import Request, Response
from passoproxy.proxy.popularity import Usage
from passoproxy.upkeep.prefetch import LEAST_BETWEEN, RunwayRevalidation
from tests.caching_stand import ROUTE
from tests.caching_stand import Stand as Cache
from tests.fakes import ChunkedBody, FakeClock, RememberingObserver, ScriptedHop, request, response

ROUTED = RoutePolicy(name="found")


def asked_anew(status: int = 200) -> Response:
    return response(status, [("Cache-Status", f"passoproxy; fwd=request; fwd-status={status}; stored")])


class Stand:
    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.observer = clock, RememberingObserver()
        self.level = Level.NOTIFY
        self.access, self.left = "valid", 1800.0
        self.began = clock.monotonic()
        self.task: asyncio.Task[None] | None = None
        self.road = ScriptedHop([lambda _: asked_anew()], repeat=True)
        self.wishes = [request(target=f"/{number}", background=True) for number in range(100)]
        self.warming = RunwayRevalidation(
            self.road,
            most_used=self.most_used,
            policy_of=lambda path: ROUTED,
            level=lambda: self.level,
            read=self.read,
            clock=clock,
            observe=self.observer,
            most=4,
        )

    async def lives(self, seconds: float) -> None:
        """Begins, where that was not done, and lets time go by."""
        self.task = self.task or asyncio.create_task(self.warming.run())
        await self.clock.advance(seconds)

    def most_used(self, number: int) -> Sequence[Request]:
        return self.wishes[:number]

    def read(self) -> TokenSnapshot:
        now = self.clock.wall()
        until = now + self.left - (self.clock.monotonic() - self.began)
        return replace(UNTOLD, access=self.access, served_until=until if self.access == "valid" else None, as_of=now)

    @property
    def targets(self) -> list[str]:
        return [each.head.target for each in self.road.seen]

    def told(self) -> list[EntriesWarmed]:
        return [each for each in self.observer.of(EntriesWarmed) if isinstance(each, EntriesWarmed)]


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    made = Stand(FakeClock())
    yield made
    if made.task is not None:
        made.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await made.task


async def test_nothing_is_asked_in_health_or_without_an_access_token(stand: Stand) -> None:
    stand.level = Level.LOG
    await stand.lives(100)
    stand.level, stand.access = Level.PAGE, "expired"
    await stand.lives(100)
    assert stand.road.seen == []
    assert stand.told() == []


async def test_the_most_used_are_asked_anew_in_order_one_after_the_other(stand: Stand) -> None:
    await stand.lives(0)
    assert stand.targets == ["/0"]
    await stand.lives(0.25)
    assert stand.targets == ["/0", "/1"]
    await stand.lives(2)
    assert stand.targets == ["/0", "/1", "/2", "/3"]
    assert stand.told() == [EntriesWarmed(4, 4)]


async def test_it_is_repeated_at_half_of_what_is_left(stand: Stand) -> None:
    await stand.lives(1790)
    moments = len(stand.told())
    assert 6 <= moments <= 10
    assert len(stand.road.seen) == 4 * moments
    await stand.lives(LEAST_BETWEEN)
    stand.access = "expired"
    before = len(stand.road.seen)
    await stand.lives(1000)
    assert len(stand.road.seen) == before


async def test_in_a_short_life_it_hurries(stand: Stand) -> None:
    stand.left = 4.0
    await stand.lives(2.1)
    assert stand.told() == [EntriesWarmed(4, 4)]


async def test_conditions_and_wishes_of_whoever_asked_first_do_not_count(stand: Stand) -> None:
    fields = [("If-None-Match", '"x"'), ("Range", "bytes=0-1"), ("Cache-Control", "max-stale"), ("Accept", "a/b")]
    stand.wishes = [request("HEAD", "/h", fields, background=True)]
    await stand.lives(3)
    (sent,) = stand.road.seen
    assert (sent.head.method, sent.policy, sent.background) == ("GET", ROUTED, True)
    assert dict(sent.head.fields) == {"Accept": "a/b", "Cache-Control": "no-cache"}


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (Overloaded("429"), "overloaded"),
        (AuthorizationRequired("dead"), "authorization_required"),
        (lambda _: response(200, [("Cache-Status", "passoproxy; fwd=stale; detail=STALE_ERROR")]), "not_asked"),
        (lambda _: response(200), "not_asked"),
    ],
)
async def test_it_stands_back(stand: Stand, step: object, code: str) -> None:
    stand.road.script, stand.road.repeat = [lambda _: asked_anew(), step], True  # type: ignore[list-item]
    await stand.lives(3)
    assert stand.told() == [EntriesWarmed(2, 1, code)]


async def test_one_that_cannot_be_had_does_not_end_it(stand: Stand) -> None:
    failing = lambda _: asked_anew(500)  # noqa: E731
    stand.road.script, stand.road.repeat = [OriginTimeout("slow"), failing, lambda _: asked_anew()], True
    await stand.lives(3)
    assert stand.told() == [EntriesWarmed(4, 2)]


async def test_bodies_are_closed_unread(stand: Stand) -> None:
    body = ChunkedBody(b"x" * 10)
    stand.road.script = [lambda _: Response(asked_anew().head, body)]
    stand.wishes = stand.wishes[:1]
    await stand.lives(1)
    assert body.closed


async def test_nothing_used_is_nothing_told(stand: Stand) -> None:
    stand.wishes = []
    await stand.lives(100)
    assert stand.told() == []


async def test_a_fault_of_ours_does_not_end_it(stand: Stand) -> None:
    stand.road.script, stand.road.repeat = [RuntimeError("a text"), lambda _: asked_anew()], True
    await stand.lives(1)
    assert stand.observer.of(TaskFailed) == [TaskFailed("runway revalidation", "RuntimeError")]
    await stand.lives(1000)
    assert stand.told()


async def test_through_a_real_cache_the_stored_answer_is_the_younger_one() -> None:
    usage = Usage()
    cache = Cache(lambda _: response(200, [], b"old"), lambda _: response(200, [], b"new"), policy=ROUTE, usage=usage)
    assert (await cache.ask("/a")).body == b"old"
    await cache.clock.advance(10)
    observer = RememberingObserver()
    warming = RunwayRevalidation(
        cache.cache,
        most_used=usage.most_used,
        policy_of=lambda path: ROUTE,
        level=lambda: Level.PAGE,
        read=lambda: replace(UNTOLD, access="valid", served_until=cache.clock.wall() + 60, as_of=cache.clock.wall()),
        clock=cache.clock,
        observe=observer,
    )
    task = asyncio.create_task(warming.run())
    await cache.clock.advance(1)
    assert observer.events == [EntriesWarmed(1, 1)]
    assert [each.background for each in cache.origin.seen] == [False, True]
    answer = await cache.ask("/a")
    assert answer.body == b"new"
    assert "hit" in answer.cache
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

"""Contract §4: safe requests wait briefly for a login under way, and go on the moment the pair is there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from passoproxy.core.cache.policy import BypassPolicy, RoutePolicy
from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.oauth.snapshot import UNTOLD, TokenSnapshot
from passoproxy.errors import AuthorizationRequired, OriginUnreachable, Refusal, TokenUnavailable
from passoproxy.ports import Body, BytesBody, Request, Response
from passoproxy.proxy.login_wait import PATIENCE, LoginWait
from passoproxy.tokens.waits import first_of
from tests.fakes import ChunkedBody, FakeClock, request, response, settle

READS = RoutePolicy(name="r", methods=("GET", "POST"), ttl=60, bypass_when=BypassPolicy(query_has=("mark",)))
JSON = (("Content-Type", "application/json"),)
LOGGING_IN = TokenUnavailable("a login is under way")
NOBODY = AuthorizationRequired("log in")


class Keeper:
    """Has a bearer and a login as the test says."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.bearer: Bearer | None = None
        self.login_until: float | None = None
        self.turn = asyncio.Event()

    def current(self) -> Bearer | None:
        return self.bearer

    def snapshot(self) -> TokenSnapshot:
        return replace(UNTOLD, login_until=self.login_until)

    def becomes(self, generation: int | None = None, *, login: bool = False) -> None:
        self.bearer = Bearer("t", generation) if generation is not None else None
        self.login_until = self.clock.wall() + 600 if login else None
        self.turn.set()
        self.turn = asyncio.Event()

    async def news(self, seconds: float) -> None:
        await first_of(self.turn.wait(), self.clock.sleep(seconds))


@dataclass
class Road:
    """The cache and all behind it: answers with a bearer that is good, refuses else as the keeper would; reads what it is sent."""

    keeper: Keeper
    good_from: int = 1
    seen: list[tuple[Request, bytes]] = field(default_factory=list)
    refuses: Callable[[], Refusal] | None = None

    async def send(self, request: Request) -> Response:
        body = b"".join([part async for part in request.body])
        self.seen.append((request, body))
        await asyncio.sleep(0)
        bearer = self.keeper.current()
        if self.refuses is not None:
            raise self.refuses()
        if bearer is not None:
            request.trail.bearer = bearer
            if bearer.generation >= self.good_from:
                return response(200, body=b"answer")
        raise LOGGING_IN if self.keeper.login_until is not None else NOBODY


class Stand:
    def __init__(self, **options: int) -> None:
        self.clock = FakeClock()
        self.keeper = Keeper(self.clock)
        self.road = Road(self.keeper)
        self.parking = LoginWait(self.road, self.keeper, self.clock, **options)  # type: ignore[arg-type]

    def begin(
        self, method: str = "GET", target: str = "/a", body: bytes | Body = b"", **more: object
    ) -> asyncio.Task[Response]:
        fields = JSON if method == "POST" else ()
        return asyncio.create_task(
            self.parking.send(request(method, target, fields, body, **{"policy": READS, **more}))
        )


async def ended(task: asyncio.Task[Response]) -> int | str:
    """The status, or the code of the refusal; the task has to be done."""
    await settle()
    assert task.done()
    try:
        return task.result().head.status
    except Refusal as refusal:
        return refusal.code


async def test_with_a_bearer_nothing_is_different() -> None:
    stand = Stand()
    stand.keeper.becomes(1)
    assert await ended(stand.begin()) == 200
    assert len(stand.road.seen) == 1


async def test_without_a_login_nobody_waits() -> None:
    stand = Stand()
    assert await ended(stand.begin()) == "authorization_required"
    assert len(stand.road.seen) == 1


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [
        ("GET", "/a?x=1", b""),
        ("HEAD", "/a", b""),
        ("OPTIONS", "/a", b""),
        ("POST", "/a", b'{"lang": "en"}'),
        ("POST", "/a", ChunkedBody(b'{"lang":', b' "en"}')),
    ],
)
async def test_a_safe_request_goes_on_the_moment_the_pair_is_there(
    method: str, target: str, body: bytes | Body
) -> None:
    stand = Stand()
    stand.keeper.becomes(login=True)
    task = stand.begin(method, target, body)
    await stand.clock.advance(5)
    assert not task.done()
    assert stand.parking.waiting == 1
    stand.keeper.becomes(1)
    assert await ended(task) == 200
    assert stand.parking.waiting == 0
    bodies = [sent for _, sent in stand.road.seen]
    assert len(bodies) == 2
    assert bodies[0] == bodies[1]
    if method == "POST":
        assert bodies[1] == b'{"lang": "en"}'


@pytest.mark.parametrize(
    ("method", "target", "body", "more"),
    [
        ("POST", "/a", b'{"mark": true}', {}),
        ("POST", "/a", b"not json", {}),
        ("POST", "/a", b'{"a": "' + b"x" * 70_000 + b'"}', {}),
        ("POST", "/a", ChunkedBody(b"x" * 70_000, b"y"), {}),
        ("POST", "/a", b"{}", {"policy": RoutePolicy(name="writes")}),
        ("POST", "/a", b"{}", {"policy": None}),
        ("PUT", "/a", b"{}", {}),
        ("DELETE", "/a", b"", {}),
        ("GET", "/a?mark=1", b"", {}),
        ("GET", "/a?_method=DELETE", b"", {}),
        ("GET", "/a", ChunkedBody(b"streams"), {}),
        ("GET", "/a", b"", {"background": True}),
    ],
)
async def test_what_may_change_something_or_cannot_be_sent_again_does_not_wait(
    method: str, target: str, body: bytes | Body, more: dict[str, object]
) -> None:
    stand = Stand()
    stand.keeper.becomes(login=True)
    assert await ended(stand.begin(method, target, body, **more)) == "token_unavailable"
    assert len(stand.road.seen) == 1


async def test_a_request_that_matched_no_route_is_safe_by_its_method() -> None:
    stand = Stand()
    stand.keeper.becomes(login=True)
    task = stand.begin(policy=None)
    await settle()
    stand.keeper.becomes(1)
    assert await ended(task) == 200


async def test_the_time_is_bounded_and_then_the_login_is_still_open() -> None:
    stand = Stand()
    stand.keeper.becomes(login=True)
    task = stand.begin()
    await stand.clock.advance(PATIENCE - 0.1)
    assert not task.done()
    await stand.clock.advance(0.2)
    assert await ended(task) == "token_unavailable"
    assert PATIENCE < 30  # what HTTP clients usually wait


async def test_a_login_that_is_denied_ends_the_wait_at_once() -> None:
    stand = Stand()
    stand.keeper.becomes(login=True)
    task = stand.begin()
    await stand.clock.advance(1)
    stand.keeper.becomes(login=False)
    assert await ended(task) == "authorization_required"


async def test_a_login_whose_time_is_up_is_noticed_within_a_second() -> None:
    stand = Stand()
    stand.keeper.becomes(login=True)
    task = stand.begin()
    await settle()
    stand.keeper.login_until = None  # by the clock alone: nobody tells
    await stand.clock.advance(1)
    assert await ended(task) == "authorization_required"


async def test_the_number_is_bounded() -> None:
    stand = Stand(most=2)
    stand.keeper.becomes(login=True)
    waiting = [stand.begin(), stand.begin()]
    await settle()
    assert await ended(stand.begin()) == "token_unavailable"
    stand.keeper.becomes(1)
    assert [await ended(task) for task in waiting] == [200, 200]
    stand.keeper.becomes(login=True)
    again = stand.begin()
    await settle()
    assert not again.done()
    stand.keeper.becomes(2)
    assert await ended(again) == 200


async def test_a_client_that_leaves_leaves_nothing_behind() -> None:
    stand = Stand()
    stand.keeper.becomes(login=True)
    task = stand.begin()
    await settle()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert stand.parking.waiting == 0
    assert len(stand.road.seen) == 1


async def test_a_bearer_that_the_origin_refused_is_not_waited_for_again() -> None:
    # revoked: the access token's time is not up, and the chain is dead
    stand = Stand()
    stand.keeper.becomes(3, login=True)
    stand.road.good_from = 4
    task = stand.begin()
    await stand.clock.advance(3)
    assert len(stand.road.seen) == 1
    stand.keeper.becomes(4)
    assert await ended(task) == 200
    assert len(stand.road.seen) == 2


async def test_a_newer_bearer_that_fails_too_is_waited_beyond() -> None:
    stand = Stand()
    stand.keeper.becomes(login=True)
    stand.road.good_from = 3
    task = stand.begin()
    await settle()
    stand.keeper.becomes(2, login=True)
    await settle()
    assert not task.done()
    assert len(stand.road.seen) == 2
    stand.keeper.becomes(3, login=True)
    assert await ended(task) == 200
    assert len(stand.road.seen) == 3


async def test_a_login_that_ended_well_in_this_very_moment_counts() -> None:
    stand = Stand()
    stand.keeper.becomes(login=True)
    refused = 0

    def too_late() -> Refusal:
        nonlocal refused
        refused += 1
        stand.keeper.becomes(1)
        stand.road.refuses = None
        return LOGGING_IN

    stand.road.refuses = too_late
    assert await ended(stand.begin()) == 200
    assert refused == 1


async def test_other_faults_pass() -> None:
    stand = Stand()
    stand.keeper.becomes(login=True)
    stand.road.refuses = lambda: OriginUnreachable("gone")
    assert await ended(stand.begin()) == "origin_unreachable"


async def test_at_the_end_of_the_daemon_all_are_told_how_it_stands() -> None:
    stand = Stand()
    stand.keeper.becomes(login=True)
    task = stand.begin()
    await settle()
    stand.parking.release()
    await stand.clock.advance(1)
    assert await ended(task) == "token_unavailable"
    assert await ended(stand.begin()) == "token_unavailable"


async def test_a_body_that_was_gathered_is_given_whole() -> None:
    stand = Stand()
    stand.keeper.becomes(1)
    assert await ended(stand.begin("POST", "/a", ChunkedBody(b"{", b"}"))) == 200
    ((seen, body),) = stand.road.seen
    assert isinstance(seen.body, BytesBody)
    assert body == b"{}"

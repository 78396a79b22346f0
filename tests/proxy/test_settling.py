"""After asking has failed: which stale answers serve, and what they say (contract §7, RFC 5861)."""

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.errors import (
    AuthorizationRequired,
    BodyTooLarge,
    ConnectionDropped,
    OriginInvalid,
    OriginTimeout,
    OriginUnreachable,
    Overloaded,
    TokenUnavailable,
)
from tests.caching_stand import ROUTE, Stand
from tests.fakes import BROKEN, ChunkedBody

FRESH = ("Cache-Control", "max-age=10")
ERRORS = [OriginUnreachable, OriginTimeout, OriginInvalid, Overloaded, ConnectionDropped]


async def stored(policy=ROUTE, mode=None, *fields):
    stand = Stand(policy=policy, mode=mode or CacheMode())
    stand.origin.script = [stand.says(*fields)]
    await stand.ask()
    return stand


@pytest.mark.parametrize(
    ("fault", "age", "detail"),
    [(kind, 659, "STALE_ERROR") for kind in ERRORS]
    + [(kind, 660, None) for kind in ERRORS]
    + [(kind, 1259, "STALE_UNAUTHORIZED") for kind in (AuthorizationRequired, TokenUnavailable)]
    + [(kind, 1260, None) for kind in (AuthorizationRequired, TokenUnavailable)]
    + [(BodyTooLarge, 61, None)],
)
async def test_refusals_within_and_beyond_the_window(fault, age, detail):
    stand = await stored()
    await stand.clock.advance(age)
    stand.origin.script = [fault("no")]
    if detail is None:
        with pytest.raises(fault):
            await stand.ask()
        return
    answer = await stand.ask()
    assert answer.cache == f"passoproxy; fwd=stale; ttl={60 - age}; detail={detail}"
    assert (answer.trail.cache, answer.headers["age"], answer.body) == ("stale", str(age), b"hello")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_failing_answers_within_and_beyond_the_window(status):
    stand = await stored()
    await stand.clock.advance(61)
    stand.origin.script = [stand.says(("Retry-After", "5"), status=status, body=b"no")] * 2
    answer = await stand.ask()
    assert answer.cache == f"passoproxy; fwd=stale; fwd-status={status}; ttl=-1; detail=STALE_ERROR"
    assert answer.status == 200
    await stand.clock.advance(600)
    answer = await stand.ask()
    assert (answer.status, answer.body, answer.headers["retry-after"]) == (status, b"no", "5")
    assert (answer.cache, answer.trail.cache) == (f"passoproxy; fwd=stale; fwd-status={status}", "miss")


@pytest.mark.parametrize("status", [400, 404, 410, 501])
async def test_other_answers_are_answers(status):
    stand = await stored()
    await stand.clock.advance(61)
    stand.origin.script = [stand.says(status=status)]
    assert (await stand.ask()).status == status


async def test_a_failure_that_says_how_long_it_holds_is_stored_where_nothing_better_is():
    stand = Stand(policy=RoutePolicy(stale_if_error=600.0))
    stand.origin.script = [stand.says(FRESH, status=503, body=b"no"), stand.says(FRESH, status=503, body=b"still")]
    assert "stored" in (await stand.ask()).cache
    answer = await stand.ask()
    assert (answer.status, answer.trail.cache) == (503, "hit")
    await stand.clock.advance(11)
    assert (await stand.ask()).body == b"still"


async def test_a_failure_does_not_take_the_place_of_something_better():
    stand = await stored(RoutePolicy(stale_if_error=600.0), CacheMode(http=True), FRESH)
    await stand.clock.advance(11)
    stand.origin.script = [stand.says(FRESH, status=503, body=b"no")] * 2
    assert [(await stand.ask()).body for _ in range(2)] == [b"hello", b"hello"]


async def test_a_failing_head_has_no_body():
    stand = Stand(policy=ROUTE)
    stand.origin.script = [stand.says(status=503, body=b"no")]
    answer = await stand.ask(method="HEAD")
    assert (answer.status, answer.body) == (503, b"")


async def test_a_long_failure_streams_to_the_one_who_asked():
    stand = Stand(policy=ROUTE)
    body = ChunkedBody(*[b"x" * 10_000] * 10)
    stand.origin.script = [stand.says(status=500, body=body)]
    assert len((await stand.ask()).body) == 100_000
    assert body.closed


async def test_a_failure_that_breaks_off_is_a_failure_too():
    stand = await stored()
    await stand.clock.advance(61)

    body = ChunkedBody(b"x", BROKEN)
    stand.origin.script = [stand.says(status=500, body=body)]
    assert (await stand.ask()).trail.cache == "stale"
    assert body.closed


@pytest.mark.parametrize("directive", ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=10"])
async def test_prohibited_staleness_stays_prohibited_without_override(directive):
    policy = RoutePolicy(stale_if_error=600.0, stale_if_unauthorized=600.0, stale_while_revalidate=600.0)
    stand = await stored(policy, CacheMode(http=True), ("Cache-Control", f"max-age=10, {directive}"), ("ETag", '"a"'))
    await stand.clock.advance(11)
    for fault in (OriginUnreachable, AuthorizationRequired):
        stand.origin.script = [fault("no")]
        with pytest.raises(fault):
            await stand.ask()


async def test_the_origins_own_stale_if_error():
    stand = await stored(RoutePolicy(), CacheMode(http=True), ("Cache-Control", "max-age=10, stale-if-error=60"))
    await stand.clock.advance(30)
    stand.origin.script = [OriginUnreachable("no")]
    assert (await stand.ask()).trail.cache == "stale"


async def test_a_fresh_answer_serves_where_a_fresher_one_cannot_be_had():
    stand = await stored()
    stand.origin.script = [OriginUnreachable("no")]
    answer = await stand.ask(fields=[("Cache-Control", "no-cache")])
    assert (answer.cache, answer.trail.cache) == ("passoproxy; fwd=request; ttl=60", "miss")


async def test_a_pause_of_the_origin_serves_stale_without_asking():
    stand = await stored()
    await stand.clock.advance(61)
    stand.spared = "the origin is away"
    answer = await stand.ask()
    assert (answer.cache, answer.trail.cache) == ("passoproxy; hit; ttl=-1; detail=STALE_ERROR", "stale")
    assert len(stand.origin.seen) == 1


async def test_a_fallback_whose_body_is_lost_is_the_refusal():
    stand = await stored()
    await stand.clock.advance(61)
    stand.door.opened.clear()
    asking = stand.begin()
    await stand.quiet()

    await stand.store.purge(Selector())
    stand.origin.script = [OriginUnreachable("no")]
    stand.door.opened.set()
    with pytest.raises(OriginUnreachable):
        await asking

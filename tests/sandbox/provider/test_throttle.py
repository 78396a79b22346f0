"""The limit of the token endpoint."""

from passoproxy.sandbox.provider.token_endpoint import Throttle
from tests.sandbox.conftest import Started


def test_a_window_of_a_minute() -> None:
    now = [1000.0]
    throttle = Throttle(2, lambda: now[0])
    assert throttle.admit() == (True, {"X-RateLimit-Limit": "2", "X-RateLimit-Remaining": "1"})
    assert throttle.admit()[0]
    now[0] += 10.5
    admitted, told = throttle.admit()
    assert not admitted
    assert told == {
        "X-RateLimit-Limit": "2",
        "X-RateLimit-Remaining": "0",
        "Retry-After": "50",
        "X-RateLimit-Reset": "1060",
    }
    now[0] = 1060.0
    assert throttle.admit()[0]


def test_a_clock_set_back_begins_a_new_window() -> None:
    now = [1000.0]
    throttle = Throttle(1, lambda: now[0])
    throttle.admit()
    now[0] = 10.0
    assert throttle.admit()[0]


def test_no_limit() -> None:
    throttle = Throttle(0, lambda: 0.0)
    assert [throttle.admit() for _ in range(5)] == [(True, {})] * 5


async def test_over_http(started: Started) -> None:
    stand = await started(token_requests_per_minute=1)
    first = await stand.grant(grant_type="client_credentials")
    assert first.headers["X-RateLimit-Remaining"] == "0"
    second = await stand.grant(grant_type="client_credentials")
    assert (second.status, second.headers["Retry-After"]) == (429, "60")
    assert stand.last().outcome == "throttled"
    await stand.clock.advance(60)
    assert (await stand.grant(grant_type="client_credentials")).status == 200

"""The last hour by minute and by route, read from the counters of `/metrics`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from passoproxy.core.events import RequestAnswered
from passoproxy.telemetry.last_hour import LastHour, quantile
from passoproxy.telemetry.metrics import BOUNDS, MetricsObserver
from tests.fakes import FakeClock


class Stand:
    """A minute that begins now, and what is counted in it."""

    def __init__(self) -> None:
        self.clock, self.metrics = FakeClock(wall=1_700_000_040.0), MetricsObserver()
        self.hour = LastHour(self.metrics, self.clock.wall)

    def ask(self, cache: str, number: int = 1, took: float = 0.003, route: str = "r") -> None:
        for _ in range(number):
            self.metrics(RequestAnswered("c", "GET", "/", 200, route, cache, "", took, 1))

    def shown(self) -> Any:
        return self.hour.shown()


def test_nothing_was_asked_yet() -> None:
    shown = Stand().shown()
    assert (shown["requests"], shown["hit_ratio"], shown["p99_seconds"], shown["routes"]) == (0, None, None, [])
    assert {name: len(values) for name, values in shown["minutes"].items()} == dict.fromkeys(
        ("requests", "hit_ratio", "p50_seconds", "p99_seconds"), 60
    )


def test_minutes_and_routes_add_up() -> None:
    stand = Stand()
    stand.ask("hit", 3)
    stand.ask("pass", took=2.0, route="")
    stand.hour.look()
    stand.clock.step(60)
    stand.ask("miss")
    stand.ask("stale", 2)
    shown = stand.shown()
    assert (shown["requests"], shown["hit_ratio"]) == (7, 5 / 6)
    assert shown["minutes"]["requests"][-3:] == [0, 4, 3]
    assert shown["minutes"]["hit_ratio"][-3:] == [None, 1.0, 2 / 3]
    assert [(each["route"], each["requests"], each["hit_ratio"]) for each in shown["routes"]] == [
        ("", 1, None),
        ("r", 6, 5 / 6),
    ]
    assert 1.0 < shown["routes"][0]["p50_seconds"] <= 2.5
    assert stand.shown() == shown, "a look alone changes nothing"


def test_what_is_older_than_an_hour_is_forgotten_and_a_clock_may_step_back() -> None:
    stand = Stand()
    stand.ask("hit")
    stand.hour.look()
    stand.clock.step(3_540)
    assert stand.shown()["requests"] == 1
    stand.clock.step(60)
    assert stand.shown()["requests"] == 0
    stand.ask("hit", 2)
    stand.ask("miss", route="other")
    stand.hour.look()
    stand.clock.step(3_540)
    stand.ask("miss", route="other")
    stand.hour.look()
    stand.clock.step(60)
    assert [(each["route"], each["requests"]) for each in stand.shown()["routes"]] == [("other", 1)]
    stand.clock.step(-3_600)
    stand.ask("hit")
    assert stand.shown()["requests"] == 1


def test_what_waits_to_be_counted_is_counted() -> None:
    stand = Stand()
    stand.metrics.before_reading = lambda: stand.ask("hit")
    assert stand.shown()["requests"] == 1


@pytest.mark.parametrize(
    ("buckets", "share", "seconds"),
    [
        ({}, 0.5, None),
        ({0: 2}, 0.5, 0.00025),
        ({0: 1, 3: 1}, 0.5, 0.0005),
        ({0: 98, 3: 2}, 0.99, 0.0025 + 0.0025 / 2),
        ({len(BOUNDS): 1}, 0.99, 30.0),
    ],
)
def test_quantiles_of_buckets(buckets: dict[int, int], share: float, seconds: float | None) -> None:
    assert quantile(Counter(buckets), share) == pytest.approx(seconds)

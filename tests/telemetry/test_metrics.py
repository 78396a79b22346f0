"""The metrics of contract §8, counted from events and read at the scrape."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from passoproxy.core.events import (
    EntriesEvicted,
    EntriesPurged,
    Event,
    OriginAnswered,
    OriginFailed,
    RefreshFailed,
    Repeated,
    RequestAnswered,
    RequestRejected,
    TokenRefreshed,
)
from passoproxy.telemetry.exposition import Reading, exposition
from passoproxy.telemetry.metrics import BOUNDS, MetricsObserver

NAMES = [
    "requests_total",
    "request_duration_seconds",
    "origin_requests_total",
    "origin_duration_seconds",
    "token_state",
    "token_expires_timestamp_seconds",
    "token_runway_seconds",
    "token_refreshes_total",
    "cache_entries",
    "cache_bytes",
    "cache_evictions_total",
    "cache_purged_total",
    "in_flight",
    "rejected_total",
    "build_info",
]


def answered(
    method: str = "GET", status: int = 200, route: str = "r", cache: str = "hit", duration: float = 0.0004
) -> RequestAnswered:
    return RequestAnswered("c", method, "/p", status, route, cache, "", duration, 10)


def scrape(observer: MetricsObserver, reading: Reading | None = None, accept: str = "") -> tuple[str, str]:
    text, content_type = exposition(observer, reading or Reading(), "1.2.3", accept)
    return text.decode(), content_type


def samples(
    observer: MetricsObserver, reading: Reading | None = None
) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text, _ = scrape(observer, reading)
    return {
        (sample.name.removeprefix("passoproxy_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


def test_every_name_is_there_before_anything_happened() -> None:
    text, content_type = scrape(MetricsObserver())
    assert [name for name in NAMES if f"passoproxy_{name}" not in text] == []
    assert content_type.startswith("text/plain; version=0.0.4")


def test_openmetrics_where_the_scraper_asks_for_it() -> None:
    text, content_type = scrape(MetricsObserver(), accept="application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


def test_requests_are_counted_by_their_labels() -> None:
    observer = MetricsObserver(["GET", "POST"])
    for event in (answered(), answered(), answered("BREW"), answered("PUT"), answered(cache="odd", status=500)):
        observer(event)
    found = samples(observer)
    assert found[of("requests_total", route="r", method="GET", status="200", cache="hit")] == 2
    assert found[of("requests_total", route="r", method="other", status="200", cache="hit")] == 2
    assert found[of("requests_total", route="r", method="GET", status="500", cache="error")] == 1


def test_durations_fall_into_cumulative_buckets() -> None:
    observer = MetricsObserver()
    for duration in (0.0005, 0.0006, 99.0):
        observer(answered(duration=duration))
    found = samples(observer)
    assert found[of("request_duration_seconds_bucket", route="r", cache="hit", le="0.0005")] == 1
    assert found[of("request_duration_seconds_bucket", route="r", cache="hit", le="30")] == 2
    assert found[of("request_duration_seconds_bucket", route="r", cache="hit", le="+Inf")] == 3
    assert found[of("request_duration_seconds_count", route="r", cache="hit")] == 3
    assert math.isclose(found[of("request_duration_seconds_sum", route="r", cache="hit")], 99.0011)


def test_other_events_are_counted() -> None:
    observer = MetricsObserver()
    events: list[Event] = [
        OriginAnswered("GET", "/p", 200, 0.2),
        OriginFailed("GET", "/p", "origin_timeout", "slow"),
        RequestRejected("host_not_allowed", "no"),
        TokenRefreshed(2, "refresh_token", 1.0, 2.0),
        TokenRefreshed(3, "login", 1.0, 2.0),
        RefreshFailed("lost", "reset", 1, None),
        EntriesEvicted(4),
        EntriesPurged(5, "command"),
    ]
    for event in events:
        observer(event)
    found = samples(observer)
    assert found[of("origin_requests_total", status="200")] == 1
    assert found[of("origin_requests_total", status="origin_timeout")] == 1
    assert found[of("origin_duration_seconds_count")] == 1
    assert found[of("rejected_total", code="host_not_allowed")] == 1
    assert found[of("token_refreshes_total", outcome="success")] == 1
    assert found[of("token_refreshes_total", outcome="lost")] == 1
    assert found[of("token_refreshes_total", outcome="unsent")] == 0
    assert found[of("cache_evictions_total")] == 4
    assert found[of("cache_purged_total")] == 5


def test_gauges_are_read_at_the_scrape() -> None:
    reading = Reading("valid", "retrying", 1_700_003_600.0, 3_600.0, 7, (("memory", 10), ("disk", 100)), 3, 2, (5, 9))
    found = samples(MetricsObserver(), reading)
    states = {dict(labels)["state"]: value for (name, labels), value in found.items() if name == "token_state"}
    assert states == {
        "none": 0,
        "valid": 1,
        "expired": 0,
        "no_chain": 0,
        "healthy": 0,
        "retrying": 1,
        "unknown": 0,
        "dead": 0,
    }
    assert found[of("token_expires_timestamp_seconds")] == 1_700_003_600
    assert found[of("token_runway_seconds")] == 3600
    assert found[of("cache_entries")] == 7
    assert found[of("cache_bytes", tier="memory")] == 10
    assert found[of("cache_bytes", tier="disk")] == 100
    assert found[of("in_flight")] == 3
    assert found[of("alert_level")] == 2
    assert (found[of("daily_budget_used")], found[of("daily_budget_limit")]) == (5, 9)
    assert [dict(labels)["version"] for name, labels in found if name == "build_info"] == ["1.2.3"]


def test_an_unknown_runway_has_no_sample() -> None:
    found = samples(MetricsObserver(), Reading())
    assert of("token_runway_seconds") not in found
    assert of("token_expires_timestamp_seconds") not in found
    assert of("daily_budget_used") not in found
    assert found[of("token_state", state="no_chain")] == 1


def test_no_secret_of_any_event_is_exposed(every_event: list[Event], secrets: tuple[str, ...]) -> None:
    # Labels are words of ours and names of routes; texts of events never become labels. Codes, routes and outcomes are our own
    # words as well, so the planted ones are taken out of these before.
    observer = MetricsObserver()
    for event in every_event:
        for name in ("code", "route", "outcome", "grant"):
            if hasattr(event, name):
                object.__setattr__(event, name, "word")
        observer(event)
    text, _ = scrape(observer)
    assert not [secret for secret in secrets if secret in text]


def test_a_tier_told_twice_stands_once() -> None:
    text, _ = scrape(MetricsObserver(), Reading(cache_bytes=(("disk", 1), ("disk", 2))))
    assert text.count('cache_bytes{tier="disk"}') == 1


def test_a_batch_of_hits_is_counted_as_the_same_requests_one_by_one() -> None:
    event = RequestAnswered("", "GET", "/", 200, "r", "hit", "", 0.0, 1)
    durations = [0.0, *BOUNDS, 40.0, 0.0001, 0.0001, 0.02]
    together, alone = MetricsObserver(), MetricsObserver()
    together.answered([(Repeated(event), 0.0, "c", 1, took, b"") for took in durations])
    for took in durations:
        alone(replace(event, duration=took))
    assert together.counts == pytest.approx(alone.counts)

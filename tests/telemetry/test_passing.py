"""What one process counted and remembered is added to what another one did, once and without loss."""

from __future__ import annotations

import json
from typing import Any

import pytest

from passoproxy.core.events import (
    EntriesEvicted,
    EntriesPurged,
    OriginAnswered,
    OriginFailed,
    RefreshFailed,
    RequestAnswered,
    RequestRejected,
    StoreFailed,
    TaskFailed,
    Warned,
)
from passoproxy.core.redaction import Redactor
from passoproxy.telemetry.exposition import Reading, exposition
from passoproxy.telemetry.metrics import MetricsObserver
from passoproxy.telemetry.recent import Recent, event_of, plain


def answered(cache: str = "hit", outcome: str = "complete") -> RequestAnswered:
    return RequestAnswered("127.0.0.1", "GET", "/x?q=1", 200, "route", cache, "", 0.004, 10, outcome)


EVENTS = [
    answered(),
    answered("miss", "broken"),
    OriginAnswered("GET", "/x", 200, 0.2),
    OriginFailed("GET", "/x", "origin_timeout", "late"),
    RequestRejected("overloaded", "full"),
    RefreshFailed("lost", "gone", 1, None),
    EntriesEvicted(3),
    EntriesPurged(2, "command"),
    StoreFailed("no space"),
    TaskFailed("somewhere", "KeyError"),
    Warned("worker", "look at it"),
]


def through(document: Any) -> Any:
    return json.loads(json.dumps(document))


def test_counts_are_those_of_all_together() -> None:
    alone, parent, workers = MetricsObserver(), MetricsObserver(), [MetricsObserver() for _ in range(2)]
    for number, event in enumerate(EVENTS * 4):
        alone(event)
        (parent, *workers)[number % 3](event)
        if number % 5 == 0:
            for worker in workers:
                parent.add(through(worker.taken()))
    for worker in workers:
        parent.add(through(worker.taken()))
        assert not worker.taken()

    texts = [exposition(each, Reading(), "1")[0] for each in (alone, parent)]
    assert sorted(texts[0].splitlines()) == sorted(texts[1].splitlines())


def test_what_is_remembered_is_that_of_all() -> None:
    now = [1_700_000_000.0]
    parent, worker = (Recent(Redactor((), "full"), keep=5, wall=lambda: now[0]) for _ in range(2))
    for event in EVENTS:
        worker(event)
    parent.add(through(worker.taken()))
    parent.add(through(worker.taken()))  # nothing is told twice
    now[0] += 1
    shown: Any = parent.summary()
    traffic = shown["requests"]
    assert (traffic["total"], traffic["broken"], traffic["refused"]) == (2, 1, 1)
    assert (traffic["by_cache"]["hit"], traffic["by_cache"]["miss"]) == (1, 1)
    assert len(traffic["recent"]) == 2
    assert traffic["per_second"] == 0.2
    assert [each["level"] for each in shown["recent_errors"]].count("error") >= 1
    assert shown["warnings"] == [{"code": "worker", "detail": "look at it", "at": 1_700_000_000.0}]
    assert worker.summary()["requests"]["total"] == 0  # type: ignore[index]


def test_seconds_that_lie_behind_do_not_begin_the_count_anew() -> None:
    now = [1_700_000_000.0]
    parent = Recent(Redactor((), "full"), wall=lambda: now[0])
    behind = Recent(Redactor((), "full"), wall=lambda: now[0] - 2)
    long_ago = Recent(Redactor((), "full"), wall=lambda: now[0] - 200)
    parent(answered())
    for other in (behind, long_ago):
        other(answered())
        parent.add(through(other.taken()))
    now[0] += 1
    assert parent.summary()["requests"]["per_second"] == 0.2  # type: ignore[index]


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_comes_through(event: Any) -> None:
    assert event_of(*through(plain(event))) == event


def test_an_event_that_is_none() -> None:
    with pytest.raises(KeyError):
        event_of("Nothing", {})

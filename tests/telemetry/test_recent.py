"""What happened lately."""

from __future__ import annotations

import json
from typing import Any

import pytest

from passoproxy.core.events import (
    Event,
    Lifecycle,
    OriginAnswered,
    OriginFailed,
    RefreshFailed,
    RequestAnswered,
    RequestRejected,
    StoreFailed,
    TaskFailed,
    TokenRefreshed,
    Warned,
)
from passoproxy.core.redaction import Redactor
from passoproxy.telemetry.recent import Recent
from tests.fakes import FakeClock


def answered(target: str = "/p", cache: str = "hit", outcome: str = "complete") -> RequestAnswered:
    return RequestAnswered("c", "GET", target, 200, "r", cache, "", 0.25, 10, outcome)


def recent(clock: FakeClock, keep: int = 3) -> Recent:
    return Recent(Redactor(), keep=keep, wall=clock.wall)


def part(recent: Recent, name: str) -> Any:
    return recent.summary()[name]


def test_nothing_happened_yet() -> None:
    summary = recent(FakeClock()).summary()
    assert summary["recent_errors"] == []
    assert summary["warnings"] == []
    assert summary["requests"] == {
        "total": 0,
        "by_cache": {"hit": 0, "stale": 0, "miss": 0, "pass": 0, "error": 0},
        "hit_ratio": None,
        "per_second": 0.0,
        "broken": 0,
        "refused": 0,
        "recent": [],
    }
    assert recent(FakeClock()).origin()["state"] == "silent"


def test_the_last_requests_are_kept_newest_first_with_masked_queries() -> None:
    clock = FakeClock()
    seen = recent(clock)
    for number in range(5):
        seen(answered(f"/{number}?lang=de"))
    traffic = part(seen, "requests")
    assert [request["target"] for request in traffic["recent"]] == ["/4?lang=***", "/3?lang=***", "/2?lang=***"]
    assert traffic["recent"][0] == {
        "at": clock.wall(),
        "request_id": "",
        "client": "c",
        "method": "GET",
        "target": "/4?lang=***",
        "status": 200,
        "route": "r",
        "cache": "hit",
        "duration_seconds": 0.25,
        "outcome": "complete",
        "code": "",
    }
    assert traffic["total"] == 5


def test_the_hit_ratio_counts_what_could_have_been_a_hit() -> None:
    seen = recent(FakeClock())
    for cache in ("hit", "hit", "stale", "miss", "pass", "error"):
        seen(answered(cache=cache))
    seen(answered(outcome="broken", cache="miss"))
    traffic = part(seen, "requests")
    assert traffic["hit_ratio"] == 3 / 5
    assert traffic["broken"] == 1


def test_rates_are_of_seconds_that_are_over() -> None:
    clock = FakeClock(wall=1_700_000_000.5)
    seen = recent(clock)
    for _ in range(20):
        seen(answered())
    assert part(seen, "requests")["per_second"] == 0
    clock.step(1)
    assert part(seen, "requests")["per_second"] == 2
    clock.step(30)
    seen(answered())
    clock.step(1)
    assert part(seen, "requests")["per_second"] == 0.1
    clock.step(10)
    assert part(seen, "requests")["per_second"] == 0


def test_a_clock_that_steps_back_begins_anew() -> None:
    clock = FakeClock()
    seen = recent(clock)
    seen(answered())
    clock.step(-3600)
    seen(answered())
    clock.step(1)
    assert part(seen, "requests")["per_second"] == 0.1


def well(status: int = 200) -> OriginAnswered:
    return OriginAnswered("GET", "/p", status, 0.2)


FAULT = OriginFailed("GET", "/p", "origin_timeout", "no answer within 30 s")


@pytest.mark.parametrize(
    ("told", "state"),
    [
        ([], "silent"),
        ([well()], "answering"),
        ([well(503)] * 9, "answering"),
        ([well(503)] * 10, "failing"),
        ([*[well(503)] * 48, well(404)], "failing"),
        ([*[well(503)] * 5, *[well()] * 5], "failing"),
        ([*[well(503)] * 5, *[well()] * 6], "answering"),
        ([*[FAULT] * 4, well(500), *[well()] * 5], "failing"),
        ([*[FAULT] * 4, *[well()] * 5], "answering"),
        ([well(404)] * 20, "answering"),
        ([FAULT], "failing"),  # nothing else was ever heard
    ],
)
def test_the_origin_is_what_the_last_minutes_say(told: list[OriginAnswered | OriginFailed], state: str) -> None:
    clock = FakeClock()
    seen, worker = recent(clock), recent(clock)
    for event in told:
        clock.step(1)
        seen(event)
        worker(event)
    assert seen.origin()["state"] == state
    parent = recent(clock)
    parent.add(worker.taken())
    parent.add(worker.taken())
    assert parent.origin()["state"] == state
    clock.step(310)
    assert seen.origin()["state"] == "silent", "nobody has asked for five minutes"


def test_what_was_heard_of_the_origin_last_is_shown() -> None:
    clock = FakeClock()
    seen = recent(clock)
    seen(FAULT)
    seen(well(503))
    assert (seen.origin()["failures_in_a_row"], seen.origin()["last_failure"]) == (2, "answered 503")
    seen(well(404))
    origin = seen.origin()
    assert (origin["failures"], origin["answers"], origin["last_status"]) == (2, 2, 404)
    assert (origin["last_answer_at"], origin["last_duration_seconds"]) == (clock.wall(), 0.2)


@pytest.mark.parametrize("step", [-3600, 3600])
def test_a_clock_that_steps_makes_no_origin_fail_for_ever(step: float) -> None:
    clock = FakeClock()
    seen = recent(clock)
    for _ in range(20):
        seen(well(503))
    clock.step(step)
    seen(well())
    assert seen.origin()["state"] == "answering"


def test_a_warning_is_known_while_it_stands() -> None:
    seen = recent(FakeClock())
    assert seen.warned("store_away") == ""
    seen(Warned("store_away", "the store is away"))
    assert seen.warned("store_away") == "the store is away"
    seen(Warned("store_away", "it is back", over=True))
    assert seen.warned("store_away") == ""


def test_errors_are_kept_and_quiet_events_are_not() -> None:
    clock = FakeClock()
    seen = recent(clock)
    seen(Lifecycle("ready"))
    seen(RequestRejected("path_not_allowed", "no"))
    seen(StoreFailed("disk full"))
    seen(OriginFailed("GET", "/p?a=b", "origin_timeout", "slow"))
    assert part(seen, "recent_errors") == [
        {
            "at": clock.wall(),
            "first_at": clock.wall(),
            "count": 1,
            "listener": "",
            "level": "warning",
            "what": "no answer from the origin to GET: slow",
            "target": "/p?a=***",
        },
        {
            "at": clock.wall(),
            "first_at": clock.wall(),
            "count": 1,
            "listener": "",
            "level": "warning",
            "what": "the cache cannot be used, requests pass it by: disk full",
            "target": "",
        },
    ]
    assert part(seen, "requests")["refused"] == 1


def test_a_warning_stands_once_with_its_latest_words() -> None:
    clock = FakeClock()
    seen = recent(clock)
    seen(Warned("state_volatile", "old"))
    clock.step(5)
    seen(Warned("state_volatile", "new"))
    assert part(seen, "warnings") == [{"code": "state_volatile", "detail": "new", "at": clock.wall()}]
    for number in range(200):
        seen(Warned(str(number), "many"))
    assert len(part(seen, "warnings")) == 100


def test_a_warning_that_is_over_is_shown_no_longer_wherever_it_ended() -> None:
    clock = FakeClock()
    parent, worker = recent(clock), recent(clock)
    parent(Warned("store_away", "away"))
    parent(Warned("key_unused", "stands"))
    clock.step(1)
    worker(Warned("store_away", "back", over=True))
    late = worker.taken()
    clock.step(1)
    parent.add(late)
    assert [each["code"] for each in part(parent, "warnings")] == ["key_unused"]
    parent(Warned("store_away", "away again"))
    parent.add(late)  # what was told later holds
    assert [each["detail"] for each in part(parent, "warnings")] == ["away again", "stands"]


def test_no_secret_of_any_event_is_shown(every_event: list[Event], secrets: tuple[str, ...]) -> None:
    seen = Recent(Redactor([secrets[2]]), keep=1000)
    for event in every_event:
        seen(event)
    shown = json.dumps(seen.summary())
    assert len(shown) > 1000
    assert not [secret for secret in secrets if secret in shown]


def test_warnings_about_two_things_stand_side_by_side_and_end_alone() -> None:
    seen = recent(FakeClock())
    seen(Warned("key_unused", "one does nothing", about="one"))
    seen(Warned("key_unused", "two does nothing", about="two"))
    assert [each["detail"] for each in part(seen, "warnings")] == ["one does nothing", "two does nothing"]
    seen(Warned("key_unused", "one is gone", over=True, about="one"))
    assert [each["detail"] for each in part(seen, "warnings")] == ["two does nothing"]


# ---- for the status page ---------------------------------------------------------------------------------------------


def test_errors_of_one_sentence_are_one_row_with_their_number() -> None:
    clock = FakeClock()
    seen, worker = recent(clock), recent(clock)
    began = clock.wall()
    for number in range(3):
        seen(OriginFailed("GET", f"/{number}", "origin_timeout", "slow"))
        clock.step(1)
    seen(StoreFailed("disk full"))
    clock.step(1)
    worker(OriginFailed("GET", "/worker", "origin_timeout", "slow"))
    seen.add(worker.taken())
    first, second = part(seen, "recent_errors")
    assert (first["first_at"], first["at"], first["count"], first["target"]) == (began, began + 4, 4, "/worker")
    assert (second["count"], second["what"]) == (1, "the cache cannot be used, requests pass it by: disk full")
    for number in range(100):
        seen(StoreFailed(str(number)))
    assert len(part(seen, "recent_errors")) == 25


def test_what_the_admin_listener_refused_is_no_clients_error() -> None:
    seen = recent(FakeClock())
    seen(RequestRejected("cross_site", "no", "c", listener="admin"))
    seen(TaskFailed("the admin listener", "KeyError", listener="admin"))
    seen(RequestRejected("host_not_allowed", "no", "c"))
    assert part(seen, "requests")["refused"] == 1
    assert [each["listener"] for each in part(seen, "recent_errors")] == ["", "admin", "admin"]


def test_refreshes_are_remembered_the_newest_first() -> None:
    clock = FakeClock()
    seen = recent(clock)
    seen(RefreshFailed("answered", "503 to client_secret=abcdefgh", 1, None, 10.0))
    clock.step(60)
    seen(TokenRefreshed(2, "refresh", None, None, 0.2))
    newest, oldest = part(seen, "refreshes")
    assert newest == {"at": clock.wall(), "duration_seconds": 0.2, "renewed": True, "outcome": "refresh", "detail": ""}
    assert (oldest["renewed"], oldest["outcome"], oldest["detail"]) == (False, "answered", "503 to client_secret=***")


def test_a_request_is_found_by_its_id() -> None:
    seen, parent = recent(FakeClock()), recent(FakeClock())
    event = answered("/p?a=secret")
    seen.answered([(event, 1.0, "", 0, 0.1, b"")] * 4, "".join(character * 32 for character in "abcd"))
    assert [each["request_id"][0] for each in part(seen, "requests")["recent"]] == ["d", "c", "b"]
    assert seen.asked("c" * 32) == ("GET", "/p?a=secret")
    assert seen.asked("a" * 32) is None, "only so many are kept"
    parent.add(seen.taken())
    assert parent.asked("c" * 32) == ("GET", "/p?a=secret")


def test_long_texts_are_cut_before_they_are_masked() -> None:
    """What is shown keeps the loop for milliseconds only, whatever clients sent."""
    looked: list[int] = []

    class Counting(Redactor):
        def text(self, text: str, most: int = 8192) -> str:
            looked.append(min(len(text), most))
            return super().text(text, most)

    seen = Recent(Counting(), keep=50)
    for number in range(60):
        seen(answered("/" + "a=b&" * 8_000))
        seen(OriginFailed("GET", "/" + "a=b&" * 8_000, "origin_timeout", f"{number} " + "slow " * 2_000))
    request, error = seen.summary()["requests"], part(seen, "recent_errors")[0]  # type: ignore[index]
    assert len(request["recent"][0]["target"]) < 400  # type: ignore[index]
    assert len(error["what"]) < 400
    assert sum(looked) < 50_000

"""Access lines: gathered, written by a thread, never lost, never in the way."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.events import TTL, Answered, Repeated, RequestAnswered, event_of
from passoproxy.core.redaction import Redactor
from passoproxy.telemetry import logs
from passoproxy.telemetry.logs import AccessLines, as_json, as_text, escaped, timestamp

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
EVENT = RequestAnswered(
    "127.0.0.1", "GET", "/p?lang=de", 200, "requirements", "hit", "passoproxy; hit; ttl=3", 0.00042, 512,
    request_id=TRACE,
)  # fmt: skip
BROKEN = RequestAnswered(
    "c", "BREW" * 20, "/p", 502, "", "error", "", 1.5, 0, "broken", "origin_invalid", 1.25, 0.125, TRACE
)  # fmt: skip


def add(lines: AccessLines, event: RequestAnswered, at: float = 1_700_000_000.0) -> None:
    lines.answered([(event, at, event.client, 0, event.duration, b"")], logs.request_ids(1))


def test_lines_wait_until_they_are_flushed() -> None:
    written: list[str] = []
    lines = AccessLines(written.append, Redactor())
    add(lines, EVENT)
    add(lines, EVENT)
    assert written == []
    lines.flush()
    lines.flush()
    assert len(written) == 1
    first, second, end = written[0].split("\n")
    assert (first, end) == (second, "")
    assert json.loads(first) == {
        "time": "2023-11-14T22:13:20.000Z",
        "level": "info",
        "event": "request",
        "request_id": TRACE,
        "client": "127.0.0.1",
        "method": "GET",
        "target": "/p?lang=***",
        "status": 200,
        "route": "requirements",
        "cache": "hit",
        "reason": "",
        "cache_status": "passoproxy; hit; ttl=3",
        "duration_ms": 0.42,
        "origin_ms": 0.0,
        "queue_ms": 0.0,
        "sent_bytes": 512,
        "outcome": "complete",
        "code": "",
    }


HIT = Repeated(
    replace(
        EVENT, client="", cache_status=f"other; hit; ttl=9, passoproxy; hit; ttl={TTL}; detail=OVERRIDE", request_id=""
    )
)


@pytest.mark.parametrize("named", ["", "ann"])
def test_a_hit_that_was_answered_from_its_bytes_has_the_line_of_any_other(named: str) -> None:
    written: list[str] = []
    lines = AccessLines(written.append, Redactor())
    repeated = Repeated(replace(HIT.event, client=named))
    for ttl in (7, -3):
        hit = (
            repeated,
            1_700_000_000.25,
            "127.0.0.1",
            ttl,
            0.000_123_4,
            f"\r\nTraceparent: 00-{TRACE}-00f067aa0ba902b7-01".encode(),
        )
        lines.answered([hit], logs.request_ids(1))
        add(lines, event_of(hit), 1_700_000_000.25)
        assert f"ttl={ttl}; detail=OVERRIDE" in lines._waiting[-1]
    lines.flush()
    one, same, other, same_as_other, _ = written[0].split("\n")
    assert (one, other) == (same, same_as_other)
    assert json.loads(one)["client"] == (named or "127.0.0.1")


def test_hits_without_a_traceparent_have_an_id_each() -> None:
    written: list[str] = []
    lines = AccessLines(written.append, Redactor())
    lines.answered([(HIT, 0.0, "c", 1, 0.0, b"")] * 3, logs.request_ids(3))
    lines.flush()
    found = [json.loads(line)["request_id"] for line in written[0].splitlines()]
    assert len(set(found)) == 3
    assert all(re.fullmatch("[0-9a-f]{32}", each) for each in found)


def test_what_is_masked_changes_for_hits_too() -> None:
    written: list[str] = []
    lines = AccessLines(written.append, Redactor())
    secret = Repeated(replace(HIT.event, target="/swordfish"))
    lines.answered([(secret, 0.0, "c", 1, 0.0, b"")], logs.request_ids(1))
    lines.set_redactor(Redactor(["swordfish"]))
    lines.answered([(secret, 0.0, "c", 1, 0.0, b"")], logs.request_ids(1))
    lines.flush()
    first, second = written[0].splitlines()
    assert "swordfish" in first
    assert "swordfish" not in second


@given(
    st.builds(
        RequestAnswered, *(st.text(), st.text(max_size=40), st.text(), st.integers(100, 999), st.text(), st.text(), st.text()), st.floats(0, 1e6),
        st.integers(0), st.text(), st.text(), st.floats(0, 1e6), st.floats(0, 1e6), st.just(TRACE),
    ),
    st.floats(0, 4e9),
)  # fmt: skip
def test_a_json_line_is_what_the_json_module_would_write(event: RequestAnswered, at: float) -> None:
    written: list[str] = []
    lines = AccessLines(written.append, Redactor())
    add(lines, event, at)
    lines.flush()
    line, end = written[0].split("\n")
    assert end == ""
    found, names = json.loads(line), list(json.loads(line))
    assert names[:4] == ["time", "level", "event", "request_id"]
    values = {name: found[name] for name in names[3:]}
    assert json.loads(as_json(at, "info", "request", "", values)) == {**found, "time": timestamp(at)}
    assert found["target"] == escaped(Redactor().target(event.target))


def test_people_get_a_short_line() -> None:
    written: list[str] = []
    lines = AccessLines(written.append, Redactor(), as_text)
    add(lines, EVENT)
    add(lines, BROKEN)
    lines.flush()
    assert written[0].splitlines() == [
        f"2023-11-14T22:13:20.000Z  info    GET 200 hit       0.4 ms  /p?lang=***  event=request client=127.0.0.1 route=requirements request_id={TRACE}",
        f"2023-11-14T22:13:20.000Z  info    {'BREW' * 8} 502 error  1500.0 ms  /p  event=request client=c reason=origin_invalid"
        f" origin_ms=1250.0 queue_ms=125.0 outcome=broken code=origin_invalid request_id={TRACE}",
    ]


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        ("passoproxy; hit; ttl=3", "", ""),
        ("passoproxy; fwd=uri-miss; stored", "", "uri-miss"),
        ("edge; fwd=miss, passoproxy; hit; detail=OVERRIDE", "", "OVERRIDE"),
        ("passoproxy; fwd=stale; detail=STALE_ERROR", "", "STALE_ERROR"),
        ("passoproxy; fwd=bypass", "path_not_allowed", "path_not_allowed"),
        ("", "", ""),
    ],
)
def test_the_reason_is_the_refusal_or_what_the_cache_says(status: str, code: str, reason: str) -> None:
    event = RequestAnswered("c", "GET", "/", 200, "", "hit", status, 0.1, 1, code=code)
    assert logs.reason_of(event) == reason


def test_the_thread_writes_what_was_added_and_close_writes_the_rest() -> None:
    written: list[str] = []
    arrived = threading.Event()

    def write(text: str) -> None:
        written.append(text)
        arrived.set()

    lines = AccessLines(write, Redactor())
    lines.start()
    add(lines, EVENT)
    assert arrived.wait(5)
    for _ in range(500):
        add(lines, EVENT)
    lines.close()
    assert "".join(written).count("\n") == 501


def test_close_without_start_writes_too() -> None:
    written: list[str] = []
    lines = AccessLines(written.append, Redactor())
    add(lines, EVENT)
    lines.close()
    assert len(written) == 1


def test_lines_that_nobody_reads_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING", 3)
    written: list[str] = []
    lines = AccessLines(written.append, Redactor())
    for _ in range(10):
        add(lines, EVENT)
    lines.flush()
    assert written[0].count("\n") == 4
    assert "7 lines were dropped" in written[0]


def test_lines_of_events_have_room_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_WAITING", 1)
    monkeypatch.setattr(logs, "RESERVED", 2)
    written: list[str] = []
    lines = AccessLines(written.append, Redactor(), takes=lambda text: False)
    for number in range(5):
        add(lines, EVENT)
        lines.event(f"event {number}")
    lines.flush()
    assert [line for line in written[0].splitlines() if line.startswith("event")] == ["event 0", "event 1"]
    assert "7 lines were dropped" in written[0]


def test_long_lines_that_nobody_reads_are_bounded_in_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_CHARACTERS", 20_000)
    written: list[str] = []
    lines = AccessLines(written.append, Redactor())
    for _ in range(10):
        add(lines, replace(EVENT, target="/" + "x" * 5000))
    lines.flush()
    assert "6 lines were dropped" in written[0]
    add(lines, EVENT)
    lines.flush()
    assert written[1].count("\n") == 1


def test_secrets_in_any_field_are_masked(secrets: tuple[str, ...]) -> None:
    for render in (None, as_text):
        written: list[str] = []
        lines = AccessLines(written.append, Redactor([secrets[2]]), render)
        for secret in secrets:
            target = f"/p/{secret}?code={secret}&{secret}"
            add(lines, RequestAnswered(secret, secret, target, 200, secret, secret, secret, 0.1, 1, secret, secret))
        lines.flush()
        # Also not its beginning: a method is cut after it was masked.
        assert not [secret for secret in secrets if secret[:20] in written[0]]


@pytest.mark.parametrize("render", [None, as_text])
def test_the_long_target_of_an_answer_is_masked_once(render: logs.Render | None) -> None:
    masked: list[str] = []

    class Counting(Redactor):
        def target(self, target: str) -> str:
            masked.append(target)
            return super().target(target)

    lines, told = AccessLines(print, Counting(), render), Repeated(replace(EVENT, target="/" + "x" * 3000))
    batch: list[Answered] = [(told, 1.0, "", 0, 0.0, b"")] * 3
    assert len(lines.lines(batch, logs.request_ids(3))) == 3
    assert len(masked) == 1
    lines.set_redactor(Redactor(["x" * 3000]))
    assert "xxx" not in lines.lines(batch, logs.request_ids(3))[2]

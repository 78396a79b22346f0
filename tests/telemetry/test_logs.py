"""The log on standard error."""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator

import pytest

from passoproxy.core.events import (
    Audited,
    Event,
    Lifecycle,
    OriginFailed,
    RequestAnswered,
    RequestRejected,
    TaskFailed,
    Warned,
)
from passoproxy.core.redaction import Redactor
from passoproxy.telemetry.logs import LogObserver, Logs, request_ids
from tests.fakes import FakeClock, full_pipe

ANSWERED = RequestAnswered("c", "GET", "/p?a=b", 200, "r", "hit", "", 0.1, 1)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def logs(stream: io.StringIO, secrets: tuple[str, ...]) -> Iterator[Logs]:
    logs = Logs(Redactor([secrets[2]]), stream=stream)
    logs.open()
    yield logs
    logs.close()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_events_are_lines_with_level_and_particulars(logs: Logs, stream: io.StringIO) -> None:
    LogObserver(logs)(Warned("key_unused", "upstream.somewhat is not used yet"))
    [line] = lines(stream)
    assert line.pop("time")
    assert line == {
        "level": "warning",
        "event": "key_unused",
        "message": "upstream.somewhat is not used yet",
        "detail": "upstream.somewhat is not used yet",
        "code": "key_unused",
    }


def test_the_level_can_be_changed_while_running(logs: Logs, stream: io.StringIO) -> None:
    observe = LogObserver(logs)
    logs.set_level("error")
    observe(Lifecycle("ready"))
    assert lines(stream) == []
    logs.set_level("debug")
    observe(Lifecycle("draining"))
    assert [line["event"] for line in lines(stream)] == ["daemon_draining"]


def test_access_lines_come_whatever_the_level_unless_switched_off(stream: io.StringIO) -> None:
    for wanted in (True, False):
        logs = Logs(Redactor(), level="error", access=wanted, stream=stream)
        logs.open()
        logs.answered([(ANSWERED, 0.0, ANSWERED.client, 0, ANSWERED.duration, b"")], request_ids(1))
        logs.close()
    [line] = lines(stream)
    assert (line["event"], line["target"]) == ("request", "/p?a=***")


def test_lines_of_other_libraries_take_the_same_way(logs: Logs, stream: io.StringIO) -> None:
    other = logging.getLogger("some.library")
    other.info("not told")
    other.warning("answered %s", "Bearer abcdefgh")
    try:
        raise ValueError("code=hush")
    except ValueError:
        other.exception("failed")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("beware", stacklevel=1)
    first, second, third = lines(stream)
    assert (first["level"], first["message"], first["logger"]) == ("warning", "answered Bearer ***", "some.library")
    assert {line["event"] for line in (first, second, third)} == {"library"}
    assert "ValueError: code=***" in str(second["exception"])
    assert "beware" in str(third["message"])


def test_close_gives_the_root_logger_back(stream: io.StringIO) -> None:
    before = logging.getLogger().handlers[:]
    logs = Logs(Redactor(), stream=stream)
    logs.open()
    assert logging.getLogger().handlers != before
    logs.close()
    assert logging.getLogger().handlers == before


def test_a_flood_becomes_a_few_lines_and_a_count(logs: Logs, stream: io.StringIO) -> None:
    clock = FakeClock()
    observe = LogObserver(logs, clock.monotonic)
    for _ in range(100):
        observe(RequestRejected("host_not_allowed", "no"))
    observe(RequestRejected("origin_not_allowed", "no"))
    clock._monotonic += 11
    observe(RequestRejected("host_not_allowed", "no"))
    clock._monotonic += 11
    observe(RequestRejected("host_not_allowed", "no"))
    told = lines(stream)
    assert [line["code"] for line in told] == ["host_not_allowed"] * 5 + ["origin_not_allowed"] + [
        "host_not_allowed"
    ] * 2
    assert [line.get("more") for line in told] == [None] * 6 + [95, None]


def test_answers_that_are_not_recorded_are_a_few_lines(logs: Logs, stream: io.StringIO) -> None:
    observe = LogObserver(logs, FakeClock().monotonic)
    for number in range(9):
        observe(Warned("recording_skipped", f"GET /{number}"))
        observe(Warned("recording_personal", f"{number}.yaml"))
    assert sorted(line["event"] for line in lines(stream)) == ["recording_personal"] * 9 + ["recording_skipped"] * 5


def test_refused_tries_hide_no_other_audit_line(logs: Logs, stream: io.StringIO) -> None:
    observe = LogObserver(logs, FakeClock().monotonic)
    for outcome in (*["refused"] * 9, *["dead"] * 9, "abandoned", "done"):
        observe(Audited("quit", "timer", "::1", outcome=outcome))
    assert [line["outcome"] for line in lines(stream)] == ["refused"] * 5 + ["dead"] * 9 + ["abandoned", "done"]


def test_no_secret_of_any_event_is_written(
    every_event: list[Event], secrets: tuple[str, ...], stream: io.StringIO
) -> None:
    for format in ("json", "text"):
        logs = Logs(Redactor([secrets[2]]), level="debug", format=format, stream=stream)
        logs.open()
        observe = LogObserver(logs)
        for event in every_event:
            observe(event)
        logging.getLogger("some.library").error("secret %s", secrets[0], extra={"values": secrets[1]})
        logs.close()
    said = stream.getvalue()
    assert len(said.splitlines()) > 2 * 16
    assert not [secret for secret in secrets if secret in said]


def test_a_changed_redactor_counts_from_the_next_line(logs: Logs, stream: io.StringIO) -> None:
    logs.set_redactor(Redactor(["another-secret"], query="full"))
    LogObserver(logs)(OriginFailed("GET", "/p?a=b", "origin_timeout", "another-secret"))
    [line] = lines(stream)
    assert (line["message"], line["target"]) == ("no answer from the origin to GET: ***", "/p?a=b")


def test_people_do_not_read_a_value_twice(stream: io.StringIO) -> None:
    logs = Logs(Redactor(), format="text", stream=stream)
    logs.open()
    LogObserver(logs)(OriginFailed("GET", "/p", "origin_timeout", "too slow"))
    logs.close()
    told = stream.getvalue().partition("  ")[2]
    assert (
        told
        == "warn    no answer from the origin to GET: too slow  event=origin_timeout target=/p code=origin_timeout\n"
    )


@pytest.mark.parametrize(
    ("stream", "format", "no_colour", "looks_like"),
    [
        (io.StringIO(), "auto", "", '{"time"'),
        (Terminal(), "auto", "", "\x1b[2m"),
        (Terminal(), "auto", "1", "20"),
        (Terminal(), "json", "", '{"time"'),
        (io.StringIO(), "text", "", "20"),
    ],
)
def test_a_terminal_gets_text_and_everything_else_json(
    stream: io.StringIO, format: str, no_colour: str, looks_like: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", no_colour)
    logs = Logs(Redactor(), format=format, stream=stream)  # type: ignore[arg-type]
    logs.open()
    LogObserver(logs)(Lifecycle("ready"))
    logs.close()
    assert stream.getvalue().startswith(looks_like)


def test_a_log_that_cannot_be_written_disturbs_nobody() -> None:
    logs = Logs(Redactor(), stream=Gone())
    logs.open()
    observe = LogObserver(logs)
    observe(TaskFailed("keeper", "boom"))
    logs.answered([(ANSWERED, 0.0, ANSWERED.client, 0, ANSWERED.duration, b"")], request_ids(1))
    logs.close()


@pytest.mark.parametrize("blocks", [True, False])
def test_a_log_that_is_not_read_holds_nothing_up(blocks: bool) -> None:
    """A full pipe: events go on at once, and their lines come in their order when it is read again, however another process has set it."""
    reading, writing = full_pipe(blocks)
    with open(writing, "w") as stream, open(reading, "rb", buffering=0) as reader:
        logs = Logs(Redactor(), format="json", stream=stream)
        logs.open()
        observe = LogObserver(logs)
        for number in range(200):
            observe(Warned("x", f"number {number} {'y' * 10_000 * (number == 7)}"))
        got, last = b"", b"number 199"
        while last not in got:
            got += reader.read(65536)
        observe(Lifecycle("ready"))
        logs.close()
        got += reader.read(65536)
    told = [json.loads(line) for line in got.lstrip(b"x").splitlines()]
    assert [int(each["detail"].split()[1]) for each in told[:-1]] == list(range(200))
    assert told[-1]["event"] == "daemon_ready"


def test_standard_error_is_the_place(capsys: pytest.CaptureFixture[str]) -> None:
    logs = Logs(Redactor(), format="json")
    logs.open()
    LogObserver(logs)(Lifecycle("ready"))
    logs.close()
    assert json.loads(capsys.readouterr().err)["phase"] == "ready"

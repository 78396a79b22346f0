"""`passoproxy tail`: what happens now, in this process and in workers, whatever the log shows."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.journeys.conftest import Child, Stand, until

TARGET = "/api/v2/content/health/json?lang=en&countries=TR"


def told(child: Child) -> list[Any]:
    return [json.loads(line) for line in child.said.splitlines() if line.startswith("{")]


def requests(child: Child) -> list[Any]:
    return [each for each in told(child) if each["event"] == "request"]


def watched(stand: Stand, *words: str) -> Child:
    """A tail that is there before what it is to see."""
    child = stand.start("tail", "--config", str(stand.config), *words)
    assert until(lambda: "Ctrl-C ends it" in child.said), child.said
    return child


def asked(stand: Stand, child: Child, count: int) -> list[Any]:
    """So many requests, as the watcher sees them."""
    for _ in range(count):
        assert stand.get(TARGET).status == 200
    assert until(lambda: len(requests(child)) >= count), child.said
    return requests(child)


@pytest.mark.parametrize("workers", [1, 2])
def test_requests_and_events_whatever_the_log_shows(stand: Stand, workers: int) -> None:
    stand.configure(
        server={"listen": f"127.0.0.1:{stand.port}", "workers": workers}, log={"access": False, "format": "text"}
    )
    stand.start_sandbox()
    stand.start_daemon()
    child = watched(stand, "--json")
    stand.login()
    assert until(lambda: any(each["event"] == "token_refreshed" for each in told(child))), child.said
    (found, *_) = asked(stand, child, 3)
    assert (found["status"], found["route"], found["method"]) == (200, "content-health", "GET")
    assert found["cache"] in ("hit", "miss")
    assert "countries" in found["target"]
    assert "TR" not in found["target"]  # log.query is `names`
    assert stand.daemon is not None
    assert '"request"' not in stand.daemon.said
    stand.stop_daemon()
    assert child.wait(30) == 0
    assert "the daemon has ended" in child.said


def test_a_line_is_that_of_the_log(stand: Stand) -> None:
    stand.start_sandbox()
    stand.start_daemon()
    stand.login()
    child = watched(stand, "--json")
    seen = asked(stand, child, 3)
    stand.stop_daemon()  # which writes what waits
    assert stand.daemon is not None
    logged = {
        each["request_id"]: each
        for line in stand.daemon.said.splitlines()
        if '"request_id"' in line
        for each in [json.loads(line)]
    }
    assert all(logged[each["request_id"]] == each for each in seen)


def test_filters(stand: Stand) -> None:
    stand.start_sandbox()
    stand.start_daemon()
    stand.login()
    child = watched(stand, "--json", "--status", "4xx", "--cache", "pass")
    missing = "/api/v2/no-such-page"
    assert until(lambda: (stand.get(missing), stand.get(TARGET)) and len(requests(child)) >= 3), child.said
    assert {(each["status"], each["cache"]) for each in told(child)} == {(404, "pass")}
    child.send(signal.SIGINT)
    assert child.wait(30) == 130


def test_lines_for_people(stand: Stand) -> None:
    stand.start_sandbox()
    stand.start_daemon()
    child = watched(stand)
    stand.login()
    assert until(lambda: stand.get(TARGET) and " GET /api/v2/content/health/json" in child.said), child.said
    assert "(token_refreshed)" in child.said


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--status", "6xx"], 2, "--status: '6xx' is no status; write 404, or 5xx for all that begin with 5"),
        (["--cache", "hot"], 2, "--cache: 'hot' is none of hit, stale, miss, pass, error"),
        ([], 3, "no daemon is running"),
    ],
)
def test_what_cannot_be_watched(
    stand: Stand, inside: Callable[..., subprocess.CompletedProcess[str]], words: list[str], code: int, said: str
) -> None:
    ran = inside("tail", "--config", str(stand.config), *words)
    assert ran.returncode == code
    assert said in ran.stderr

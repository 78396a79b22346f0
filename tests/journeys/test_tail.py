"""`passoproxy tail`: what happens now, in this process and in workers, whatever the log shows."""

from __future__ import annotations

import html
import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Child, Stand, ask, until

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


@pytest.mark.slow
def test_it_goes_on_where_only_the_owner_changed(stand: Stand) -> None:
    """The one that is watched loses the pair's ownership, and ends all its conversations for the sake of those that follow it."""
    stand.begin("--lifetime", "60s")
    child = watched(stand, "--json")
    (Path(stand.settings["state"]["directory"]) / "lock").unlink()
    other = stand.follower()
    other.start_daemon()
    assert until(lambda: other.role == "owner")
    assert until(lambda: stand.run("token", "refresh") and stand.role == "following")
    assert until(lambda: stand.get(TARGET).status == 200 and requests(child)), child.said
    assert (child.poll(), "has ended" in child.said) == (None, False)
    child.stop(signal.SIGINT)


def test_log_tail_metrics_explanation_and_answer_tell_the_same_of_a_request(stand: Stand) -> None:
    stand.start_sandbox()
    stand.start_daemon()
    stand.login()
    child = watched(stand, "--json")
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    stand.get(TARGET, traceparent=f"00-{trace}-00f067aa0ba902b7-01")
    stand.get(TARGET)
    stand.get(TARGET)
    assert until(lambda: len(requests(child)) >= 3), child.said
    refused = stand.get("/__internal/x").json
    assert until(lambda: len(requests(child)) >= 4), child.said
    assert (stand.get("/api/v2/no-such-page").status, len(until(lambda: requests(child)[4:]))) == (404, 1)
    seen = requests(child)
    counted: dict[tuple[str, ...], int] = {}
    for each in seen:
        labels = each["route"], str(each["status"]), each["cache"]
        counted[labels] = counted.get(labels, 0) + 1
    text = ask(stand.admin_port, "/metrics").body.decode()
    assert {
        (labels["route"], labels["status"], labels["cache"]): int(float(count))
        for words, count in re.findall(r"^passoproxy_requests_total\{(.*)\} (\S+)$", text, re.M)
        for labels in [dict(re.findall(r'(\w+)="([^"]*)"', words))]
    } == counted
    explained = json.loads(stand.run("explain", "GET", TARGET, "--json", "--config", str(stand.config)).stdout)
    hit = seen[2]
    _page_tells_the_same(stand, hit, explained)
    assert (explained["outcome"], explained["route"]) == (hit["cache"], hit["route"]) == ("hit", "content-health")
    assert (seen[0]["request_id"], seen[0]["cache"]) == (trace, "miss")
    assert (refused["request_id"], refused["code"]) == (seen[3]["request_id"], seen[3]["code"])
    stand.stop_daemon()  # which writes what waits
    assert stand.daemon is not None
    logged = [json.loads(line) for line in stand.daemon.said.splitlines() if line.startswith("{")]
    assert [each for each in logged if each["event"] == "request"][-len(seen) :] == seen
    about = [each["event"] for each in logged if each.get("request_id") == refused["request_id"]]
    assert sorted(about) == ["request", "request_refused"]
    audited = [each for each in logged if each["event"] == "audit"]
    assert [(each["action"], each["outcome"]) for each in audited][:2] == [("login start", "done"), ("login", "done")]
    assert re.fullmatch(rf"uid {os.getuid()}, pid \d+", audited[0]["who"])
    assert audited[1]["who"] == "the browser of a login"
    assert (audited[0]["from"].partition(":")[0], audited[1]["from"]) == ("unix", "127.0.0.1")


def _page_tells_the_same(stand: Stand, line: dict[str, Any], explained: dict[str, Any]) -> None:
    """The page's row and its reasons are those of the line and of `explain`."""
    recent = {each["request_id"]: each for each in stand.status()["requests"]["recent"]}
    shared = ("method", "target", "status", "route", "cache", "client", "outcome", "code")
    assert [recent[line["request_id"]][name] for name in shared] == [line[name] for name in shared]
    path = f"/page/why?request={line['request_id']}"
    page = html.unescape(ask(stand.admin_port, path, headers=stand.page_session()).body.decode())
    assert f": {explained['outcome']}</b>" in page

    def timeless(text: str) -> str:
        return re.sub(r"[0-9.]+|<li>.", "", text)

    told = re.findall("<li>.*?</li>", page)
    assert [timeless(each) for each in told] == [timeless(f"<li>{each}</li>") for each in explained["reasons"]]


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

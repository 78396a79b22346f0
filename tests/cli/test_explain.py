"""`explain`: of a running daemon and of a stopped one's folders, for people and programs."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Beside, Run
from tests.whole import CONTENT, Place, Running, running

POST = "/api/v2/content/visa/json"
TRIP = json.dumps({"lang": "en", "trip": {"name": "x"}})


def test_a_hit_for_people(run: Run, it: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    said = run("explain", "GET", CONTENT, "--config", str(it.place.config), terminal=True)
    assert said.code == 0, said.err
    assert "hit" in said.out.splitlines()[0]
    reasons = said.out.partition("\nroute ")[0].splitlines()[2:]
    assert max(map(len, reasons)) <= 80
    shown = " ".join(said.out.split())
    for text in (
        "1. route 'content-health' is the first whose pattern",
        "the origin says no-cache, private",
        "query_sorted yes",
        "what counts ttl_of_route=3600",
        "lifetime 1 h, from ttl of the route",
        "passoproxy; hit; ttl=",
        "varies by",
        "accept-encoding: gzip,br,zstd",
    ):
        assert text in shown, (text, said.out)


def test_the_outcomes_for_programs(run: Run, it: Running) -> None:
    at = ("--config", str(it.place.config), "--json")
    assert run("explain", "GET", it.proxy + CONTENT, *at).json["outcome"] == "hit"
    assert run("explain", "get", CONTENT.replace("ZA", "AE"), *at).json["outcome"] == "miss"
    passed = run("explain", "POST", POST, "--data", TRIP, *at).json
    assert (passed["outcome"], passed["key"]) == ("pass", None)
    asked = run("explain", "GET", CONTENT, "-H", "Cache-Control: no-cache", "-H", "Cookie: a=b", *at).json
    assert (asked["outcome"], asked["cache_status"]) == ("miss", "passoproxy; fwd=request")
    assert any("Cookie" in reason for reason in asked["reasons"])


def test_a_miss_and_a_pass_in_a_pipe(run: Run, it: Running) -> None:
    at = ("--config", str(it.place.config))
    missed = run("explain", "GET", CONTENT.replace("ZA", "AE"), *at)
    assert missed.out.startswith("miss  GET /api/v2/content/health/json")
    assert "nothing stored" in missed.out
    assert "age" not in missed.out
    passed = run("explain", "DELETE", "/nowhere", *at)
    assert "key              none: it is not looked up" in passed.out
    assert "route            -" in passed.out


def test_a_post_with_a_key_of_its_body(run: Run, it: Running) -> None:
    body = json.dumps({"lang": "en", "countries": ["TR"]})
    said = run("explain", "POST", POST, "--data", body, "--config", str(it.place.config))
    assert "canonical_sha256=" in said.out


def test_what_cannot_be_explained(run: Run, it: Running) -> None:
    at = ("--config", str(it.place.config))
    said = run("explain", "GET", "http://elsewhere.example/a", *at)
    assert said.code == 2
    assert "neither the proxy's nor the origin's" in said.err
    assert run("explain", "G T", "/a", *at).code == 2
    assert "begins with 'no' has no colon" in run("explain", "GET", "/a", "-H", "no colon", *at).err
    assert "the name of a header field" in run("explain", "GET", "/a", "-H", "no name: x", *at).err
    assert run("explain", "GET", *at).code == 2


def test_a_stopped_daemon_s_folders(run: Run, place: Place, beside: Beside) -> None:
    at = ("--config", str(place.config))

    async def once() -> None:
        async with running(place, authorised=True) as it:
            assert [each["outcome"] async for each in it.wired.control.warm([CONTENT])] == ["fetched"]

    beside.do(once())
    assert run("status", *at).code == 3
    found = run("explain", "GET", CONTENT, *at, "--json").json
    assert found["outcome"] == "hit"
    assert len(found["variants"]) == 1

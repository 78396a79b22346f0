from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest

from passoproxy.errors import BadRequest
from passoproxy.telemetry import live as module
from passoproxy.telemetry.live import Live, dropped_line, fitting

REQUEST = json.dumps({"event": "request", "status": 404, "route": "r", "cache": "pass", "client": "ann"})
EVENT = json.dumps({"event": "token_refreshed", "level": "info"})


@pytest.mark.parametrize(
    ("wishes", "request_fits", "event_fits"),
    [
        ({}, True, True),
        ({"route": ""}, True, True),
        ({"status": "404"}, True, False),
        ({"status": "4xx"}, True, False),
        ({"status": "4XX", "cache": "pass", "client": "ann", "route": "r"}, True, False),
        ({"status": "403"}, False, False),
        ({"status": "5xx"}, False, False),
        ({"status": "4xx", "client": "bob"}, False, False),
        ({"route": "other"}, False, False),
    ],
)
def test_what_fits(wishes: dict[str, str], request_fits: bool, event_fits: bool) -> None:
    fits = fitting(wishes)
    assert (fits(REQUEST), fits(EVENT), fits(dropped_line(3))) == (request_fits, event_fits, True)


@pytest.mark.parametrize("status", ["6xx", "40", "4x4", "404x", "all"])
def test_a_status_that_is_none(status: str) -> None:
    with pytest.raises(BadRequest, match="is no status; write 404"):
        Live().watch({"status": status})


async def test_lines_are_made_while_somebody_watches() -> None:
    live, changes = Live(), list[bool]()
    live.on_change = changes.append
    live.put(EVENT, None)
    async with aclosing(live.watch({})) as one, aclosing(live.watch({"status": "404"})) as other:
        assert (await anext(one), await anext(other)) == ("", "")
        live.wanted = True
        live.put(EVENT, None)
        live.put(REQUEST, None)
        assert [await anext(one), await anext(one), await anext(other)] == [EVENT, REQUEST, REQUEST]
    assert changes[0] is True
    assert changes[-1] is False


async def test_nothing_for_a_while_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.0)
    async with aclosing(Live().watch({})) as lines:
        assert [await anext(lines) for _ in range(3)] == ["", "", ""]


async def test_lines_that_do_not_fit_are_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.05)
    live = Live()

    async def much_else() -> None:
        for _ in range(60):
            live.put(EVENT, None)
            await asyncio.sleep(0.01)

    async with aclosing(live.watch({"status": "5xx"})) as lines:
        await anext(lines)
        traffic = asyncio.create_task(much_else())
        assert await anext(lines) == ""
        assert not traffic.done()
        traffic.cancel()


async def test_who_does_not_keep_up_is_told_how_much_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 2)
    live = Live()
    async with aclosing(live.watch({})) as lines:
        await anext(lines)
        for _ in range(5):
            live.put(EVENT, None)
        seen = [await anext(lines) for _ in range(3)]
    assert [json.loads(line)["event"] for line in seen] == ["token_refreshed", "lines_dropped", "token_refreshed"]
    assert json.loads(seen[1])["message"].startswith("3 lines were dropped")


def test_requests_of_lines_are_remembered_by_their_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ASKED", 2)
    live = Live()
    for name, target in (("a", "/a"), ("b", "/b"), ("c", "/" + "c" * 9_000), ("d", "/d")):
        live.put(json.dumps({"event": "request", "request_id": name * 32}), ("GET", target))
    live.put(EVENT, None)
    assert [live.asked(name * 32) for name in "abcd"] == [None, ("GET", "/b"), None, ("GET", "/d")]

"""The long calls about the cache: lists in blocks, explanations, and filling that is told as it goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from passoproxy.core.cache.entry import Selector
from passoproxy.errors import UsageFailure
from passoproxy.server.admin import api
from passoproxy.server.admin.api import LINES, MOST_ORDERS
from passoproxy.server.admin.app import control_application
from passoproxy.server.admin.page_sessions import PageSessions
from tests.fakes import settle
from tests.server.admin_clients import metrics
from tests.server.fake_daemon import FakeDaemon


async def ask(daemon: FakeDaemon, method: str, path: str, **more: Any) -> tuple[int, Any, dict[str, str]]:
    async with TestClient(TestServer(control_application(daemon, PageSessions(), metrics))) as client:
        answer = await client.request(method, path, **more)
        text = await answer.text()
        is_json = answer.headers["Content-Type"].endswith("json")
        return answer.status, json.loads(text) if is_json and text else text, dict(answer.headers)


@pytest.mark.parametrize("count", [0, 1, 60, 3000])
async def test_a_list_is_whole_however_long(count: int) -> None:
    daemon = FakeDaemon(listed=[{"url": f"/{number}", "tags": ["ä\udce9" * 20]} for number in range(count)])
    status, found, fields = await ask(daemon, "GET", "/api/cache/entries?limit=5000")
    assert (status, len(found)) == (200, count)
    assert [each["url"] for each in found] == [f"/{number}" for number in range(count)]
    assert "X-Passoproxy-More" not in fields


async def test_a_long_list_goes_out_with_a_turn_for_others_between_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also to one who takes it as fast as it is written, where a write waits for nothing."""
    turns, written = 0, list[int]()

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def written_at_once(reply: web.StreamResponse, data: bytes) -> None:
        written.append(turns)
        await write(reply, data)

    write = web.StreamResponse.write
    monkeypatch.setattr(web.StreamResponse, "write", written_at_once)
    others = asyncio.create_task(take_turns())
    daemon = FakeDaemon(listed=[{"url": f"/{number}" * 100} for number in range(1000)])
    status, found, _ = await ask(daemon, "GET", "/api/cache/entries")
    others.cancel()
    assert (status, len(found)) == (200, 1000)
    assert len(written) > 4
    assert len(set(written)) == len(written)


async def test_a_list_that_is_cut_short_says_so() -> None:
    daemon = FakeDaemon(listed=[{"url": f"/{number}"} for number in range(10)])
    _, found, fields = await ask(daemon, "GET", "/api/cache/entries?limit=9")
    assert (len(found), fields["X-Passoproxy-More"]) == (9, "true")


async def test_a_list_s_head_alone() -> None:
    daemon = FakeDaemon(listed=[{"url": f"/{number}" * 100} for number in range(1000)])
    status, text, fields = await ask(daemon, "HEAD", "/api/cache/entries?limit=999")
    assert (status, text, fields["X-Passoproxy-More"]) == (200, "", "true")
    assert daemon.given < 900


class Tearing(FakeDaemon):
    """Whose list ends in a fault."""

    async def entries(self, selector: Selector, limit: int) -> AsyncIterator[dict[str, Any]]:
        async for entry in super().entries(selector, limit):
            yield entry
        raise OSError("the store went away")


async def test_a_list_that_breaks_off_is_no_list() -> None:
    daemon = Tearing(listed=[{"url": f"/{number}" * 100} for number in range(1000)])
    with pytest.raises(aiohttp.ClientError):
        await ask(daemon, "GET", "/api/cache/entries")


@pytest.mark.parametrize("limit", ["0", "-1", "x", "100001", "9" * 30, "1".zfill(9) + "9" * 5000, ""])
async def test_a_limit_that_is_none(limit: str) -> None:
    status, found, _ = await ask(FakeDaemon(), "GET", f"/api/cache/entries?limit={limit}")
    assert (status, found["detail"]) == (400, "limit: a number from 1 to 100000 is expected")


async def test_explaining_passes_the_description_on() -> None:
    daemon = FakeDaemon()
    described = {"method": "GET", "url": "/a", "headers": ["A: b"]}
    status, found, _ = await ask(daemon, "POST", "/api/explain", json=described)
    assert (status, found, daemon.calls) == (200, {"did": "explain"}, [("explain", described)])
    daemon.fails = UsageFailure("url: a URL or a path is expected")
    status, found, _ = await ask(daemon, "POST", "/api/explain", json={})
    assert (status, found["detail"]) == (400, "url: a URL or a path is expected")


async def test_filling_gives_the_numbers_and_the_failures() -> None:
    daemon = FakeDaemon()
    urls = ["/fetched", "/fresh", "/failed", "/fetched"]
    status, found, _ = await ask(daemon, "POST", "/api/cache/warm", json={"urls": urls})
    assert status == 200
    failure = {"url": "/failed", "status": None, "detail": "no"}
    assert found == {"warmed": 2, "fresh": 1, "failed": 1, "failures": [failure]}
    assert daemon.calls == [("warm", urls), ("warmed",)]


async def test_filling_is_told_line_by_line_to_whom_asks_for_lines() -> None:
    body = {"urls": ["/fetched", "/fresh"]}
    status, text, fields = await ask(FakeDaemon(), "POST", "/api/cache/warm", json=body, headers={"Accept": LINES})
    assert (status, fields["Content-Type"]) == (200, LINES)
    assert [json.loads(line)["outcome"] for line in text.splitlines()] == ["fetched", "fresh"]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, '{"urls": […]} is expected'),
        ({"urls": []}, '{"urls": […]} is expected'),
        ({"urls": "/a"}, '{"urls": […]} is expected'),
        ({"urls": ["/a"], "more": 1}, '{"urls": […]} is expected'),
        ({"urls": ["/"] * (MOST_ORDERS + 1)}, "urls: at most 10000 are taken at once"),
    ],
)
async def test_orders_that_are_none(body: Any, detail: str) -> None:
    daemon = FakeDaemon()
    status, found, _ = await ask(daemon, "POST", "/api/cache/warm", json=body)
    assert (status, daemon.calls) == (400, [])
    assert found["detail"].startswith(detail)


async def test_a_long_wait_is_bridged_and_a_reader_who_leaves_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "BEAT_SECONDS", 0.01)
    daemon = FakeDaemon()
    daemon.filling.clear()
    async with TestClient(TestServer(control_application(daemon, PageSessions(), metrics))) as client:
        answer = await client.post("/api/cache/warm", json={"urls": ["/fetched"] * 3}, headers={"Accept": LINES})
        assert await answer.content.readline() == b"\n"
        answer.close()
        async with asyncio.timeout(10):
            while ("warmed",) not in daemon.calls:
                await asyncio.sleep(0.01)
    await settle()


async def test_a_soft_purge_is_passed_on() -> None:
    daemon = FakeDaemon()
    assert (await ask(daemon, "POST", "/api/cache/purge", json={"tag": "t", "soft": True}))[1] == {
        "purged": 3,
        "soft": True,
    }
    assert (await ask(daemon, "POST", "/api/cache/purge", json={"all": True, "soft": False}))[1] == {"purged": 3}
    assert daemon.calls == [("purge", {"tag": "t", "soft": True}), ("purge", {"all": True})]
    status, found, _ = await ask(daemon, "POST", "/api/cache/purge", json={"soft": True})
    assert status == 400
    assert "is expected" in found["detail"]
    status, found, _ = await ask(daemon, "POST", "/api/cache/purge", json={"tag": "t", "soft": 1})
    assert (status, found["detail"]) == (400, "soft: true or false is expected")

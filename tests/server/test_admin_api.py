"""The API: bodies that are right, bodies that are wrong, what the daemon is asked, and answers that go out in parts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from passoproxy.core.cache.entry import Selector
from passoproxy.errors import BadRequest, UsageFailure
from passoproxy.server.admin import api
from passoproxy.server.admin.api import LINES, MOST_ORDERS, query_of
from passoproxy.server.admin.app import control_application
from passoproxy.server.admin.sessions import PageSessions
from passoproxy.telemetry.live import Live
from tests.fakes import settle
from tests.server.admin_clients import Ask, metrics
from tests.server.fake_daemon import NOW, PROVIDER, FakeDaemon


async def test_status_is_the_daemon_s_document(ask: Ask) -> None:
    daemon = FakeDaemon()
    status, document, fields = await ask(daemon, "GET", "/api/status")
    assert (status, document) == (200, daemon.document)
    assert fields["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("method", "path", "body", "call"),
    [
        ("POST", "/api/token/refresh", b"", ("refresh", False)),
        ("POST", "/api/token/refresh", b" \n", ("refresh", False)),
        ("POST", "/api/token/refresh", b'{"force": true}', ("refresh", True)),
        ("POST", "/api/token/import", b'{"access_token": "a"}', ("import", b'{"access_token": "a"}', False)),
        ("POST", "/api/token/import?force=1", b'{"access_token": "a"}', ("import", b'{"access_token": "a"}', True)),
        ("POST", "/api/token/import?force=0", b"{}", ("import", b"{}", False)),
        ("GET", "/api/token/export", None, ("export",)),
        ("POST", "/api/logout", b"", ("logout", False)),
        ("POST", "/api/logout", b'{"keep_cache": true}', ("logout", True)),
        ("GET", "/api/cache/stats", None, ("cache_stats",)),
        ("POST", "/api/reload", b"", ("reload",)),
    ],
)
async def test_what_the_daemon_is_asked(
    ask: Ask, method: str, path: str, body: bytes | None, call: tuple[Any, ...]
) -> None:
    daemon = FakeDaemon()
    status, document, _ = await ask(daemon, method, path, data=body)
    assert (status, document, daemon.calls) == (200, {"did": call[0]}, [call])


@pytest.mark.parametrize(
    ("path", "body", "detail"),
    [
        ("/api/token/refresh", b'{"force": "yes"}', "force: true or false is expected"),
        ("/api/token/refresh", b"{,}", "the body is not JSON: Expecting property name enclosed in double quotes in line 1, column 2"),
        ("/api/token/refresh", b"[]", "the body has to be a JSON object"),
        ("/api/token/refresh", b'{"a": "\xff"}', "the body is not JSON in UTF-8"),
        ("/api/token/refresh", b"[" * 100_000, "the body is JSON with a number of too many digits, or nested too deeply"),
        ("/api/cache/purge", b'{"all": ' + b"9" * 5000 + b"}", "the body is JSON with a number of too many digits, or nested too deeply"),
        ("/api/cache/warm", b'{"urls": [-' + b"9" * 5000 + b"]}", "the body is JSON with a number of too many digits, or nested too deeply"),
        ("/api/explain", b'{"url": "/\\ud800"}', "the body is JSON with half of a character (a lone surrogate)"),
        ("/api/logout", b'{"keep_cache": 1}', "keep_cache: true or false is expected"),
        ("/api/cache/show", b"{}", "url: a text is expected"),
        ("/api/cache/show", b'{"url": "/p", "data": 1}', "data: a text is expected, the body of the request as it is sent"),
        ("/api/cache/show", b'{"url": "/p", "method": 1}', "method: a text is expected"),
        ("/api/login/complete", b'{"url": ""}', "url: a text is expected"),
        ("/api/login/complete", b'{"url": "nonsense"}', "the whole redirected URL is expected, with its code and state behind the question mark"),
    ],
)  # fmt: skip
async def test_bodies_that_are_wrong_are_named(ask: Ask, path: str, body: bytes, detail: str) -> None:
    daemon = FakeDaemon()
    status, problem, _ = await ask(daemon, "POST", path, data=body)
    assert (status, problem["code"], problem["detail"]) == (400, "bad_request", detail)
    assert daemon.calls == []


@pytest.mark.parametrize(
    "order",
    [
        {"url": "/p?q"},
        {"prefix": "/api/*"},
        {"route": "r"},
        {"tag": "t"},
        {"all": True},
        {"all": True, "url": None},
        {"url": "/p", "data": "{}"},
    ],
)
async def test_purge_orders(ask: Ask, order: dict[str, Any]) -> None:
    daemon = FakeDaemon()
    status, document, _ = await ask(daemon, "POST", "/api/cache/purge", json=order)
    assert (status, document) == (200, {"purged": 3})
    assert daemon.calls == [("purge", {name: value for name, value in order.items() if value is not None})]


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"all": False},
        {"all": 1.5},
        {"all": "true"},
        {"url": ""},
        {"url": 1},
        {"url": "/p", "tag": "t"},
        {"key": "k"},
        {"tag": "t", "data": "x"},
        {"all": True, "tag": "t"},
        {"url": "/p", "data": 1},
    ],
)
async def test_purge_orders_that_are_none(ask: Ask, order: dict[str, Any]) -> None:
    daemon = FakeDaemon()
    status, problem, _ = await ask(daemon, "POST", "/api/cache/purge", json=order)
    assert (status, problem["code"]) == (400, "bad_request")
    assert daemon.calls == []


async def test_entries_are_selected_and_limited(ask: Ask) -> None:
    daemon = FakeDaemon(listed=[{"url": f"/{n}"} for n in range(3)])
    status, listed, fields = await ask(daemon, "GET", "/api/cache/entries?prefix=/api&route=r&tag=t&limit=2")
    assert (status, listed, fields["X-Passoproxy-More"]) == (200, [{"url": "/0"}, {"url": "/1"}], "true")
    assert daemon.calls == [("entries", Selector(prefix="/api", route="r", tag="t"), 2)]
    _, listed, fields = await ask(daemon, "GET", "/api/cache/entries")
    assert len(listed) == 3
    assert "X-Passoproxy-More" not in fields


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=x", "limit=", "limit=1e3", "limit=100001", "limit=99999999999999", "limit=²", "colour=red"],
)
async def test_entries_with_odd_parameters(ask: Ask, query: str) -> None:
    status, problem, _ = await ask(FakeDaemon(), "GET", f"/api/cache/entries?{query}")
    assert (status, problem["code"]) == (400, "bad_request")


async def test_show(ask: Ask) -> None:
    daemon = FakeDaemon(shown={"url": "/p"})
    assert (await ask(daemon, "POST", "/api/cache/show", json={"url": "/p"}))[1] == {"url": "/p"}
    assert (await ask(daemon, "POST", "/api/cache/show", json={"url": "/p", "data": "ä"}))[0] == 200
    assert (await ask(daemon, "POST", "/api/cache/show", json={"url": "/p", "method": "HEAD"}))[0] == 200
    assert daemon.calls == [
        ("show", "/p", "GET", None),
        ("show", "/p", "POST", "ä".encode()),
        ("show", "/p", "HEAD", None),
    ]
    status, problem, _ = await ask(FakeDaemon(), "POST", "/api/cache/show", json={"url": "/p"})
    assert (status, problem["exit_code"], problem["detail"]) == (404, 1, "nothing is stored for GET /p")


async def test_a_command_logs_in(ask: Ask) -> None:
    daemon = FakeDaemon()
    _, begun, _ = await ask(daemon, "POST", "/api/login/start")
    assert begun == {"url": PROVIDER, "state": "S1", "expires_at": NOW + 600, "arrives": True}
    status, pending, _ = await ask(daemon, "GET", "/api/login/S1")
    assert (status, pending) == (202, {"pending": True})
    _, done, _ = await ask(
        daemon, "POST", "/api/login/complete", json={"url": "http://127.0.0.1:8611/oauth/callback?code=c&state=S1#f"}
    )
    assert done == {"access": "valid"}
    daemon.outcome = done
    assert (await ask(daemon, "GET", "/api/login/S1"))[:2] == (200, done)
    assert daemon.calls == [
        ("begin_login", None),
        ("wait_login", "S1", 25.0),
        ("complete_login", "code=c&state=S1", None),
        ("wait_login", "S1", 25.0),
    ]


async def test_a_login_that_failed_tells_its_exit_code(ask: Ask) -> None:
    status, problem, _ = await ask(FakeDaemon(fails=UsageFailure("no such login")), "GET", "/api/login/S9")
    assert (status, problem["exit_code"], problem["detail"]) == (400, 2, "no such login")


@pytest.mark.parametrize(
    ("pasted", "query"),
    [
        ("http://127.0.0.1:8611/oauth/callback?code=a&state=b", "code=a&state=b"),
        ("  /oauth/callback?code=a&state=b\n", "code=a&state=b"),
        ("code=a&state=b", "code=a&state=b"),
        ("?error=access_denied&state=b#", "error=access_denied&state=b"),
    ],
)
def test_redirected_urls_are_taken_as_people_paste_them(pasted: str, query: str) -> None:
    assert query_of(pasted) == query


@pytest.mark.parametrize("pasted", ["", "http://127.0.0.1:8611/oauth/callback", "abc", "http://x/?"])
def test_what_is_no_redirected_url(pasted: str) -> None:
    with pytest.raises(BadRequest):
        query_of(pasted)


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/token/export"), ("POST", "/api/token/commands")])
async def test_a_pair_that_nobody_waits_for_any_more_is_taken_back(method: str, path: str) -> None:
    """A command that gave up, perhaps while the daemon was stopped: the pair is handed over by then, and nobody has it."""
    asked, going_on = asyncio.Event(), asyncio.Event()

    class Slow(FakeDaemon):
        async def export_pair(self) -> dict[str, Any]:
            asked.set()
            await going_on.wait()
            return await super().export_pair()

        async def execute(self, message: bytes) -> dict[str, Any]:
            await self.export_pair()
            return {"answer": {"access_token": "A"}}

    daemon = Slow()
    app = control_application(daemon, PageSessions(), metrics, Live().watch)
    runner = web.AppRunner(app)  # a TestServer would cancel the handler
    await runner.setup()
    async with asyncio.timeout(20):
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        _, writer = await asyncio.open_connection(*runner.addresses[0])
        writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
        await asked.wait()
        writer.transport.abort()
        (connection,) = runner.server.connections  # type: ignore[union-attr]
        while connection.transport is not None:
            await asyncio.sleep(0.005)
        going_on.set()
        while len(daemon.calls) < 2:
            await asyncio.sleep(0.005)
    await runner.cleanup()
    assert daemon.calls == [("export",), ("refresh", True)]


# ---- long answers: lists in blocks, and filling that is told as it goes on ----------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 60, 3000])
async def test_a_list_is_whole_however_long(ask: Ask, count: int) -> None:
    daemon = FakeDaemon(listed=[{"url": f"/{number}", "tags": ["ä\udce9" * 20]} for number in range(count)])
    status, found, fields = await ask(daemon, "GET", "/api/cache/entries?limit=5000")
    assert (status, len(found)) == (200, count)
    assert [each["url"] for each in found] == [f"/{number}" for number in range(count)]
    assert "X-Passoproxy-More" not in fields


async def test_a_long_list_goes_out_with_a_turn_for_others_between_its_blocks(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
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


async def test_a_list_s_head_alone(ask: Ask) -> None:
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


async def test_a_list_that_breaks_off_is_no_list(ask: Ask) -> None:
    daemon = Tearing(listed=[{"url": f"/{number}" * 100} for number in range(1000)])
    with pytest.raises(aiohttp.ClientError):
        await ask(daemon, "GET", "/api/cache/entries")


async def test_explaining_passes_the_description_on(ask: Ask) -> None:
    daemon = FakeDaemon()
    described = {"method": "GET", "url": "/a", "headers": ["A: b"]}
    status, found, _ = await ask(daemon, "POST", "/api/explain", json=described)
    assert (status, found, daemon.calls) == (200, {"did": "explain"}, [("explain", described)])
    daemon.fails = UsageFailure("url: a URL or a path is expected")
    status, found, _ = await ask(daemon, "POST", "/api/explain", json={})
    assert (status, found["detail"]) == (400, "url: a URL or a path is expected")


async def test_filling_gives_the_numbers_and_the_failures(ask: Ask) -> None:
    daemon = FakeDaemon()
    urls = ["/fetched", "/fresh", "/failed", "/fetched"]
    status, found, _ = await ask(daemon, "POST", "/api/cache/warm", json={"urls": urls})
    assert status == 200
    failure = {"url": "/failed", "status": None, "detail": "no"}
    assert found == {"warmed": 2, "fresh": 1, "failed": 1, "failures": [failure]}
    assert daemon.calls == [("warm", urls), ("warmed",)]


async def test_filling_is_told_line_by_line_to_whom_asks_for_lines(ask: Ask) -> None:
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
async def test_orders_that_are_none(ask: Ask, body: Any, detail: str) -> None:
    daemon = FakeDaemon()
    status, found, _ = await ask(daemon, "POST", "/api/cache/warm", json=body)
    assert (status, daemon.calls) == (400, [])
    assert found["detail"].startswith(detail)


async def test_a_long_wait_is_bridged_and_a_reader_who_leaves_stops_it(
    aiohttp_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "BEAT_SECONDS", 0.01)
    daemon = FakeDaemon()
    daemon.filling.clear()
    client = await aiohttp_client(control_application(daemon, PageSessions(), metrics, Live().watch))
    answer = await client.post("/api/cache/warm", json={"urls": ["/fetched"] * 3}, headers={"Accept": LINES})
    assert await answer.content.readline() == b"\n"
    answer.close()
    async with asyncio.timeout(10):
        while ("warmed",) not in daemon.calls:
            await asyncio.sleep(0.01)
    await settle()


async def test_a_soft_purge_is_passed_on(ask: Ask) -> None:
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

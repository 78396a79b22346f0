"""Audit lines of the admin listener and of `control.sock`: each changing route has one, and each refused try."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from passoproxy.core.events import Audited, Event
from passoproxy.errors import PersonNeeded
from passoproxy.server.admin.actions import ACTIONS, QUESTIONS, target_of
from passoproxy.server.admin.app import admin_application, control_application
from passoproxy.server.admin.auth import AdminAccess
from passoproxy.server.admin.sessions import PageSessions
from passoproxy.telemetry.live import Live
from tests.server.admin_clients import SECRET, TOKEN, Admin, metrics
from tests.server.fake_daemon import FakeDaemon

READS = {
    "/", "/healthz", "/readyz", "/metrics", "/assets/{name}", "/page/live", "/page/why", "/page/refresh", "/page/purge", "/page/logout",
    "/api/status", "/api/cache/entries", "/api/daemon", "/api/cache/stats", "/api/login/{state}", "/api/token/follow", "/api/tail",
}  # fmt: skip
"""Routes of GET that change nothing."""
SAYS_WHAT = {
    "/api/token/refresh": (b'{"force": true}', "force"),
    "/api/token/import?force=1": (b'{"access_token": "planted-secret"}', "force"),
    "/api/token/commands": (b'{"command": "export"}', "export"),
    "/api/login/complete": (b'{"url": "?code=planted-secret&state=S1"}', ""),
    "/api/logout": (b'{"keep_cache": true}', "keep_cache"),
    "/api/cache/purge": (b'{"url": "/p?key=planted-secret", "data": "planted-secret", "soft": true}', "url /p?key=planted-secret, soft"),
    "/api/cache/warm": (b'{"urls": ["/fetched", "/fresh"]}', "2 urls"),
}  # fmt: skip
"""Bodies of changing calls by path, and the target that the line names. The log masks it as it masks every target."""


def of(told: list[Event]) -> list[Audited]:
    return [each for each in told if isinstance(each, Audited)]


def apps(told: list[Event], daemon: FakeDaemon) -> tuple[web.Application, web.Application]:
    sessions = PageSessions()
    admin = admin_application(daemon, AdminAccess(SECRET), sessions, metrics, Live().watch, told.append)  # type: ignore[arg-type]
    control = control_application(daemon, sessions, metrics, Live().watch, told.append)  # type: ignore[arg-type]
    return admin, control


def test_every_route_is_audited_or_known_to_change_nothing() -> None:
    routes = {
        (route.method, route.resource.canonical)
        for app in apps([], FakeDaemon())
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    unknown = {each for each in routes if each not in ACTIONS and each not in QUESTIONS}
    assert {path for _, path in unknown} <= READS, "a new route: name it in ACTIONS, or say that it changes nothing"
    assert {method for method, _ in unknown} == {"GET"}
    assert routes >= set(ACTIONS) | QUESTIONS


@pytest.fixture
async def sock() -> AsyncIterator[tuple[aiohttp.ClientSession, FakeDaemon, list[Event], str]]:
    """`control.sock` of a fake daemon, and a client of it."""
    told, daemon = list[Event](), FakeDaemon()
    runner = web.AppRunner(apps(told, daemon)[1])
    await runner.setup()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s"
        await web.UnixSite(runner, path).start()
        async with aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(path)) as session:
            yield session, daemon, told, path
        await runner.cleanup()


def control_calls() -> list[tuple[str, str]]:
    known = {path.partition("?")[0]: path for path in SAYS_WHAT}
    return [
        (method, known.get(path, path))
        for method, path in ACTIONS
        if path.startswith("/api/") and path not in ("/api/quit", "/api/page")
    ]


@pytest.mark.parametrize(("method", "path"), control_calls())
async def test_a_command_over_the_socket_has_one_line(
    sock: tuple[aiohttp.ClientSession, FakeDaemon, list[Event], str], method: str, path: str
) -> None:
    session, daemon, told, name = sock
    daemon.logins["S1"] = None  # type: ignore[assignment]
    body, target = SAYS_WHAT.get(path, (b"", ""))
    async with session.request(method, path, data=body) as answer:
        assert answer.status == 200, await answer.text()
    who, action = f"uid {os.getuid()}, pid {os.getpid()}", ACTIONS[method, path.partition("?")[0]]
    assert of(told) == [Audited(action, who, f"unix:{name}", target)]
    told.clear()
    daemon.fails = PersonNeeded("log in")
    async with session.request(method, path, data=body) as answer:
        assert answer.status >= 400
    assert [(each.action, each.outcome) for each in of(told)] == [(action, PersonNeeded.code)]
    assert "planted-secret" not in repr([(each.who, each.outcome, each.peer) for each in of(told)])


async def test_a_test_alert_that_did_not_get_out_has_failed(
    sock: tuple[aiohttp.ClientSession, FakeDaemon, list[Event], str],
) -> None:
    session, daemon, told, _ = sock
    daemon.hooks = [{"hook": "command", "ok": True}, {"hook": "webhook", "ok": False}]
    async with session.post("/api/alert/test") as answer:
        assert answer.status == 200
    assert [(each.action, each.outcome) for each in of(told)] == [("alert test", "failed")]


async def test_questions_and_what_a_request_sets_off_have_none(
    sock: tuple[aiohttp.ClientSession, FakeDaemon, list[Event], str],
) -> None:
    session, _, told, _ = sock
    for method, path, body in (
        ("GET", "/api/status", None),
        ("POST", "/api/explain", b"{}"),
        ("POST", "/api/token/commands", b'{"command": "renew_401"}'),
        ("POST", "/api/token/commands", b'{"command": "login_pending"}'),
    ):
        async with session.request(method, path, data=body) as answer:
            assert answer.status == 200
    assert of(told) == []
    async with session.request("POST", "/api/token/commands", data=b"[]") as answer:
        assert [(each.action, each.target) for each in of(told)] == [("token command", "")]


async def test_the_right_by_which_a_change_was_made(admin: Admin) -> None:
    told = list[Event]()
    listener = await admin(observer=told.append, token=TOKEN, token_name="/etc/admin_token")
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    refresh = "/api/token/refresh"
    assert (await listener.ask("POST", refresh, bearer)).status == 200
    form = {"Sec-Fetch-Site": "same-origin", "Origin": listener.origin}
    answer = await listener.ask("POST", "/page/token", form, data={"token": TOKEN})
    cookie = {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}
    page = cookie | form | {"X-Passoproxy-Page": await listener.page_token(cookie)}
    assert (await listener.ask("POST", refresh, page)).status == 200
    assert (await listener.ask("POST", refresh, await listener.from_page())).status == 200
    assert [(each.action, each.who, each.peer, each.outcome) for each in of(told)] == [
        ("token refresh", "admin token /etc/admin_token", "127.0.0.1", "done"),
        ("page session", "admin token /etc/admin_token", "127.0.0.1", "done"),
        ("token refresh", "page session by admin token /etc/admin_token", "127.0.0.1", "done"),
        ("page session", "a link of 'passoproxy page'", "127.0.0.1", "done"),
        ("token refresh", f"page session of uid {os.getuid()}", "127.0.0.1", "done"),
    ]
    assert TOKEN not in repr(told)


async def test_refused_tries_have_a_line_too(admin: Admin) -> None:
    told = list[Event]()
    listener = await admin(observer=told.append, token=TOKEN)
    wrong, here = (
        {"Authorization": "Bearer planted-secret"},
        {"Sec-Fetch-Site": "same-origin", "Origin": listener.origin},
    )
    for method, path, fields, more in (
        ("POST", "/api/cache/purge", wrong, {"data": b'{"all": true}'}),
        ("GET", "/api/status", wrong, {}),
        ("POST", "/page/token", here, {"data": {"token": "planted-secret"}}),
        ("POST", "/page/purge", here, {"data": {"page_token": "planted-secret"}}),
        ("POST", "/api/token/refresh", {"Origin": "https://evil.example"}, {}),
        ("GET", "/oauth/start", {}, {}),
        ("GET", "/page/session?link=planted-secret", {}, {}),
    ):
        assert (await listener.ask(method, path, fields, **more)).status in (401, 403)
    assert [(each.action, each.who, each.outcome) for each in of(told)] == [
        ("cache purge", "no credentials", "token_required"),
        ("read /api/status", "no credentials", "token_required"),
        ("page session", "no credentials", "refused"),
        ("cache purge", "no credentials", "refused"),
        ("token refresh", "no credentials", "cross_site"),
        ("login start", "no credentials", "refused"),
        ("page session", "no credentials", "refused"),
    ]
    assert "planted-secret" not in repr(of(told))


async def test_the_page_s_questions_are_no_changes_and_its_buttons_are(admin: Admin) -> None:
    told = list[Event]()
    listener = await admin(observer=told.append)
    cookie = await listener.let_in()
    here = cookie | {"Sec-Fetch-Site": "same-origin", "Origin": listener.origin}
    token = await listener.page_token(cookie, "/page/purge")
    told.clear()
    for what in ("", "stale", "all"):
        await listener.ask("POST", "/page/purge", here, data={"page_token": token, "what": what})
    await listener.ask("GET", "/oauth/start", cookie | {"Sec-Fetch-Site": "cross-site"})
    assert [(each.action, each.target, each.outcome) for each in of(told)] == [
        ("cache purge", "all, soft", "done"),
        ("cache purge", "all", "done"),
    ]


def test_a_target_names_what_is_meant_and_no_body() -> None:
    assert target_of({"all": True, "soft": True}) == "all, soft"
    assert target_of({"url": "/a", "data": "planted-secret", "soft": False, "n": 1}) == "url /a"
    assert target_of({}) == ""

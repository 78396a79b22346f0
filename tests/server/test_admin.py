"""The admin listener of contract §8: its paths, and who may ask for them."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from passoproxy.core.events import RequestRejected, TaskFailed
from passoproxy.errors import (
    AnswerUnusable,
    CommandFailure,
    ConfigurationError,
    Fault,
    ImportRefused,
    Overloaded,
    PairStoreFailure,
    PersonNeeded,
    ServiceUnreachable,
    TokenRequestUnsent,
    UsageFailure,
)
from passoproxy.server.admin import app as app_module
from passoproxy.server.admin.api import MOST_A_SECOND, server_sent
from passoproxy.server.admin.app import control_application, probe_application
from passoproxy.server.admin.sessions import PageSessions
from passoproxy.telemetry.live import Live
from tests.fakes import RememberingObserver
from tests.server.admin_clients import TOKEN, Admin, metrics
from tests.server.fake_daemon import FakeDaemon, OddFault, healthy, without_pair

CHANGES = ["/api/token/refresh", "/api/token/import", "/api/cache/purge", "/api/cache/warm", "/api/explain"]
BEARER = {"Authorization": f"Bearer {TOKEN}"}


# ---- probes ----------------------------------------------------------------------------------------------------------


async def test_healthz_and_readyz_need_no_host_and_no_token(admin: Admin) -> None:
    listener = await admin(token=TOKEN)
    for path, body in (("/healthz", "ok\n"), ("/readyz", "ready\n")):
        answer = await listener.ask("GET", path, {"Host": "evil.example"})
        assert (answer.status, await answer.text()) == (200, body)
        assert (await listener.ask("HEAD", path)).status == 200


@pytest.mark.parametrize(
    ("ready", "status", "body"),
    [
        ((True, "ready", ""), 200, "ready\n"),
        ((True, "degraded", "the chain is dead"), 200, "degraded: the chain is dead\n"),
        ((False, "unready", "starting"), 503, "unready: starting\n"),
    ],
)
async def test_readyz_says_the_word_and_the_reason(
    admin: Admin, ready: tuple[bool, str, str], status: int, body: str
) -> None:
    listener = await admin(FakeDaemon(ready=ready))
    answer = await listener.ask("GET", "/readyz")
    assert (answer.status, await answer.text()) == (status, body)
    assert ("Retry-After" in answer.headers) == (status == 503)


async def test_readyz_tells_the_runway_and_the_alert(admin: Admin) -> None:
    line = "runway 10 min, alert page, a person is needed by 2023-11-14T23:13:20Z"
    listener = await admin(FakeDaemon(outlook_line=line))
    assert await (await listener.ask("GET", "/readyz")).text() == f"ready\n{line}\n"


@pytest.mark.parametrize(
    ("query", "strict"), [("", False), ("?strict=1", True), ("?strict=0", False), ("?strict=true", True)]
)
async def test_readyz_strict(admin: Admin, query: str, strict: bool) -> None:
    listener = await admin()
    await listener.ask("GET", f"/readyz{query}")
    assert listener.daemon.calls == [("readiness", strict)]


async def test_metrics_negotiate_by_accept(admin: Admin) -> None:
    listener = await admin()
    answer = await listener.ask("GET", "/metrics", {"Accept": "application/openmetrics-text"})
    assert await answer.text() == "metrics for application/openmetrics-text"
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_the_probe_listener_has_nothing_else(aiohttp_client: Any) -> None:
    client = await aiohttp_client(probe_application(FakeDaemon(), metrics))
    for path, status in (("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404), ("/api/status", 404)):
        answer = await client.get(path, headers={"Host": "10.0.0.7:9000"})
        assert answer.status == status


# ---- Host ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status", "code"),
    [
        ("evil.example", 421, "host_not_allowed"),
        ("localhost.", 421, "host_not_allowed"),
        ("127.0.0.1.evil.example", 421, "host_not_allowed"),
        ("user@localhost", 400, "bad_request"),
        ("a b", 400, "bad_request"),
    ],
)
async def test_other_hosts_are_refused(admin: Admin, host: str, status: int, code: str) -> None:
    listener = await admin()
    for path in ("/", "/metrics", "/api/status", "/assets/page.css", "/oauth/start", "/oauth/callback", "/nowhere"):
        answer = await listener.ask("GET", path, {"Host": host})
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (status, code), path
    assert listener.daemon.calls == []


@pytest.mark.parametrize("host", ["LOCALHOST", "localhost:1", "127.0.0.1", "[::1]:8611"])
async def test_listed_hosts_are_accepted(admin: Admin, host: str) -> None:
    listener = await admin()
    assert (await listener.ask("GET", "/api/status", {"Host": host})).status == 200


async def test_the_refusal_names_the_line_that_would_allow_it(admin: Admin) -> None:
    listener = await admin()
    answer = await listener.ask("GET", "/", {"Host": "evil.example"})
    assert (await answer.json(content_type=None))["detail"].startswith("admin: {allowed_hosts: [localhost, ")


# ---- the admin token -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "without"),
    [
        ("/healthz", 200),
        ("/readyz", 200),
        ("/", 200),
        ("/assets/page.css", 200),
        ("/assets/page.js", 200),
        ("/assets/icon.svg", 200),
        ("/oauth/callback?state=x&code=y", 400),
        ("/metrics", 401),
        ("/api/status", 401),
        ("/api/cache/entries", 401),
        ("/oauth/start", 401),
    ],
)
async def test_what_needs_the_token(admin: Admin, path: str, without: int) -> None:
    listener = await admin(token=TOKEN)
    assert (await listener.ask("GET", path)).status == without
    for wrong in ("Bearer wrong", f"Basic {TOKEN}", f"Bearer{TOKEN}", "Bearer ", "Bearer \udcff"):
        assert (await listener.ask("GET", path, {"Authorization": wrong})).status == without
    if without == 401:
        assert (await listener.ask("GET", path, BEARER)).status in (200, 303)


async def test_urls_are_listed_whole_only_for_clients_that_may_change_things(admin: Admin) -> None:
    """As on the page, which masks queries."""
    url = "/p?lang=de"
    for token in (None, TOKEN):
        listener = await admin(FakeDaemon(listed=[{"url": url}] * 3), token=token)
        with_session = await listener.let_in()
        seen = {"session": with_session, "bearer" if token else "nothing": BEARER if token else {}}
        for name, headers in seen.items():
            listed = await (await listener.ask("GET", "/api/cache/entries", headers)).json()
            assert listed == [{"url": "/p?***" if name == "nothing" else url}] * 3


async def test_a_401_challenges(admin: Admin) -> None:
    listener = await admin(token=TOKEN)
    answer = await listener.ask("GET", "/api/status")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="passoproxy admin"'
    assert TOKEN not in await answer.text()


async def test_the_token_is_read_anew_for_each_request(admin: Admin) -> None:
    tokens = ["first-token-aaa", "second-token-bb"]
    listener = await admin()
    object.__setattr__(listener.access, "token", lambda: tokens[0])
    first = {"Authorization": f"Bearer {tokens[0]}"}
    assert (await listener.ask("GET", "/api/status", first)).status == 200
    del tokens[0]
    assert (await listener.ask("GET", "/api/status", first)).status == 401


async def test_the_page_asks_for_the_token_once_and_keeps_it_in_a_cookie(admin: Admin) -> None:
    listener = await admin(token=TOKEN)
    page = await (await listener.ask("GET", "/")).text()
    assert 'type="password"' in page
    assert "page_token" not in page
    assert "/api/v2/content" not in page
    here = {"Origin": listener.origin}
    wrong = await listener.ask("POST", "/page/token", here, data={"token": "wrong", "then": "/"})
    assert wrong.status == 401
    assert "Set-Cookie" not in wrong.headers
    answer = await listener.ask("POST", "/page/token", here, data={"token": f" {TOKEN}\n", "then": "/"})
    assert (answer.status, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie
    assert TOKEN not in cookie
    kept = {"Cookie": cookie.partition(";")[0]}
    assert await listener.page_token(kept)
    assert (await listener.ask("GET", "/api/status", kept)).status == 200
    assert (await listener.ask("GET", "/api/status", {"Cookie": kept["Cookie"] + "0"})).status == 401


@pytest.mark.parametrize("then", ["/oauth/start", "/oauth/start?elsewhere=1"])
async def test_from_the_tokens_form_the_browser_gets_to_the_provider(admin: Admin, then: str) -> None:
    """By a navigation of its own: `form-action 'self'` holds for every redirect of a form's answer, and would block the last one."""
    listener = await admin(token=TOKEN)
    here = {"Origin": listener.origin}
    assert f'name="then" value="{then}"' in await (await listener.ask("GET", then)).text()
    answer = await listener.ask("POST", "/page/token", here, data={"token": TOKEN, "then": then})
    assert (answer.status, answer.headers["Refresh"]) == (200, f"0; url={then}")
    assert "form-action 'self'" in answer.headers["Content-Security-Policy"]
    assert f'<a class="button primary" href="{then}">' in await answer.text()
    answer = await listener.ask("POST", "/page/token", here, data={"token": TOKEN, "then": "//evil.example"})
    assert answer.headers["Location"] == "/"
    assert "HttpOnly" in answer.headers["Set-Cookie"]


async def test_the_cookie_is_secure_behind_a_tls_terminator(admin: Admin) -> None:
    listener = await admin(token=TOKEN, public_url="https://admin.example")
    answer = await listener.ask("POST", "/page/token", {"Sec-Fetch-Site": "same-origin"}, data={"token": TOKEN})
    assert answer.headers["Location"] == "/"
    assert "Secure" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
)
async def test_the_token_form_is_taken_from_the_page_alone(admin: Admin, headers: dict[str, str]) -> None:
    listener = await admin(token=TOKEN)
    assert (await listener.ask("POST", "/page/token", headers, data={"token": TOKEN})).status == 403


# ---- changes ---------------------------------------------------------------------------------------------------------

PAGE, SESSION = "the page's token", "the page session's cookie"
GUARDS: list[tuple[str, bool, dict[str, str], int]] = [
    # what it is, is there an admin token, fields, refused with (0: let through)
    ("bare", False, {}, 403),
    ("bare, with a token file", True, {}, 401),
    ("bearer", True, BEARER, 0),
    ("wrong bearer", True, {"Authorization": "Bearer wrong"}, 401),
    ("bearer where none is configured", False, BEARER, 403),
    ("bearer from another site", True, BEARER | {"Sec-Fetch-Site": "cross-site"}, 403),
    ("bearer with another origin", True, BEARER | {"Origin": "https://evil.example"}, 403),
    ("page", False, {"Sec-Fetch-Site": "same-origin", "Cookie": SESSION, "X-Passoproxy-Page": PAGE}, 0),
    ("page, by Origin alone", False, {"Origin": "OWN", "Cookie": SESSION, "X-Passoproxy-Page": PAGE}, 0),
    ("page, https behind a terminator", False, {"Origin": "OWN-HTTPS", "Cookie": SESSION, "X-Passoproxy-Page": PAGE}, 0),
    ("page, beside an admin token", True, {"Sec-Fetch-Site": "same-origin", "Cookie": SESSION, "X-Passoproxy-Page": PAGE}, 0),
    ("page without a session", False, {"Sec-Fetch-Site": "same-origin", "Origin": "OWN", "X-Passoproxy-Page": PAGE}, 403),
    ("page token of another session", False, {"Sec-Fetch-Site": "same-origin", "Cookie": "ANOTHER", "X-Passoproxy-Page": PAGE}, 403),
    ("page token, no word of the browser", False, {"Cookie": SESSION, "X-Passoproxy-Page": PAGE}, 403),
    ("typed address", False, {"Sec-Fetch-Site": "none", "Cookie": SESSION, "X-Passoproxy-Page": PAGE}, 403),
    ("same origin, no page token", False, {"Sec-Fetch-Site": "same-origin", "Cookie": SESSION}, 403),
    ("same origin, wrong page token", False, {"Sec-Fetch-Site": "same-origin", "Cookie": SESSION, "X-Passoproxy-Page": "wrong"}, 403),
    ("same origin, empty page token", False, {"Sec-Fetch-Site": "same-origin", "Cookie": SESSION, "X-Passoproxy-Page": ""}, 403),
    ("cross-site", False, {"Sec-Fetch-Site": "cross-site", "Cookie": SESSION, "X-Passoproxy-Page": PAGE}, 403),
    ("same-site", False, {"Sec-Fetch-Site": "same-site", "Cookie": SESSION, "X-Passoproxy-Page": PAGE}, 403),
    ("other origin", False, {"Origin": "https://evil.example", "Cookie": SESSION, "X-Passoproxy-Page": PAGE}, 403),
    ("origin null", False, {"Origin": "null", "Cookie": SESSION, "X-Passoproxy-Page": PAGE}, 403),
    ("origin with another port", False, {"Origin": "http://127.0.0.1:1", "Cookie": SESSION, "X-Passoproxy-Page": PAGE}, 403),
    (
        "other origin that says same-origin",
        False,
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin", "Cookie": SESSION, "X-Passoproxy-Page": PAGE},
        403,
    ),
    ("page without the cookie", True, {"Sec-Fetch-Site": "same-origin", "X-Passoproxy-Page": PAGE}, 401),
]  # fmt: skip


@pytest.mark.parametrize(("what", "token", "headers", "refused"), GUARDS, ids=[row[0] for row in GUARDS])
async def test_who_may_change_something(
    admin: Admin, what: str, token: bool, headers: dict[str, str], refused: int
) -> None:
    observer = RememberingObserver()
    listener = await admin(token=TOKEN if token else None, observer=observer)
    session, another = await listener.let_in(), await listener.let_in()
    own = {
        "OWN": listener.origin,
        "OWN-HTTPS": f"https://{listener.authority}",
        PAGE: await listener.page_token(session),
        SESSION: session["Cookie"],
        "ANOTHER": another["Cookie"],
    }
    sent = {name: own.get(value, value) for name, value in headers.items()}
    for path in CHANGES:
        body = {"urls": ["/fetched"]} if path.endswith("/warm") else {"all": True}
        answer = await listener.ask("POST", path, sent, json=body)
        assert answer.status == (refused or 200), path
        if refused:
            assert answer.headers["Content-Type"] == "application/problem+json"
    if refused:
        assert listener.daemon.calls == []
        assert len(observer.of(RequestRejected)) == len(CHANGES)


async def test_the_cookie_alone_changes_nothing_and_with_the_page_token_it_does(admin: Admin) -> None:
    listener = await admin(token=TOKEN)
    unlocked = await listener.ask("POST", "/page/token", {"Origin": listener.origin}, data={"token": TOKEN})
    cookie = {"Cookie": unlocked.headers["Set-Cookie"].partition(";")[0]}
    assert (await listener.ask("POST", "/api/token/refresh", cookie)).status == 403
    assert (await listener.ask("POST", "/api/token/refresh", cookie | {"Sec-Fetch-Site": "same-origin"})).status == 403
    page = {"Sec-Fetch-Site": "same-origin", "X-Passoproxy-Page": await listener.page_token(cookie)}
    assert (await listener.ask("POST", "/api/token/refresh", cookie | page)).status == 200


async def test_a_page_token_of_another_daemon_is_worth_nothing(admin: Admin) -> None:
    listener = await admin()
    other = await listener.from_page() | {"X-Passoproxy-Page": "0" * 64}
    assert (await listener.ask("POST", "/api/cache/purge", other, json={"all": True})).status == 403


@pytest.mark.parametrize(
    ("path", "fields", "call", "location"),
    [
        ("/page/refresh", {}, ("refresh", False), "/?done=refreshed"),
        ("/page/purge", {"what": "all"}, ("purge", {"all": True}), "/?done=purged"),
        ("/page/logout", {}, ("logout", False), "/?done=logged-out"),
        ("/page/purge", {"what": "stale"}, ("purge", {"all": True, "soft": True}), "/?done=softened"),
    ],
)
async def test_the_buttons_of_the_page_work_without_scripts(
    admin: Admin, path: str, fields: dict[str, str], call: tuple[object, ...], location: str
) -> None:
    listener = await admin()
    cookie = await listener.let_in()
    here = cookie | {"Origin": listener.origin}
    for data in ({}, {"page_token": "wrong"}):
        assert (await listener.ask("POST", path, here, data=fields | data)).status == 403
    good = fields | {"page_token": await listener.page_token(cookie)}
    evil = cookie | {"Origin": "https://evil.example"}
    assert (await listener.ask("POST", path, evil, data=good)).status == 403
    assert (await listener.ask("POST", path, cookie, data=good)).status == 403
    without = await listener.ask("POST", path, {"Origin": listener.origin}, data=good)
    assert without.status == 403
    assert "passoproxy page --state /state" in await without.text()
    assert listener.daemon.calls == []
    answer = await listener.ask("POST", path, here, data=good)
    assert (answer.status, answer.headers["Location"]) == (303, location)
    assert listener.daemon.calls == [call]
    assert 'class="note good"' in await (await listener.ask("GET", location)).text()
    listener.daemon.fails = PersonNeeded("a person has to log in")
    failed = await listener.ask("POST", path, here, data=good)
    assert failed.status == 502
    said = await failed.text()
    assert "A person has to log in" in said
    assert '<a class="button" href="/oauth/start">Authorise</a>' in said
    listener.daemon.fails = ServiceUnreachable("the provider is away")
    failed = await listener.ask("POST", path, here, data=good)
    assert failed.status == 502
    said = await failed.text()
    assert "The provider is away" in said
    assert "/oauth/start" not in said


# ---- page sessions ---------------------------------------------------------------------------------------------------


async def test_a_link_lets_one_browser_in_once(admin: Admin) -> None:
    listener = await admin()
    link = listener.sessions.link()
    path = link.url.removeprefix(listener.origin)
    assert link.expires_at == listener.now + 600
    ahead = await listener.ask("GET", path, {"Sec-Purpose": "prefetch"})
    assert (ahead.status, "Set-Cookie" in ahead.headers) == (503, False)
    assert (await listener.ask("HEAD", path)).status == 405
    # a click in another site's page: the page is led to by a navigation of its own, so that the new cookie goes along
    answer = await listener.ask("GET", path, {"Sec-Fetch-Site": "cross-site"})
    assert (answer.status, answer.headers["Refresh"]) == (200, "0; url=/")
    assert '<a class="button primary" href="/">' in await answer.text()
    cookie = answer.headers["Set-Cookie"]
    for attribute in ("HttpOnly", "SameSite=Strict", "Path=/"):
        assert attribute in cookie
    for word in (path.partition("link=")[2], listener.guard.access.page_secret.decode()):
        assert word not in cookie
    again = await listener.ask("GET", path)
    assert (again.status, "Set-Cookie" in again.headers) == (403, False)
    assert "was used before, or is older than ten minutes" in await again.text()
    assert "passoproxy page --state /state" in await (await listener.ask("GET", "/page/session?link=x")).text()


async def test_links_end_after_ten_minutes_and_sessions_after_twelve_hours(admin: Admin) -> None:
    listener = await admin()
    late = listener.sessions.link().url.removeprefix(listener.origin)
    page = await listener.from_page()
    listener.now += 601
    assert (await listener.ask("GET", late)).status == 403
    assert (await listener.ask("POST", "/api/token/refresh", page)).status == 200
    listener.now += 12 * 3600
    refused = await listener.ask("POST", "/api/token/refresh", page)
    assert (refused.status, (await refused.json(content_type=None))["code"]) == (403, "session_required")
    assert "page_token" not in await (await listener.ask("GET", "/", page)).text()


async def test_a_restart_ends_sessions_and_links(admin: Admin) -> None:
    before = await admin()
    page, path = await before.from_page(), before.sessions.link().url.removeprefix(before.origin)
    listener = await admin()
    assert (await listener.ask("GET", path)).status == 403
    for name in ("passoproxy_page_", "passoproxy_admin_"):
        kept = f"{name}{listener.client.port}={page['Cookie'].partition('=')[2]}"
        assert (await listener.ask("POST", "/api/token/refresh", page | {"Cookie": kept})).status == 403


async def test_without_a_session_the_page_can_be_read_and_says_how_to_get_one(admin: Admin) -> None:
    listener = await admin()
    text = await (await listener.ask("GET", "/")).text()
    assert "<code>passoproxy page --state /state</code>" in text
    assert "/api/v2/content" in text
    for nothing in ("<form", "page_token"):
        assert nothing not in text
    buttons = re.findall(r'<a id="\w+" class="button[^"]*" href="(.*?)"', text)
    assert buttons == ["/page/purge", "/page/refresh", "/oauth/start", "/page/logout"]
    for way in (*buttons, "/page/why?request=1"):
        answer = await listener.ask("GET", way)
        assert answer.status == 403
        assert "<code>passoproxy page --state /state</code>" in await answer.text(), way
    assert listener.daemon.calls == []
    with_session = await (await listener.ask("GET", "/", await listener.let_in())).text()
    assert "passoproxy page" not in with_session
    for path in ("/oauth/start", "/oauth/start?elsewhere=1", "/page/purge"):
        refused = await listener.ask("GET", path)
        assert refused.status == 403
        assert "<code>passoproxy page --state /state</code>" in await refused.text()
    assert listener.daemon.calls == []


async def test_with_an_admin_token_a_link_stands_for_it(admin: Admin) -> None:
    listener = await admin(token=TOKEN)
    page = await listener.from_page()
    assert (await listener.ask("GET", "/api/status", page)).status == 200
    assert (await listener.ask("POST", "/api/token/refresh", page)).status == 200
    assert (await listener.ask("GET", "/page/purge")).status == 401


async def test_no_more_than_so_many_links_and_sessions_are_open(admin: Admin) -> None:
    listener = await admin()
    links = [listener.sessions.link().url.removeprefix(listener.origin) for _ in range(65)]
    answers = [(await listener.ask("GET", path)).status for path in links]
    assert (answers[0], answers[1:]) == (403, [200] * 64)


def test_a_page_on_a_unix_socket_or_none() -> None:
    pages = PageSessions(chance=lambda: "word")
    with pytest.raises(CommandFailure, match=r"admin\.listen is off"):
        pages.link()
    pages.address = "unix:/run/admin.sock"
    link = pages.link()
    assert (link.url, link.socket) == ("http://localhost/page/session?link=word", "/run/admin.sock")


async def test_emptying_the_cache_is_asked_about(admin: Admin) -> None:
    listener = await admin()
    cookie = await listener.let_in()
    page = await (await listener.ask("GET", "/page/purge", cookie)).text()
    assert "1,234 stored answers, 45.8 MiB" in page
    assert (
        page.index("Mark all as stale") < page.index('class="danger">Empty the cache') < page.index("Leave it as it is")
    )
    token = await listener.page_token(cookie, "/page/purge")
    here = cookie | {"Origin": listener.origin}
    for odd in ({}, {"what": ""}, {"what": "everything"}):  # a page from before, or nobody's
        asked = await listener.ask("POST", "/page/purge", here, data={"page_token": token, **odd})
        assert (asked.status, "Empty the cache?" in await asked.text()) == (200, True)
    assert listener.daemon.calls == []


@pytest.mark.parametrize(
    ("token", "origin", "said"),
    [
        ({}, {}, "What goes is fetched from the API again when it is asked for."),
        (
            {"access": "expired", "chain": "dead"},
            {},
            "nothing can be fetched now, and stored answers are all that clients get",
        ),
        ({"access": "none", "chain": "none"}, {}, "There is no usable access token"),
        ({"chain": "dead"}, {}, "only while the access token lasts"),
        ({}, {"state": "failing"}, "The API does not answer at present"),
    ],
)
async def test_what_emptying_the_cache_means_now(
    admin: Admin, token: dict[str, str], origin: dict[str, str], said: str
) -> None:
    document = healthy(**token)
    document["origin"] |= origin
    listener = await admin(FakeDaemon(document))
    assert said in await (await listener.ask("GET", "/page/purge", await listener.let_in())).text()


# ---- fields, errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/api/status", "/assets/page.css", "/nowhere", "/oauth/callback", "/metrics"]
)
async def test_every_answer_carries_the_protecting_fields(admin: Admin, path: str) -> None:
    listener = await admin()
    answer = await listener.ask("GET", path)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["Server"] == "passoproxy"
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/assets/../admin.py", 404, "not_found"),
        ("GET", "/assets/page.html", 404, "not_found"),
        ("POST", "/api/login/start", 404, "not_found"),
        ("POST", "/api/reload", 404, "not_found"),
        ("GET", "/api/token/export", 404, "not_found"),
        ("PUT", "/api/status", 405, "method_not_allowed"),
        ("OPTIONS", "/api/cache/purge", 405, "method_not_allowed"),
        ("HEAD", "/oauth/callback", 405, ""),
    ],
)
async def test_other_paths_and_methods(admin: Admin, method: str, path: str, status: int, code: str) -> None:
    listener = await admin()
    answer = await listener.ask(method, path)
    assert answer.status == status
    assert (status == 405) == ("Allow" in answer.headers)
    if code:
        problem = await answer.json(content_type="application/problem+json")
        assert problem["code"] == code
        assert problem["type"] == f"urn:passoproxy:problem:{code}"
        assert {"title", "status", "detail", "exit_code"} <= set(problem)


@pytest.mark.parametrize(
    ("fault", "status", "code", "exit_code"),
    [
        (UsageFailure("odd"), 400, "bad_request", 2),
        (PersonNeeded("log in"), 409, "authorization_required", 77),
        (ServiceUnreachable("away"), 503, "service_unreachable", 69),
        (ImportRefused("no"), 409, "import_refused", 1),
        (CommandFailure("no pair"), 422, "failed", 1),
        (TokenRequestUnsent("no route"), 502, "provider_unreachable", 69),
        (AnswerUnusable("no token in it"), 422, "answer_unusable", 1),
        (PairStoreFailure("disk full"), 500, "state_unwritable", 1),
        (Overloaded("busy", 7), 503, "overloaded", 1),
        (OddFault(""), 500, "internal_error", 1),
        (
            ConfigurationError(Fault("a.yaml:1", "x", "odd"), Fault("a.yaml:2", "y", "odd")),
            422,
            "configuration_error",
            78,
        ),
    ],
)
async def test_faults_become_problems_that_a_command_can_end_by(
    admin: Admin, fault: Exception, status: int, code: str, exit_code: int
) -> None:
    listener = await admin(FakeDaemon(fails=fault), token=TOKEN)
    answer = await listener.ask("POST", "/api/token/refresh", BEARER)
    problem = await answer.json(content_type=None)
    assert (answer.status, problem["code"], problem["exit_code"]) == (status, code, exit_code)
    assert "\n" not in problem["detail"]
    assert problem.get("faults") == (["a.yaml:1: x: odd", "a.yaml:2: y: odd"] if exit_code == 78 else None)
    assert answer.headers.get("Retry-After") == ("7" if code == "overloaded" else None)


async def test_an_unexpected_fault_shows_nothing_of_its_insides(admin: Admin) -> None:
    observer = RememberingObserver()
    listener = await admin(FakeDaemon(fails=KeyError("inner secret")), token=TOKEN, observer=observer)
    answer = await listener.ask("POST", "/api/token/refresh", BEARER)
    assert answer.status == 500
    assert "inner secret" not in await answer.text()
    assert observer.of(TaskFailed) == [TaskFailed("the admin listener", "KeyError at POST /api/token/refresh", "admin")]


async def test_a_body_that_does_not_arrive_and_a_fault_of_aiohttp(admin: Admin) -> None:
    for fault, status, code in (
        (TimeoutError(), 408, "request_timeout"),
        (web.HTTPUnsupportedMediaType(), 400, "bad_request"),
    ):
        listener = await admin(FakeDaemon(fails=fault), token=TOKEN)
        answer = await listener.ask("POST", "/api/token/refresh", BEARER)
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (status, code)


async def test_bodies_are_bounded(admin: Admin) -> None:
    listener = await admin(token=TOKEN)
    for path, size in (("/api/cache/purge", 1_100_000), ("/api/token/import", 70_000)):
        answer = await listener.ask("POST", path, BEARER, data=io.BytesIO(b"x" * size))
        assert (answer.status, (await answer.json(content_type=None))["code"]) == (413, "body_too_large")
    assert listener.daemon.calls == []


async def test_forms_are_bounded_before_anything_is_known_of_who_sends_them(admin: Admin) -> None:
    """Taking a form of a megabyte of fields to pieces would keep the loop from everything else for a second."""
    listener = await admin(token=TOKEN)
    here = {"Sec-Fetch-Site": "same-origin"}
    for path in ("/page/refresh", "/page/purge", "/oauth/paste", "/page/token"):
        for form, status in ((b"a&" * 50_000, 413), (b"a&" * 50, 400)):
            answer = await listener.ask("POST", path, here, data=io.BytesIO(form))
            assert answer.status == status, path
    assert listener.daemon.calls == []


async def test_assets_are_whole(admin: Admin) -> None:
    listener = await admin()
    for name, kind in (("page.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        answer = await listener.ask("GET", f"/assets/{name}")
        assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8"
        assert len(await answer.read()) > 400


async def test_the_page_of_a_daemon_without_a_pair(admin: Admin) -> None:
    listener = await admin(FakeDaemon(without_pair()))
    answer = await listener.ask("GET", "/", await listener.let_in())
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert 'href="/oauth/start"' in await answer.text()


async def test_control_sock_checks_nothing_because_the_kernel_did(aiohttp_client: Any) -> None:
    client = await aiohttp_client(control_application(FakeDaemon(), PageSessions(), metrics, Live().watch))
    answer = await client.post("/api/cache/purge", json={"all": True}, headers={"Host": "control"})
    assert (answer.status, await answer.json()) == (200, {"purged": 3})
    assert (await client.get("/healthz")).status == 200
    assert (await client.get("/metrics")).status == 200
    assert (await client.get("/")).status == 404


async def test_requests_are_told_as_they_come(admin: Admin) -> None:
    listener = await admin()
    answer = await listener.ask("GET", "/page/live")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert await answer.content.readuntil(b"\n\n") == b": it lives\n\n"
    listener.lines.put_nowait('{"number": 1}')
    assert await answer.content.readuntil(b"\n\n") == b'data: {"number": 1}\n\n'
    answer.close()


async def test_so_many_a_second_are_told_as_a_person_can_look_at() -> None:
    moments = iter([0.0] * (MOST_A_SECOND + 3) + [1.0, 1.0])

    async def lines() -> AsyncGenerator[str, None]:
        for number in range(MOST_A_SECOND + 3):
            yield str(number)
        for line in ("late", ""):
            yield line

    told = [event async for event in server_sent(lines(), now=lambda: next(moments))]
    assert told[MOST_A_SECOND - 1 :] == [
        f"data: {MOST_A_SECOND - 1}\n",
        "event: more\ndata: 3\n",
        "data: late\n",
        ": it lives\n",
    ]


async def test_only_so_many_pages_are_told_at_once(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_module, "MOST_PAGES", 1)
    listener = await admin()
    first = await listener.ask("GET", "/page/live")
    await first.content.readuntil(b"\n\n")
    second = await listener.ask("GET", "/page/live")
    assert (second.status, (await second.json())["code"]) == (503, "overloaded")
    first.close()


async def test_the_stream_needs_the_admin_token_where_there_is_one(admin: Admin) -> None:
    listener = await admin(token=TOKEN)
    assert (await listener.ask("GET", "/page/live")).status == 401
    evil = {"Sec-Fetch-Site": "cross-site"} | BEARER
    assert (await listener.ask("GET", "/page/live", evil)).status == 403


async def test_the_stream_ends_when_the_admin_token_is_changed(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    a_line_a_second = partial(server_sent, now=itertools.count(1).__next__)
    monkeypatch.setattr(app_module, "server_sent", a_line_a_second)
    listener = await admin(token=TOKEN)
    stream = await listener.ask("GET", "/page/live", BEARER)
    assert await stream.content.readuntil(b"\n\n") == b": it lives\n\n"
    listener.token = "another"
    listener.lines.put_nowait("not for this reader")
    assert await stream.content.readany() == b""


async def test_a_row_tells_why_to_a_browser_with_a_session(admin: Admin) -> None:
    listener = await admin(FakeDaemon(explained={"target": "/p?a=b", "outcome": "hit", "reasons": ["it is fresh"]}))
    answer = await listener.ask("GET", "/page/why?request=abc", await listener.let_in())
    text = await answer.text()
    assert "It is fresh" in text
    assert "/p?***: hit" in text
    assert listener.daemon.calls == [("why", "abc")]


async def test_icons_are_kept_by_the_browser_and_nothing_else_is(admin: Admin) -> None:
    listener = await admin()
    for path, kept in (("/assets/icon-bad.svg", "max-age=3600"), ("/assets/page.js", "no-store"), ("/", "no-store")):
        assert (await listener.ask("GET", path)).headers["Cache-Control"] == kept

"""Authorisation in the browser: each way it may go, and what guards it."""

from __future__ import annotations

import html

import pytest
from aiohttp import ClientResponse

from passoproxy.errors import CommandFailure
from tests.server.admin_clients import TOKEN, Admin, AdminListener
from tests.server.fake_daemon import PROVIDER

HERE = {"Sec-Fetch-Site": "same-origin"}


def lead_here(made: AdminListener, host: str = "127.0.0.1") -> None:
    """`oauth.redirect_url` is this listener, whose port is known only now."""
    object.__setattr__(made.access, "redirect_url", f"http://{host}:{made.client.port}/oauth/callback")


def cookie_of(answer: ClientResponse) -> dict[str, str]:
    return {"Cookie": answer.headers["Set-Cookie"].partition(";")[0]}


def called(made: AdminListener, name: str) -> list[tuple[object, ...]]:
    return [call for call in made.daemon.calls if call[0] == name]


# ---- start -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [HERE, {"Sec-Fetch-Site": "none"}, {}])
async def test_start_goes_to_the_provider_with_a_cookie(admin: Admin, headers: dict[str, str]) -> None:
    made = await admin()
    lead_here(made)
    answer = await made.ask("GET", "/oauth/start", headers | await made.let_in())
    assert (answer.status, answer.headers["Location"]) == (303, PROVIDER)
    cookie = answer.headers["Set-Cookie"]
    assert "SameSite=Lax" in cookie
    assert "HttpOnly" in cookie
    assert "Max-Age=600" in cookie
    assert "Path=/oauth" in cookie
    issued = made.daemon.logins["S1"] or ""
    assert issued in cookie
    assert len(issued) >= 40


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Referer": "https://evil.example/x"}],
)
async def test_start_from_another_site_asks_first(admin: Admin, headers: dict[str, str]) -> None:
    made = await admin()
    lead_here(made)
    session = await made.let_in()
    for cookie in (session, {}):  # a browser keeps the cookie back from another site
        answer = await made.ask("GET", "/oauth/start", headers | cookie)
        page = await answer.text()
        assert answer.status == 200
        assert "Set-Cookie" not in answer.headers
        assert "Another site sent you here" in page
    assert made.daemon.calls == []
    going_on = page.partition('class="button primary" href="')[2].partition('"')[0]
    assert (await made.ask("GET", going_on, HERE)).status == 403
    assert (await made.ask("GET", going_on, HERE | session)).headers["Location"] == PROVIDER


async def test_a_referer_of_our_own_is_no_other_site(admin: Admin) -> None:
    made = await admin()
    lead_here(made)
    assert (
        await made.ask("GET", "/oauth/start", {"Referer": f"{made.origin}/?done=purged"} | await made.let_in())
    ).status == 303


async def test_start_goes_first_to_the_authority_that_gets_the_redirect(admin: Admin) -> None:
    made = await admin()
    lead_here(made)
    host = f"localhost:{made.client.port}"
    assert (await made.ask("GET", "/oauth/start", HERE | {"Host": host})).status == 403
    answer = await made.ask("GET", "/oauth/start", HERE | {"Host": host} | await made.let_in(host))
    location = answer.headers["Location"]
    assert answer.status == 303
    assert location.startswith(f"{made.origin}/oauth/start?hop=")
    assert "Set-Cookie" not in answer.headers
    # From localhost to 127.0.0.1 is cross-site for a browser; the ticket vouches that it was us.
    then = await made.ask("GET", location.removeprefix(made.origin), {"Sec-Fetch-Site": "cross-site"})
    assert (then.status, then.headers["Location"]) == (303, PROVIDER)
    for forged in ("", "1", location[-1:], f"9{location.partition('hop=')[2]}"):
        assert (await made.ask("GET", f"/oauth/start?hop={forged}")).status == 403


async def test_the_ticket_stands_for_the_token_that_the_other_authority_was_shown(admin: Admin) -> None:
    made = await admin(token=TOKEN)
    lead_here(made)
    host = {"Host": f"localhost:{made.client.port}"}
    assert (await made.ask("GET", "/oauth/start", host)).status == 401
    answer = await made.ask("GET", "/oauth/start", host | {"Authorization": f"Bearer {TOKEN}"})
    then = await made.ask("GET", answer.headers["Location"].removeprefix(made.origin))
    assert then.headers["Location"] == PROVIDER
    made.now += 601
    assert (await made.ask("GET", answer.headers["Location"].removeprefix(made.origin))).status == 401


@pytest.mark.parametrize(
    "redirect",
    [
        "",
        "http://127.0.0.1:1/oauth/callback",
        "http://127.0.0.1:PORT/other",
        "https://app.example/oauth/callback",
        "http://a b:8611/oauth/callback",
    ],
)
async def test_where_the_redirect_does_not_lead_here_the_page_shows_the_address(admin: Admin, redirect: str) -> None:
    made = await admin()
    object.__setattr__(made.access, "redirect_url", redirect.replace("PORT", str(made.client.port)))
    answer = await made.ask("GET", "/oauth/start", HERE | await made.let_in())
    page = await answer.text()
    assert answer.status == 200
    assert PROVIDER.replace("&", "&amp;") in page
    assert 'action="/oauth/paste"' in page
    assert "SameSite=Lax" in answer.headers["Set-Cookie"]


async def test_a_public_url_counts_as_this_listener(admin: Admin) -> None:
    made = await admin(public_url="https://admin.example", allowed_hosts=("localhost", "127.0.0.1", "admin.example"))
    object.__setattr__(made.access, "redirect_url", "https://admin.example/oauth/callback")
    host = {"Host": "admin.example"}
    answer = await made.ask("GET", "/oauth/start", HERE | host | await made.let_in("admin.example"))
    assert (answer.status, answer.headers["Location"]) == (303, PROVIDER)
    assert "Secure" in answer.headers["Set-Cookie"]
    other = await made.ask("GET", "/oauth/start", HERE | await made.let_in())
    assert other.headers["Location"].startswith("https://admin.example/oauth/start?hop=")


async def test_whoever_wanted_the_address_alone_is_asked_first_too(admin: Admin) -> None:
    made = await admin()
    page = await (await made.ask("GET", "/oauth/start?elsewhere=1", {"Sec-Fetch-Site": "cross-site"})).text()
    going_on = html.unescape(page.partition('class="button primary" href="')[2].partition('"')[0])
    assert going_on == "/oauth/start?elsewhere=1"
    shown = await made.ask("GET", going_on, HERE | await made.let_in())
    assert PROVIDER in html.unescape(await shown.text())


async def test_a_login_that_cannot_begin_says_why(admin: Admin) -> None:
    made = await admin()
    lead_here(made)
    made.daemon.fails = CommandFailure("oauth.grant is static: there is nobody to ask")
    answer = await made.ask("GET", "/oauth/start", HERE | await made.let_in())
    assert answer.status == 422
    assert "oauth.grant is static" in await answer.text()


# ---- callback --------------------------------------------------------------------------------------------------------


async def test_the_browser_that_began_completes_once(admin: Admin) -> None:
    made = await admin()
    lead_here(made)
    cookie = cookie_of(await made.ask("GET", "/oauth/start", HERE | await made.let_in()))
    answer = await made.ask("GET", "/oauth/callback?code=c&state=S1", cookie | {"Sec-Fetch-Site": "cross-site"})
    assert answer.status == 200
    assert "Authorised" in await answer.text()
    assert "Max-Age=0" in answer.headers["Set-Cookie"]
    assert called(made, "complete_login") == [("complete_login", "code=c&state=S1", made.daemon.calls[0][1])]
    again = await made.ask("GET", "/oauth/callback?code=c&state=S1", cookie)
    assert again.status == 400
    assert "used already" in await again.text()


@pytest.mark.parametrize(
    ("query", "cookie", "status", "words"),
    [
        ("code=c&state=S1", "", 400, "another browser"),
        ("code=c&state=S1", "wrong value", 400, "another browser"),
        ("code=c&state=other", "right", 400, "not known"),
        ("code=c", "right", 400, "not known"),
        ("", "right", 400, "not known"),
        ("error=access_denied&state=S1", "right", 409, "access_denied"),
        ("&".join(["state=x"] * 100), "right", 400, "not known"),
    ],
)
async def test_what_is_refused_at_the_callback(admin: Admin, query: str, cookie: str, status: int, words: str) -> None:
    made = await admin()
    lead_here(made)
    right = cookie_of(await made.ask("GET", "/oauth/start", HERE | await made.let_in()))
    name = right["Cookie"].partition("=")[0]
    sent = {"": {}, "right": right, "wrong value": {"Cookie": f"{name}=wrong"}}[cookie]
    answer = await made.ask("GET", f"/oauth/callback?{query}", sent)
    assert answer.status == status
    page = await answer.text()
    assert words in page
    assert 'href="/oauth/start"' in page


async def test_a_login_of_the_command_needs_no_cookie(admin: Admin) -> None:
    made = await admin(token=TOKEN)
    await made.daemon.begin_login()
    assert (await made.ask("GET", "/oauth/callback?code=c&state=S1")).status == 200
    assert called(made, "complete_login") == [("complete_login", "code=c&state=S1", None)]


async def test_nothing_of_the_query_becomes_markup(admin: Admin) -> None:
    made = await admin()
    made.daemon.fails = CommandFailure("the provider says <script>alert(1)</script>")
    page = await (await made.ask("GET", "/oauth/callback?error=%3Cscript%3E&state=S1")).text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


# ---- paste -----------------------------------------------------------------------------------------------------------


async def test_the_address_for_another_machine_and_the_field_for_what_comes_back(admin: Admin) -> None:
    made = await admin()
    lead_here(made)
    session = await made.let_in()
    shown = await made.ask("GET", "/oauth/start?elsewhere=1", HERE | session)
    assert shown.status == 200
    assert PROVIDER.replace("&", "&amp;") in await shown.text()
    login, here = cookie_of(shown), {"Origin": made.origin}
    cookie = {"Cookie": f"{session['Cookie']}; {login['Cookie']}"}
    data = {
        "page_token": await made.page_token(session),
        "url": "http://127.0.0.1:8611/oauth/callback?code=c&state=S1",
    }
    for refused in ({}, {"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert (await made.ask("POST", "/oauth/paste", cookie | refused, data=data)).status == 403
    assert (await made.ask("POST", "/oauth/paste", cookie | here, data={**data, "page_token": ""})).status == 403
    assert (await made.ask("POST", "/oauth/paste", login | here, data=data)).status == 403
    assert called(made, "complete_login") == []
    odd = await made.ask("POST", "/oauth/paste", cookie | here, data={**data, "url": "nonsense"})
    assert odd.status == 400
    assert "whole redirected URL" in await odd.text()
    answer = await made.ask("POST", "/oauth/paste", cookie | here, data=data)
    assert answer.status == 200
    assert "Authorised" in await answer.text()

"""The authorization endpoint (RFC 6749 §4.1.1, §4.1.2.1): page, form, redirects and refusals."""

from urllib.parse import parse_qs, urlsplit

import pytest

from passoproxy.sandbox.provider import authorize
from passoproxy.sandbox.provider.authorize import allowed, extended, is_loopback
from tests.sandbox.conftest import CALLBACK, Answer, Form, Stand, Started


def sent_back(answer: Answer) -> dict[str, str]:
    """The parameters of a redirect to the application."""
    assert answer.status == 302, answer
    address = answer.headers["Location"]
    assert address.startswith(CALLBACK), address
    return {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}


async def test_the_page_is_a_form_that_tells_who_asks(stand: Stand) -> None:
    page = await stand.page()
    form = Form(page.text)
    assert (page.status, form.method, form.action) == (200, "post", "/oauth/authorize")
    assert set(form.decisions) == {"approve", "deny"}
    assert form.fields["state"] == "st&te"
    assert page.headers["Cache-Control"] == "no-store"
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    for text in ("demo", "127.0.0.1:8611", "agent@sandbox.example"):
        assert text in page.text


@pytest.mark.parametrize(
    ("prefix", "language", "button"), [("", "en", "Approve"), ("/en", "en", "Approve"), ("/de", "de", "Zustimmen")]
)
async def test_the_older_paths_work_in_their_language(stand: Stand, prefix: str, language: str, button: str) -> None:
    page = await stand.page(prefix)
    assert f'<html lang="{language}">' in page.text
    assert button in page.text
    assert "code" in sent_back(await stand.decide(page))


async def test_what_each_decision_brings(stand: Stand) -> None:
    back = sent_back(await stand.decide(await stand.page(), account="office@sandbox.example"))
    assert (back["code"][:3], back["state"], stand.last().outcome) == ("def", "st&te", "approved")
    assert stand.tokens()[0]["subject"] == "office@sandbox.example"
    back = sent_back(await stand.decide(await stand.page(), "deny"))
    assert (back["error"], back["state"], "code" in back) == ("access_denied", "st&te", False)
    assert back["error_description"]


async def test_a_page_is_good_for_one_decision(stand: Stand) -> None:
    page = await stand.page()
    await stand.decide(page)
    again = await stand.decide(page)
    assert (again.status, again.headers.get("Location")) == (400, None)
    assert "used already" in again.text


async def test_a_page_is_good_for_ten_minutes(stand: Stand) -> None:
    page = await stand.page()
    await stand.clock.advance(600)
    assert (await stand.decide(page)).status == 400


async def test_a_form_that_cannot_be_understood_decides_nothing(stand: Stand) -> None:
    page = await stand.page()
    for decision, more in (
        ("perhaps", {}),
        ("approve", {"account": "nobody@sandbox.example"}),
        ("approve", {"transaction": "x"}),
    ):
        assert (await stand.decide(page, decision, **more)).status == 400
    assert "code" in sent_back(await stand.decide(page))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"client_id": "other"}, "other"),
        ({"client_id": None}, "client id"),
        ({"client_id": "<b>x</b>"}, "&lt;b&gt;"),
        ({"redirect_uri": None}, "missing"),
        ({"redirect_uri": "https://evil.example/"}, "evil.example"),
        ({"redirect_uri": "http://127.0.0.1:80/#x"}, "loopback"),
        ({"redirect_uri": "javascript:alert(1)"}, "loopback"),
        ({"redirect_uri": "http://user@127.0.0.1/"}, "loopback"),
        ({"redirect_uri": "http://127.0.0.1:x/"}, "loopback"),
    ],
)
async def test_what_must_not_redirect_is_a_page(stand: Stand, changes: dict[str, str | None], words: str) -> None:
    page = await stand.page(**changes)
    assert (page.status, page.headers.get("Location")) == (400, None)
    assert words in page.text
    assert "<b>x" not in page.text


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": None}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": '"'}, "invalid_scope"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "S512"}, "invalid_request"),
    ],
)
async def test_other_faults_go_back_to_the_application(
    stand: Stand, changes: dict[str, str | None], error: str
) -> None:
    back = sent_back(await stand.page(**changes))
    assert (back["error"], back["state"]) == (error, "st&te")


async def test_repeated_parameters_are_refused(stand: Stand) -> None:
    query = f"client_id=demo&redirect_uri={CALLBACK}&response_type=code&scope=a&scope=b"
    assert sent_back(await stand.ask(f"/oauth/authorize?{query}"))["error"] == "invalid_request"
    twice = f"client_id=demo&redirect_uri={CALLBACK}&redirect_uri={CALLBACK}"
    assert (await stand.ask(f"/oauth/authorize?{twice}")).status == 400


@pytest.mark.parametrize("scope", [None, "", "*", "travel-details", "travel-details content:read"])
async def test_usual_scopes_are_taken(stand: Stand, scope: str | None) -> None:
    page = await stand.page(scope=scope)
    assert page.status == 200
    for word in (scope or "").split():
        assert word in page.text


async def test_a_single_registered_address_need_not_be_named(started: Started) -> None:
    stand = await started(redirect_uris=("https://app.example/back?x=1",))
    back = await stand.decide(await stand.page(redirect_uri=None))
    assert back.headers["Location"].startswith("https://app.example/back?x=1&code=")
    assert (await stand.page(redirect_uri=CALLBACK)).status == 400


async def test_memory_of_open_pages_is_bounded(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authorize, "MAX_OPEN_PAGES", 1)
    first, _ = await stand.page(), await stand.page()
    assert (await stand.decide(first)).status == 400


@pytest.mark.parametrize(
    ("address", "registered", "right"),
    [
        ("http://127.0.0.1:1/x", (), True),
        ("http://[::1]:1/x", (), True),
        ("http://localhost/", (), True),
        ("https://127.0.0.1/", (), False),
        ("http://10.0.0.1/", (), False),
        ("http://127.0.0.1.evil.example/", (), False),
        ("http:///x", (), False),
        ("ftp://127.0.0.1/", (), False),
        ("http://127.0.0.1:1/x", ("http://127.0.0.1:2/x",), True),
        ("http://127.0.0.1:1/y", ("http://127.0.0.1:2/x",), False),
        ("https://app.example/a", ("https://app.example/a",), True),
        ("https://app.example:444/a", ("https://app.example/a",), False),
    ],
)
def test_allowed(address: str, registered: tuple[str, ...], right: bool) -> None:
    assert allowed(address, registered) is right


def test_loopback() -> None:
    assert all(map(is_loopback, ("localhost", "127.9.9.9", "::1")))
    assert not any(map(is_loopback, ("example.org", "")))


def test_parameters_are_added_to_what_is_there() -> None:
    assert extended("http://h/p", {"a": "1 &", "b": None}) == "http://h/p?a=1+%26"
    assert extended("http://h/p?x=1", {"a": "1"}) == "http://h/p?x=1&a=1"

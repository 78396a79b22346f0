"""The journal: everything that arrived, nothing that is secret, in bounded memory."""

import base64
import json

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from passoproxy.sandbox.journal import Journal, cover_header, cover_query, fingerprint
from tests.sandbox.conftest import VERIFIER, Stand, Started, secrets_in


def arrived(journal: Journal, target: str = "/", *headers: tuple[str, str]) -> None:
    journal.arrived("GET", target, CIMultiDictProxy(CIMultiDict(headers)))


def test_a_fingerprint_is_the_first_16_digits_of_sha256() -> None:
    assert fingerprint("abc") == "sha256:ba7816bf8f01cfea"


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("Authorization", "Bearer abc", "Bearer sha256:ba7816bf8f01cfea"),
        ("authorization", "Basic abc", "Basic sha256:ba7816bf8f01cfea"),
        ("Authorization", "abc", "sha256:ba7816bf8f01cfea"),
        ("Cookie", "abc", "sha256:ba7816bf8f01cfea"),
        ("X-Passoproxy-Key", "abc", "sha256:ba7816bf8f01cfea"),
        ("X-Api-Token", "abc", "sha256:ba7816bf8f01cfea"),
        ("Accept", "abc", "abc"),
    ],
)
def test_credentials_in_headers_are_covered(name: str, value: str, shown: str) -> None:
    assert cover_header(name, value) == shown


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", ""),
        ("a=1&b=%20&c&&d=", "a=1&b=%20&c&&d="),
        ("code=abc&x=1", "code=sha256:ba7816bf8f01cfea&x=1"),
        ("acces%73_token=abc", "acces%73_token=sha256:ba7816bf8f01cfea"),
        ("code_challenge=abc", "code_challenge=abc"),
    ],
)
def test_secrets_in_queries_are_covered_and_the_rest_stays_byte_for_byte(query: str, shown: str) -> None:
    assert cover_query(query) == shown


def test_memory_is_bounded_and_indexes_go_on() -> None:
    journal = Journal(3, lambda: 5.0)
    for number in range(5):
        arrived(journal, f"/{number}")
    assert [entry.path for entry in journal.requests()] == ["/2", "/3", "/4"]
    assert [entry.index for entry in journal.requests(4)] == [4]
    assert journal.requests(99) == []
    journal.clear()
    assert (journal.requests(), journal.next_index) == ([], 5)


def test_repeated_headers_are_joined_and_a_bare_question_mark_is_kept() -> None:
    journal = Journal(3, lambda: 5.0)
    arrived(journal, "/x?", ("Accept", "a"), ("Accept", "b"))
    (entry,) = journal.requests()
    assert (entry.path, entry.query, entry.target, entry.headers) == ("/x", "", "/x?", {"Accept": "a, b"})


async def test_over_http_it_tells_what_arrived_and_pages(stand: Stand) -> None:
    await stand.api("/languages?limit=1", headers={"X-Case": "kept"})
    await stand.ask("/api/v2/account/subscription", headers={"Authorization": "Bearer wrong"})
    await stand.ask("/api/v2/health?x=%41?")
    journal = (await stand.ask("/__sandbox/journal")).json
    first, second, third = journal["requests"]
    assert (first["method"], first["path"], first["query"], first["status"]) == (
        "GET",
        "/api/v2/languages",
        "limit=1",
        200,
    )
    assert first["headers"]["X-Case"] == "kept"
    assert first["headers"]["Authorization"] == f"Bearer {fingerprint(stand.token)}"
    assert first["time"] == stand.clock.wall()
    assert [each["token_valid"] for each in journal["requests"]] == [True, False, None]
    assert (second["status"], third["target"]) == (401, "/api/v2/health?x=%41?")
    assert {each["kind"] for each in journal["tokens"]} == {"access", "refresh"}
    assert journal["next"] == 3
    later = (await stand.ask("/__sandbox/journal?since=2")).json
    assert [each["index"] for each in later["requests"]] == [2]
    assert (await stand.ask("/__sandbox/journal?since=-1")).status == 400


async def test_it_holds_no_secret_whatever_was_sent(stand: Stand) -> None:
    code = await stand.code()
    pair = (await stand.exchange(code)).json
    basic = base64.b64encode(b"demo:demo").decode()
    await stand.ask(
        "/oauth/token",
        "POST",
        data={"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]},
        headers={"Authorization": f"Basic {basic}", "Cookie": "session=planted-cookie"},
    )
    await stand.ask(f"/api/v2/health?access_token={pair['access_token']}")
    link = (await stand.api("/auth/login/generate_link")).json["link"]
    await stand.ask(link["url"])
    text = (await stand.ask("/__sandbox/journal")).text
    assert secrets_in(text) == []
    for secret in (basic, VERIFIER, "planted-cookie", link["token"], code):
        assert secret not in text
    exchange = next(each for each in json.loads(text)["requests"] if each["grant_type"] == "authorization_code")
    assert exchange["code"] == fingerprint(code)
    assert exchange["body_sha256"] is None


async def test_clearing_forgets_the_record_but_not_the_tokens(stand: Stand) -> None:
    await stand.api("/languages")
    assert (await stand.ask("/__sandbox/journal", "DELETE")).status == 204
    assert (await stand.ask("/__sandbox/journal")).json == {"requests": [], "tokens": [], "next": 1}
    assert (await stand.api("/account/subscription")).status == 200


async def test_the_record_of_tokens_is_bounded(started: Started) -> None:
    stand = await started(journal_size=4)
    for _ in range(10):
        stand.sandbox.issue_pair()
    assert len(stand.sandbox.journal.tokens()) == 4


async def test_bodies_are_noted_by_digest(stand: Stand) -> None:
    await stand.api("/destinations", "POST", data=b'{"language":"en"}', headers={"Content-Type": "application/json"})
    assert (stand.last().body_bytes, stand.last().body_sha256) == (17, fingerprint('{"language":"en"}')[7:])


async def test_a_long_journal_arrives_whole(stand: Stand) -> None:
    for number in range(1200):
        arrived(stand.sandbox.journal, f"/{number}")
    found = (await stand.ask("/__sandbox/journal")).json
    assert [each["index"] for each in found["requests"]] == list(range(1200))

"""What may be said aloud: every way a secret could slip out, and what must stay readable."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.core.redaction import MASK, MAX_TEXT, QueryMode, Redactor

JWT = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiI0MiIsImp0aSI6IjAwIn0.c2lnbmF0dXJlLXBhcnQ"
REFRESH = "def50200" + "0a1b2c3d4e5f" * 12
SECRET = 'p/l"ain & simple=secret'


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (f"answer was {JWT}", "eyJ"),
        (f"{JWT[:40]}", "eyJ"),
        (f"token {REFRESH} is spent", "def50200"),
        (f"DEF50200{'AB' * 20}", "ABAB"),
        ("Authorization: Bearer abcdef123", "abcdef123"),
        ("authorization=Basic Zm9vOmJhcg==", "Zm9vOmJhcg"),
        ('{"Authorization": "Custom with spaces"}', "Custom"),
        ("sent bearer opaque-token-1", "opaque-token-1"),
        ("Bearer%20opaque-token-1", "opaque-token-1"),
        ("Basic Zm9vOmJhcg==", "Zm9vOmJhcg"),
        ("Cookie: session=1; other=2", "session"),
        ("Set-Cookie: a=b", "a=b"),
        ("X-Passoproxy-Key: k", ": k"),
        ("/oauth/callback?code=abc123&state=1", "abc123"),
        ("client_secret=hush&x=1", "hush"),
        ("grant_type=refresh_token&refresh_token=r-1", "r-1"),
        ('{"access_token": "a-1", "expires_in": 3600}', "a-1"),
        ('{"refresh_token" : "with \\" quote"}', "quote"),
        ('{"access_token": "cut of', "cut of"),
        ('"{\\"access_token\\": \\"a\\/1\\"}"', "a\\/1"),
        ("{'client_secret': 'hush'}", "hush"),
        ("https://user:pass@proxy.example:3128/", "pass"),
        ("socks5://user@proxy.example", "user@"),
        ("x_code=1 client-code=hush", "hush"),
    ],
)
def test_secrets_known_by_shape_or_name_are_masked(text: str, hidden: str) -> None:
    said = Redactor().text(text)
    assert hidden not in said
    assert MASK in said


@pytest.mark.parametrize(
    "text",
    [
        "access token renewed, generation 7",
        "the bearer is gone",
        "token: none",
        "GET /api/v2/languages 200 hit",
        "https://api.passolution.eu/api/v2?lang=de",
        "definitely defined",
        "a mail to someone@example.com",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert Redactor(["demo", "a-longer-secret"]).text(text) == text


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET)[1:-1].replace("/", "\\/"),
        *(base64.b64encode(f"{who}{SECRET}:x".encode()).decode()[at:] for who, at in (("", 0), ("a", 2), ("ab", 3))),
    ],
)
def test_a_known_secret_is_masked_in_every_spelling(spelling: str) -> None:
    assert Redactor([SECRET]).text(f"before {spelling} after").startswith(f"before {MASK}")


def test_a_short_secret_is_masked_only_as_a_word_and_a_tiny_one_never() -> None:
    redactor = Redactor(["demo", "a", ""])
    assert redactor.text("demo demonstrates a demo.") == f"{MASK} demonstrates a {MASK}."


def test_a_longer_secret_goes_before_its_own_beginning() -> None:
    assert Redactor(["abcdefgh", "abcdefgh-and-more"]).text("abcdefgh-and-more") == MASK


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("full", "/p?lang=de&code=***&bare&State=***&a=b=c&new_password=***"),
        ("names", "/p?lang=***&code=***&bare&State=***&a=***&new_password=***"),
        ("none", "/p"),
    ],
)
def test_targets_follow_log_query(mode: QueryMode, expected: str) -> None:
    assert Redactor(query=mode).target("/p?lang=de&code=abc&bare&State=xyz&a=b=c&new_password=x") == expected


def test_targets_without_query_and_with_an_encoded_name() -> None:
    assert Redactor().target("/p") == "/p"
    assert Redactor(query="full").target("/p?") == "/p?"
    assert Redactor(query="full").target("/p?client%5Fsecret=hush") == f"/p?client%5Fsecret={MASK}"


def test_fields_hide_credentials_and_keep_order() -> None:
    fields = [("Accept", "*/*"), ("COOKIE", "a=b"), ("X-Note", f"got {JWT}"), ("Accept", "text/html")]
    assert Redactor().fields(fields) == [
        ("Accept", "*/*"),
        ("COOKIE", MASK),
        ("X-Note", f"got {MASK}"),
        ("Accept", "text/html"),
    ]


def test_long_texts_are_cut_without_showing_half_a_secret() -> None:
    said = Redactor([SECRET]).text("x" * (MAX_TEXT - 5) + SECRET + "tail" * 1000)
    assert len(said) <= MAX_TEXT + 1
    assert said.endswith("…")
    assert SECRET[:5] not in said


@pytest.mark.parametrize(
    "hostile", ["bearer " * 9000, 'a"token":"\\' * 9000, "eyJ" * 50000, "x://" * 9000, "code=" * 20000]
)
def test_hostile_texts_cost_little(hostile: str) -> None:
    begun = time.thread_time()
    Redactor([SECRET]).text(hostile)
    assert time.thread_time() - begun < 2


@settings(max_examples=50, deadline=None)
@given(
    st.text(), st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40), st.text()
)
def test_a_known_secret_never_comes_out(before: str, secret: str, after: str) -> None:
    said = Redactor([secret]).text(f"{before} {secret} {after}")
    assert secret not in said or secret in MASK or secret in f"{before} {MASK} {after}"


@pytest.mark.parametrize("before", ["/", "/?a&"])
def test_a_known_secret_at_the_end_of_a_long_target_is_not_cut_in_two(before: str) -> None:
    redactor = Redactor(["supersecretvalue1"], "full")
    for shown in range(1, 17):
        target = before + "x" * (MAX_TEXT - len(before) - shown) + "supersecretvalue1 and more"
        assert "s" not in redactor.target(target)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (
            {"access_token": "a", "refreshToken": "b", "password": 1234},
            {"access_token": MASK, "refreshToken": MASK, "password": MASK},
        ),
        (
            {"code": "NO", "key": "short", "state": 5, "token": None},
            {"code": "NO", "key": "short", "state": 5, "token": None},
        ),
        ({"code": "0123456789abcdef", "Authorization": "x"}, {"code": MASK, "Authorization": MASK}),
        ({"password": ["a", {"b": "c"}], "secret": True}, {"password": [MASK, {"b": "c"}], "secret": True}),
        ([f"Bearer {'a1' * 12}", JWT, SECRET, 5, 1.5], [f"Bearer {MASK}", MASK, MASK, 5, 1.5]),
        ({SECRET: "a"}, {MASK: "a"}),
        (
            {
                "password_confirmation": "a",
                "newPassword": "b",
                "X-Auth-Token": "c",
                "private_key": "d",
                "pwd": "e",
                "_token": "f" * 16,
            },
            dict.fromkeys(
                ("password_confirmation", "newPassword", "X-Auth-Token", "private_key", "pwd", "_token"), MASK
            ),
        ),
        (
            {"nextPageToken": "p2", "passwords": 2, "countryCode": "f" * 16},
            {"nextPageToken": "p2", "passwords": 2, "countryCode": "f" * 16},
        ),
        (
            {
                "state": "Baden-Württemberg",
                "key": "Schleswig-Holstein",
                "code": "aBcdefghijklmnop",
                "token": "abcdefghijklmnop",
            },
            {"state": "Baden-Württemberg", "key": "Schleswig-Holstein", "code": MASK, "token": MASK},
        ),
        (
            '"state": "Mecklenburg-Western Pomerania" "state": "Schleswig-Holstein" "key": "0123456789abcdef"',
            f'"state": "Mecklenburg-Western Pomerania" "state": "Schleswig-Holstein" "key": "{MASK}"',
        ),
        ('{"token": "0123456789abcdef", "code": "NO"}\n{}', f'{{"token": "{MASK}", "code": "NO"}}\n{{}}'),
        (
            '<s:password a="b">hush</s:password><a password="hush"/>',
            f'<s:password a="b">{MASK}</s:password><a password="{MASK}"/>',
        ),
        ("a basic requirement of nationals", "a basic requirement of nationals"),
        ("<user><password>hush</password></user>", f"<user><password>{MASK}</password></user>"),
        (
            {"query": 'mutation { login(password: "hush \\" it", lang: "en") }'},
            {"query": f'mutation {{ login(password: "{MASK}", lang: "en") }}'},
        ),
        ("password: a basic requirement", "password: a basic requirement"),
        ("https://x/?code=DE&access_token=a", f"https://x/?code=DE&access_token={MASK}"),
    ],
)
def test_recorded_values_lose_what_is_surely_a_credential(value: object, shown: object) -> None:
    redactor = Redactor([SECRET])
    assert redactor.json(value) == shown
    assert redactor.json(shown) == shown


def test_recorded_texts_are_masked_whole() -> None:
    long = "x " * MAX_TEXT
    assert Redactor().content(f"{long}{REFRESH} user:p@x") == f"{long}{MASK} user:p@x"


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("access%5Ftoken=a&lang=en", f"access%5Ftoken={MASK}&lang=en"),
        ("user[password]=a&password%5B0%5D=b", f"user[password]={MASK}&password%5B0%5D={MASK}"),
        ("code=DE&code=0123456789abcdef", f"code=DE&code={MASK}"),
        (
            "state=Baden-W%C3%BCrttemberg&state=North%20Rhine-Westphalia",
            "state=Baden-W%C3%BCrttemberg&state=North%20Rhine-Westphalia",
        ),
        ("state=abc%2Dabcdefghijkl1", f"state={MASK}"),
        ("a=x&=&b&my_api_key=c", f"a=x&=&b&my_api_key={MASK}"),
        ("", ""),
    ],
)
def test_parameters_are_masked_by_their_names(query: str, shown: str) -> None:
    assert Redactor().parameters(query) == shown
    assert Redactor().parameters(shown) == shown


@pytest.mark.parametrize("before", [65536 - 40, 65536 - 1, 65536, 65536 + 30])
def test_long_texts_are_masked_wherever_the_credential_stands(before: int) -> None:
    said = f" Bearer {'a1' * 20} password=hush {SECRET}, " * 2
    shown = f" Bearer {MASK} password={MASK} {MASK}, " * 2
    for end in ("", "y" * 70_000):
        assert Redactor([SECRET]).content("x" * before + said + end) == "x" * before + shown + end

"""Token answers in every odd form that providers send (contract §4)."""

from __future__ import annotations

import base64
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.settings import Terms
from passoproxy.core.oauth.token_response import claims_of, parsed, read_answer, subject_of, told_lifetime, words_with
from passoproxy.errors import AnswerUnusable

NOW = 1_700_000_000.0
BEFORE = Pair(
    "old", "def-old", NOW - 100, NOW + 500, NOW + 500, 600.0, "a b", "sub-1", 4, "login", "salt-0", "issuer-0"
)


def jwt(**claims: object) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJh.{middle}.sig"


def read(
    words: object, *, grant: str = "refresh_token", previous: Pair | None = BEFORE, terms: Terms | None = None
) -> Pair:
    body = words if isinstance(words, bytes) else json.dumps(words).encode()
    return read_answer(body, "application/json", NOW, grant, previous, terms or Terms(), "salt-new")


def test_a_plain_answer():
    pair = read(
        {"access_token": "a", "refresh_token": "def-b", "expires_in": 3600, "token_type": "Bearer", "scope": "*"},
        grant="authorization_code",
    )
    assert pair == Pair("a", "def-b", NOW, NOW + 3600, NOW + 3600, 3600.0, "*", None, 5, "login", "salt-new", "")


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [(3600, 3600.0), ("3600", 3600.0), (" 3600 ", 3600.0), (59.5, 59.5), ("59.5", 59.5), (31536000, 31536000.0)],
)
def test_usable_lifetimes(expires_in, lifetime):
    assert read({"access_token": "a", "expires_in": expires_in}).access_until == NOW + lifetime


def test_a_number_of_thousands_of_digits_costs_nothing_beside_it():
    digits = "9" * 5000
    claims = base64.urlsafe_b64encode(f'{{"sub": 7, "exp": {digits}}}'.encode()).decode().rstrip("=")
    token = f"eyJh.{claims}.sig"
    pair = read(f'{{"access_token": "{token}", "refresh_token": "def-b", "expires_in": {digits}}}'.encode())
    assert (pair.access_token, pair.refresh_token, pair.lifetime) == (token, "def-b", 600.0)
    assert subject_of({"access_token": token}) == "7"


UNUSABLE = [None, 0, "0", -5, "-5", 1e300, 10**400, "1e999", "soon", "", True, [], {}, "nan", "inf", 10**13]


@pytest.mark.parametrize("expires_in", UNUSABLE)
def test_without_a_usable_lifetime_the_jwt_counts_then_the_last_known_one(expires_in):
    words = {"access_token": jwt(iat=1000, exp=1900), "expires_in": expires_in}
    assert read(words).lifetime == 900
    assert read({"access_token": "a", "expires_in": expires_in}).lifetime == 600
    unknown = read({"access_token": "a", "expires_in": expires_in}, previous=None)
    assert (unknown.lifetime, unknown.access_until, unknown.refresh_until) == (None, None, None)


@pytest.mark.parametrize(
    "claims",
    [{"exp": 1900}, {"iat": 1000}, {"iat": 1900, "exp": 1000}, {"iat": "x", "exp": 5}, {"iat": None, "exp": True}],
)
def test_a_jwt_without_both_ends_tells_no_lifetime(claims):
    assert told_lifetime({"access_token": jwt(**claims)}) is None


def test_a_lifetime_that_nobody_tells_stays_known_for_the_next_one():
    first = read({"access_token": "a"})
    assert read({"access_token": "b"}, previous=first).lifetime == 600


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'\xef\xbb\xbf{"access_token": "a", "expires_in": 60}', "application/json"),
        (b'{"access_token": " a\\n", "expires_in": 60}', "text/html; charset=utf-8"),
        (b"access_token=a&expires_in=60&token_type=bearer", "application/x-www-form-urlencoded"),
        (b"access_token=a&expires_in=60\n", ""),
        (b'{"access_token": "a", "expires_in": 60, "error": "none"}', "application/json"),
        (b'{"access_token": "a", "expires_in": 60, "token_type": "BEARER"}', "application/json"),
        (b'{"access_token": "a", "expires_in": 60, "note": "\xfc\x00"}', "application/json"),
        ('{"access_token": "a", "expires_in": 60}'.encode("utf-16"), "application/json"),
        (b'1f\r\n{"access_token": "a", "expires_in": 60}\r\n{', "application/json"),
        (b'{"data": {"access_token": "a", "expires_in": 60}}', "application/json"),
        (b'{"access_token": {"access_token": "a", "expires_in": 60}}', "application/json"),
    ],
)
def test_forms_of_answers(body, kind):
    pair = read_answer(body, kind, NOW, "refresh_token", BEFORE, Terms(), "")
    assert (pair.access_token, pair.access_until) == ("a", NOW + 60)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'"a"', b"null", b"\xff\xfe", b"[" * 100_000, b'{"access_token": "a"', b"error=x", b"1" * 10_000,
     b'{"access_token": null}', b'{"access_token": 5}', b'{"access_token": ""}', b'{"access_token": "a b"}', b'{"access_token": "a\\nb"}',
     b'{"access_token": "\\u00fc"}', b'{"error": "invalid_grant"}'],
)  # fmt: skip
def test_what_holds_no_pair_is_unusable_and_never_repeated(body):
    with pytest.raises(AnswerUnusable) as told:
        read(body)
    assert len(str(told.value)) < 200


@pytest.mark.parametrize("refresh", [None, "", 5, "a b", "ü"])
def test_a_missing_refresh_token_keeps_the_old_one_and_counts_its_life_anew(refresh):
    pair = read({"access_token": "a", "refresh_token": refresh, "expires_in": 60})
    assert (pair.refresh_token, pair.refresh_until) == ("def-old", NOW + 60)
    assert read({"access_token": "a", "refresh_token": refresh}, grant="authorization_code").refresh_token is None


@pytest.mark.parametrize(("setting", "until"), [("same", NOW + 60), (7200.0, NOW + 7200), (None, None)])
def test_refresh_token_lifetime(setting, until):
    pair = read({"access_token": "a", "refresh_token": "b", "expires_in": 60}, terms=Terms(refresh_lifetime=setting))
    assert pair.refresh_until == until


@pytest.mark.parametrize("name", ["refresh_expires_in", "refresh_token_expires_in"])
@pytest.mark.parametrize("setting", ["same", 7200.0, None])
def test_what_the_answer_says_of_the_refresh_tokens_life_counts_before_the_setting(name, setting):
    words = {"access_token": "a", "refresh_token": "b", "expires_in": 60}
    terms = Terms(refresh_lifetime=setting)
    assert read({**words, name: 20}, terms=terms).refresh_until == NOW + 20
    assert read({**words, name: "1800"}, terms=terms).refresh_until == NOW + 1800
    for none in (0, "0", -1, "never", None, True, 10**13):  # 0 is said of tokens that do not end
        assert read({**words, name: none}, terms=terms).refresh_until == read(words, terms=terms).refresh_until
    assert read({"access_token": "a", "expires_in": 60, name: 20}, terms=terms).refresh_until == NOW + 20
    bare = {"access_token": "a", "expires_in": 60, name: 20}
    assert read(bare, grant="authorization_code", terms=terms).refresh_until is None


def test_a_refresh_never_changes_the_identity():
    pair = read({"access_token": jwt(sub="other"), "scope": "c"})
    assert (pair.scope, pair.subject, pair.salt, pair.source, pair.generation) == (
        "a b",
        "sub-1",
        "salt-0",
        "refresh",
        5,
    )


def test_a_login_begins_a_new_identity():
    known = read({"access_token": jwt(sub="other")}, grant="authorization_code")
    assert (known.subject, known.salt, known.scope) == ("other", "", None)
    assert read({"access_token": "opaque"}, grant="authorization_code").salt == "salt-new"


def test_client_credentials_have_no_refresh_token_and_keep_their_identity():
    first = read({"access_token": "a", "refresh_token": "b", "scope": 5}, grant="client_credentials", previous=None)
    assert (first.refresh_token, first.source, first.salt, first.generation, first.scope) == (
        None,
        "client_credentials",
        "",
        1,
        None,
    )
    assert read({"access_token": jwt(sub="x")}, grant="client_credentials", previous=first).subject is None


@pytest.mark.parametrize(
    ("words", "subject"),
    [
        ({"access_token": jwt(sub="s")}, "s"),
        ({"access_token": jwt(sub=7)}, "7"),
        ({"access_token": "opaque", "id_token": jwt(sub="i")}, "i"),
        ({"access_token": jwt(sub=""), "id_token": jwt(sub=True)}, None),
        ({"access_token": jwt(sub=["s"]), "id_token": 5}, None),
        ({}, None),
    ],
)
def test_subject(words, subject):
    assert subject_of(words) == subject


@pytest.mark.parametrize("token", [None, "a.b", "a.b.c.d", "a.%%%.c", "a.W10.c", "a.e.c", "a.bm8.c", "..", "a.ü.c"])
def test_what_is_no_jwt_has_no_claims(token):
    assert claims_of(token) == {}


@pytest.mark.parametrize("part", [b'{"a":', b"{", b'{"a":[', b'{"a":1,', b"["])
def test_looking_for_a_pair_in_hostile_bytes_ends_soon(part):
    body = (b'"access_token"' + part * 65536)[:65536]
    began = time.process_time()
    assert words_with("access_token", body) is None
    assert time.process_time() - began < 1


@settings(max_examples=100)
@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_break_the_reading(body):
    try:
        found = parsed(body, "x")
    except AnswerUnusable:
        return
    assert isinstance(found, dict)


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(["access_token", "refresh_token", "expires_in", "scope", "id_token"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.integers()),
    )
)
def test_whatever_is_read_is_well_formed(words):
    try:
        pair = read(words)
    except AnswerUnusable:
        return
    assert pair.access_token.isprintable()
    assert pair.access_until is None or NOW < pair.access_until < NOW + 4e9

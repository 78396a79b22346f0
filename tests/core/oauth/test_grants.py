"""What is asked of the provider: RFC 6749 §4.1, §4.4, §6, RFC 7636, RFC 7009, and the ways in which a client proves itself."""

from __future__ import annotations

import base64
import hashlib
import json
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.core.oauth import grants
from passoproxy.core.oauth.grants import Callback, authorization_url, equal, read_callback, spoken
from passoproxy.core.oauth.settings import Client, Provider

PROVIDER = Provider(
    "https://p.example/token",
    "https://p.example/authorize?tenant=1",
    redirect_url="http://127.0.0.1:8611/oauth/callback",
)


def fields(posted: grants.Posted) -> dict[str, str]:
    return dict(parse_qsl(posted.body.decode(), keep_blank_values=True))


def test_authorization_url_with_pkce():
    verifier = "v" * 64
    asked = parse_qs(urlsplit(authorization_url(PROVIDER, "id &", "state-1", verifier)).query)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    assert asked == {
        "tenant": ["1"],
        "response_type": ["code"],
        "client_id": ["id &"],
        "redirect_uri": ["http://127.0.0.1:8611/oauth/callback"],
        "scope": ["*"],
        "state": ["state-1"],
        "code_challenge": [challenge],
        "code_challenge_method": ["S256"],
    }


def test_authorization_url_without_pkce_and_scope():
    asked = parse_qs(urlsplit(authorization_url(Provider("t", "https://a/", scope=""), "id", "s", None)).query)
    assert set(asked) == {"response_type", "client_id", "redirect_uri", "state"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("code=c&state=s", Callback("s", "c")),
        ("http://127.0.0.1:8611/oauth/callback?code=c%2B&state=s#frag", Callback("s", "c+")),
        ("  ?code=c&state=s\n", Callback("s", "c")),
        ("code=first&code=second&state=s", Callback("s", "first")),
        ("error=access_denied&error_description=a%00b+c&state=s", Callback("s", "", "access_denied", "a b c")),
        ("", Callback()),
        ("no redirect at all", Callback()),
        ("code=%ff&state=s", Callback("s", "\ufffd")),
    ],
)
def test_callback(text, expected):
    assert read_callback(text) == expected


def test_callback_hides_code_and_state():
    assert "secret" not in repr(read_callback("code=secret&state=secret"))


@pytest.mark.parametrize(
    ("one", "other", "same"), [("a", "a", True), ("a", "b", False), ("ü", "ü", True), ("", "a", False)]
)
def test_equal(one, other, same):
    assert equal(one, other) is same


def test_spoken_is_one_printable_line_without_secrets():
    assert spoken("a\r\n\x1b[31m b  def-token", ("def-token", "")) == "a [31m b …"
    assert spoken("x" * 300) == "x" * 199 + "…"


@pytest.mark.parametrize(
    ("client", "words", "authorization"),
    [
        (Client("id", "s:1", "body_json"), {"client_id": "id", "client_secret": "s:1"}, None),
        (Client("id", "s:1", "body_form"), {"client_id": "id", "client_secret": "s:1"}, None),
        (Client("i d", "s:1+ü", "basic"), {}, "i+d:s%3A1%2B%C3%BC"),
        (Client("id", "s:1", "none"), {"client_id": "id"}, None),
        (Client("id", "", "body_json"), {"client_id": "id"}, None),
    ],
)
def test_client_auth(client, words, authorization):
    posted = grants.refresh(client, "def+1&2")
    headers = dict(posted.headers)
    found = json.loads(posted.body) if headers["Content-Type"] == "application/json" else fields(posted)
    assert found == {"grant_type": "refresh_token", "refresh_token": "def+1&2", **words}
    assert headers["Accept"] == "application/json"
    if authorization:
        assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode() == authorization
    else:
        assert "Authorization" not in headers
    assert "def" not in repr(posted)
    assert client.client_secret not in repr(client) or not client.client_secret


def test_exchange():
    found = json.loads(grants.exchange(PROVIDER, Client("id", "s"), "c", "v").body)
    assert found == {
        "grant_type": "authorization_code",
        "redirect_uri": PROVIDER.redirect_url,
        "code": "c",
        "code_verifier": "v",
        "client_id": "id",
        "client_secret": "s",
    }
    assert "code_verifier" not in json.loads(grants.exchange(PROVIDER, Client("id"), "c", None).body)


def test_client_credentials():
    found = fields(grants.client_credentials(PROVIDER, Client("id", "s", "body_form")))
    assert found == {"grant_type": "client_credentials", "scope": "*", "client_id": "id", "client_secret": "s"}
    assert "scope" not in fields(grants.client_credentials(Provider("t", scope=""), Client("id", "s", "basic")))


@pytest.mark.parametrize("auth", ["body_json", "body_form", "basic", "none"])
def test_revocation_is_form_encoded(auth):
    posted = grants.revocation(Client("id", "s", auth), "def-1", "refresh_token")
    assert dict(posted.headers)["Content-Type"] == "application/x-www-form-urlencoded"
    found = fields(posted)
    assert (found["token"], found["token_type_hint"]) == ("def-1", "refresh_token")
    assert "grant_type" not in found


@settings(max_examples=50)
@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1),
    st.sampled_from(["body_json", "body_form", "basic", "none"]),
)
def test_tokens_travel_as_they_are(token, auth):
    posted = grants.refresh(Client("id", "s", auth), token)
    found = json.loads(posted.body) if auth == "body_json" else fields(posted)
    assert found["refresh_token"] == token

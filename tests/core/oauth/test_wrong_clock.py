"""What the provider's Date and a token's own moments say of our clock."""

from __future__ import annotations

import base64
import json

import pytest

from passoproxy.core.http.syntax import print_date
from passoproxy.core.oauth.token_response import deviation

NOW = 1_800_000_000.0


def jwt(**claims: object) -> str:
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{middle}.x"


def date(offset: float) -> list[tuple[str, str]]:
    return [("Server", "x"), ("dAtE", f" {print_date(NOW + offset)} ")]


def told(headers=(), body=b"", kind="application/json", took=2.0):
    return deviation(headers, body, kind, NOW, NOW + took)


@pytest.mark.parametrize(
    ("offset", "ahead"),
    [(0, 0.0), (1, 0.0), (-31, 0.0), (32, 0.0), (-32, 31.0), (-3600, 3599.0), (33, -31.0), (600, -598.0)],
)
def test_the_providers_date(offset, ahead):
    assert told(date(offset)) == (ahead, "its Date")


def test_a_slow_answer_is_no_wrong_clock():
    assert told(date(50), took=60.0) == (0.0, "its Date")


@pytest.mark.parametrize(
    ("words", "ahead"),
    [
        ({"access_token": jwt(exp=NOW + 3600), "expires_in": 3600}, 0.0),
        ({"access_token": jwt(exp=NOW + 3000, iat=5), "expires_in": 3600}, 599.0),
        ({"access_token": jwt(exp=NOW + 4200), "expires_in": 3600}, -598.0),
        ({"access_token": jwt(iat=NOW - 100)}, 99.0),
        ({"access_token": jwt(iat=NOW + 100, exp="soon")}, -98.0),
    ],
)
def test_the_tokens_own_claims(words, ahead):
    assert told(body=json.dumps(words).encode()) == (ahead, "the token's own claims")


def test_date_counts_before_the_token():
    assert told(date(0), json.dumps({"access_token": jwt(iat=NOW - 1000)}).encode()) == (0.0, "its Date")
    assert told([("Date", "yesterday")], json.dumps({"access_token": jwt(iat=NOW - 1000)}).encode()) == (
        999.0,
        "the token's own claims",
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"access_token": "opaque", "expires_in": 3600}',
        json.dumps({"access_token": jwt(exp=NOW)}).encode(),
        json.dumps({"access_token": jwt(iat=True)}).encode(),
        json.dumps({"access_token": jwt(iat=1e300)}).encode(),
    ],
)
def test_nothing_tells(body):
    assert told(body=body) is None

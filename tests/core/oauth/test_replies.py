"""The fate of a presented token, as contract §4 has it, line by line."""

from __future__ import annotations

import json

import pytest

from passoproxy.core.oauth.token_response import Answer, Dead, Lost, Misconfigured, Retryable, classify

NOW = 1_700_000_000.0


def fate(status: int, body: object = b"", *headers: tuple[str, str], secrets: tuple[str, ...] = ()):
    return classify(status, headers, body if isinstance(body, bytes) else json.dumps(body).encode(), NOW, secrets)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_a_2xx_is_an_answer(status):
    assert fate(status, {"error": "invalid_grant"}) == Answer()


def test_a_2xx_over_64_kib_is_lost():
    assert fate(200, b"x" * 65536) == Answer()
    assert isinstance(fate(200, b"x" * 65537), Lost)


@pytest.mark.parametrize("status", [300, 301, 302, 307, 308])
def test_a_redirect_is_a_fault_of_the_configuration(status):
    found = fate(status, b"", ("Location", "https://elsewhere/"))
    assert isinstance(found, Misconfigured)
    assert "redirects" in found.reason


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
@pytest.mark.parametrize("body", [b"<html>", {"error": "invalid_grant"}])
def test_the_token_is_kept_where_the_provider_cannot_now(status, body):
    for fields, seconds in (((("X", "1"), ("retry-after", "7")), 7), ((("X", "1"),), None)):
        found = fate(status, body, *fields)
        assert isinstance(found, Retryable)
        assert (found.retry_after, str(status) in found.reason) == (seconds, True)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 407, 422])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>forbidden</html>",
        b"\xff",
        b"[" * 100_000,
        b"{" + b" " * 70_000 + b'"error": "invalid_grant"}',
        [],
        {"error": True},
        {"error": ""},
        {"error": 'a"b'},
        {"error": "x" * 81},
        {"message": "Unauthenticated."},
    ],
)
def test_a_4xx_without_an_oauth_error_is_not_the_providers_word(status, body):
    found = fate(status, body)
    assert isinstance(found, Retryable)
    assert "without an OAuth error" in found.reason


@pytest.mark.parametrize("status", [400, 401, 403])
@pytest.mark.parametrize("error", ["invalid_grant", "invalid_request"])
def test_dead(status, error):
    found = fate(
        status,
        {
            "error": error,
            "error_description": "The refresh token is invalid.",
            "hint": "Token has been revoked",
            "message": "x",
        },
    )
    assert found == Dead(
        f"the provider answered {status} {error} (The refresh token is invalid.; Token has been revoked)", error
    )
    assert fate(status, b'\xef\xbb\xbf{"error": "invalid_grant"}') == Dead(
        f"the provider answered {status} invalid_grant", "invalid_grant"
    )


@pytest.mark.parametrize(
    "error", ["invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "forbidden"]
)
def test_every_other_error_is_a_fault_of_the_configuration(error):
    found = fate(401, {"error": error, "error_description": 5})
    assert found == Misconfigured(f"the provider answered 401 {error}", error)


@pytest.mark.parametrize("status", [0, 99, 100, 199, 600, 999])
def test_a_status_without_meaning_is_a_lost_answer(status):
    assert isinstance(fate(status), Lost)


def test_secrets_are_not_repeated():
    found = fate(
        400,
        {"error": "invalid_grant", "hint": "def-secret of client-secret\n\x1b"},
        secrets=("def-secret", "client-secret", ""),
    )
    assert found.reason == "the provider answered 400 invalid_grant (… of …)"

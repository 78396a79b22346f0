"""Pairs issued elsewhere: `token import` and `token export`."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.settings import Terms
from passoproxy.core.oauth.token_response import document_of, read_import
from passoproxy.errors import AnswerUnusable
from tests.core.oauth.test_answers import jwt

NOW = 1_700_000_000.0


def read(**words: object) -> Pair:
    return read_import(json.dumps({"access_token": "a", **words}).encode(), NOW, Terms(), "salt")


@pytest.mark.parametrize(
    ("told", "moment"),
    [
        (NOW - 60, NOW - 60),
        (str(NOW - 60), NOW - 60),
        ("2023-11-14T22:12:20Z", NOW - 60),
        ("2023-11-14T23:12:20+01:00", NOW - 60),
        ("2023-11-14T22:12:20", NOW - 60),
        (None, NOW),
        (NOW + 3600, NOW),
    ],
)
def test_obtained_at(told, moment):
    pair = read(obtained_at=told, expires_in=600, refresh_token="def")
    assert (pair.obtained_at, pair.access_until, pair.refresh_until, pair.source) == (
        moment,
        moment + 600,
        moment + 600,
        "import",
    )


def test_the_jwts_iat_counts_where_nothing_is_told():
    assert read(access_token=jwt(iat=NOW - 100, exp=NOW + 500)).access_until == NOW + 500
    assert read(access_token=jwt(iat=NOW - 100), obtained_at=NOW - 5).obtained_at == NOW - 5
    for odd in (True, "x", 5, None):
        assert read(access_token=jwt(iat=odd)).obtained_at == NOW


@pytest.mark.parametrize("told", ["yesterday", True, [], -5, 5, 1.7e12, float("nan"), "1e400"])
def test_an_obtained_at_that_means_nothing_is_refused(told):
    with pytest.raises(AnswerUnusable, match="obtained_at"):
        read(obtained_at=told)


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "no JSON"),
        (b"hello", "no JSON"),
        (b"[]", "no JSON"),
        (b"\xff", "no JSON"),
        (b"{}", "no access_token"),
        (b'{"access_token": 5}', "no access_token"),
        (b'{"access_token": "a b"}', "characters"),
    ],
)
def test_what_is_no_pair_is_refused(document, words):
    with pytest.raises(AnswerUnusable, match=words):
        read_import(document, NOW, Terms(), "salt")


def test_identity():
    assert read().salt == "salt"
    assert (read(id_token=jwt(sub="s")).subject, read(id_token=jwt(sub="s")).salt) == ("s", "")


@pytest.mark.parametrize(
    "pair",
    [
        read(expires_in=600, refresh_token="def", scope="x y", obtained_at=NOW - 7),
        read(expires_in=600, refresh_token="def", refresh_expires_in=20, obtained_at=NOW - 7),
        read(),
    ],
)
def test_an_export_is_an_import(pair):
    again = read_import(json.dumps(document_of(pair)).encode(), NOW, Terms(), "salt")
    assert again == replace(pair, source="import")
    assert document_of(pair)["token_type"] == "Bearer"


def test_a_refresh_token_that_lives_as_long_as_the_access_token_is_exported_without_a_word():
    """Then the terms of whoever imports it hold."""
    assert "refresh_expires_in" not in document_of(read(expires_in=600, refresh_token="def"))

"""Partitions: whose answers these are (contract §7)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from passoproxy.core.oauth.identity import issued_to, partition_of, static_partition
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.terms import Provider
from tests.core.oauth.test_answers import jwt

PROVIDER = Provider("https://p/token")
PAIR = Pair("a", "r", scope="x", subject="s", salt="")


def test_rotation_changes_nothing():
    rotated = replace(PAIR, access_token="b", refresh_token="q", generation=9, access_until=5.0, source="refresh")
    assert partition_of(PROVIDER, "id", PAIR) == partition_of(PROVIDER, "id", rotated)


@pytest.mark.parametrize("change", [{"scope": "y"}, {"subject": "t"}, {"subject": None}, {"salt": "1"}])
def test_another_identity_sees_nothing(change):
    assert partition_of(PROVIDER, "id", PAIR) != partition_of(PROVIDER, "id", replace(PAIR, **change))


def test_issuer_and_client_count():
    found = {
        partition_of(Provider(url), client, PAIR)
        for url in ("https://p/token", "https://q/token")
        for client in ("id", "di")
    }
    assert len(found) == 4
    assert issued_to(PROVIDER, "id") != issued_to(PROVIDER, "di")


def test_an_unknown_scope_is_the_configured_one_and_nobody_is_nobody():
    assert partition_of(PROVIDER, "id", replace(PAIR, scope=None)) == partition_of(
        PROVIDER, "id", replace(PAIR, scope="*")
    )
    assert partition_of(PROVIDER, "id", None) not in {
        partition_of(PROVIDER, "id", Pair("")),
        static_partition("https://p/token", ""),
    }


def test_static_tokens():
    assert static_partition("u", jwt(sub="s", jti=1)) == static_partition("u", jwt(sub="s", jti=2))
    assert static_partition("u", "one") != static_partition("u", "two")

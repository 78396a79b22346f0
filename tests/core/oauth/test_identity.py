"""Partitions: whose answers these are (contract §7)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from passoproxy.core.oauth.identity import client_of, fleet_of, partition_of, static_partition
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.settings import Provider
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


def test_a_client_is_named_and_what_may_be_secret_in_the_url_is_not():
    person = "authorization_code"
    assert client_of(PROVIDER, "id", person) == "client id at https://p/token"
    spelled = [
        "https://p/token",
        "https://q/token",
        "https://p/token?t=planted",
        "https://u:planted@p/token",
        "https://p/token?t=2",
    ]
    names = {client_of(Provider(url), client, person) for url in spelled for client in ("id", "di")}
    names.add(client_of(PROVIDER, "id", "client_credentials"))
    assert len(names) == 11
    assert not any("planted" in name for name in names)
    fleets = {fleet_of(Provider(url), "id", grant) for url in spelled for grant in (person, "client_credentials")}
    assert len(fleets) == 10


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

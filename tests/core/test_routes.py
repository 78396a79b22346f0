"""The route table (contract §3)."""

import pytest

from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.routes import BY_RFC_ALONE, UNLISTED, RouteTable

ROUTES = (
    RoutePolicy(name="one", match="/api/*/x", ttl=1.0),
    RoutePolicy(name="deep", match="/api/**", ttl=2.0, methods=("GET", "POST")),
    RoutePolicy(name="silent", match="/silent/**"),
)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/v2/x", "one"),
        ("/api/v2/y/x", "deep"),
        ("/api", "deep"),
        ("/%61pi/v2/x", "one"),
        ("/%2561pi/v2/x", ""),
        ("/API/x", ""),
        ("/other", ""),
    ],
)
def test_the_first_match_on_the_once_decoded_path_wins(path, name):
    assert RouteTable(ROUTES, CacheMode()).find(path).name == name


def test_unlisted_requests():
    assert RouteTable(ROUTES, CacheMode()).find("/other") is UNLISTED
    assert RouteTable(ROUTES, CacheMode(http=True)).find("/other") is BY_RFC_ALONE
    assert not UNLISTED.stores
    assert BY_RFC_ALONE.stores


def test_a_route_without_ttl_stores_only_in_mode_http():
    assert not RouteTable(ROUTES, CacheMode()).find("/silent/x").stores
    assert RouteTable(ROUTES, CacheMode(http=True)).find("/silent/x").stores

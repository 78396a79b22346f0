"""RFC 9111 §4.4: invalidation by unsafe requests, and a route's purges."""

import pytest

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.invalidation import SAFE_METHODS, invalidated
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.http.messages import RequestHead, ResponseHead, fields_of

ORIGIN = "https://api.example"


def targets(status=200, fields=(), target="/a/b?x=1", origin=ORIGIN, policy=None):
    head = RequestHead("PUT", target, authority="proxy.local:8610")
    found = invalidated(head, "K{}".format, ResponseHead(status, fields_of(fields)), origin, policy or RoutePolicy())
    return [selector.target for selector in found if selector.target is not None]


@pytest.mark.parametrize(
    ("status", "gone"),
    [(200, True), (204, True), (302, True), (399, True), (400, False), (404, False), (500, False), (199, False)],
)
def test_only_success_invalidates(status, gone):
    assert bool(targets(status)) is gone


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("https://api.example/v1/c", ["/c"]),
        ("https://api.example/v1", ["/"]),
        ("/v1/c?d", ["/c?d"]),
        ("c", ["/a/c"]),
        ("/c", []),
        ("https://api.example/v10/c", []),
    ],
)
def test_a_path_of_the_origin_is_no_part_of_targets(value, named):
    assert targets(fields=[("Location", value)], origin=f"{ORIGIN}/v1")[1:] == named


def test_target_and_key_and_tags():
    found = invalidated(
        RequestHead("POST", "/a"), "K{}".format, ResponseHead(201), ORIGIN, RoutePolicy(purges=("lists", "all"))
    )
    assert found == (Selector(target="/a"), Selector(key="K/a"), Selector(tag="lists"), Selector(tag="all"))


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("/c", ["/c"]),
        ("c?y=2", ["/a/c?y=2"]),
        ("https://api.example/c", ["/c"]),
        ("https://API.example:443/c", ["/c"]),
        ("https://api.example", ["/"]),
        ("http://api.example/c", []),
        ("https://other.example/c", []),
        ("https://api.example:8443/c", []),
        ("//other.example/c", []),
        ("https://[broken/c", []),
        ("https://api.example:port/c", []),
        ("", []),
    ],
)
@pytest.mark.parametrize("name", ["Location", "Content-Location"])
def test_named_targets_of_the_same_origin(name, value, named):
    assert targets(fields=[(name, value)]) == ["/a/b?x=1", *named]


def test_without_a_known_origin_the_proxys_own_authority_counts():
    assert targets(fields=[("Location", "http://proxy.local:8610/c")], origin="") == ["/a/b?x=1", "/c"]
    assert targets(fields=[("Location", "http://proxy.local/c")], origin="") == ["/a/b?x=1"]


def test_unknown_methods_are_unsafe():
    assert "M-SEARCH" not in SAFE_METHODS
    assert "GET" in SAFE_METHODS


def test_groups_that_the_answer_names_9875_3():
    fields = fields_of([("Cache-Group-Invalidation", '"a", "b"'), ("Cache-Groups", '"c"')])
    found = invalidated(RequestHead("POST", "/a"), "K{}".format, ResponseHead(200, fields), ORIGIN, RoutePolicy())
    assert [selector.tag for selector in found if selector.tag] == ["cache-group:a", "cache-group:b"]
    assert invalidated(RequestHead("POST", "/a"), "K{}".format, ResponseHead(400, fields), ORIGIN, RoutePolicy()) == ()

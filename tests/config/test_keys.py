"""Names of keys, and which one was meant."""

from __future__ import annotations

import pytest

from passoproxy.config import keys


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        (("upstream", "max_concurency"), "upstream.max_concurrency"),
        (("uptream",), "upstream"),
        (("Upstream",), "upstream"),
        (("server", "limits", "header-bytes"), "server.limits.header_bytes"),
        (("upstream", "listen"), "server.listen"),
        (("token_url",), "oauth.token_url"),
        (("tokn_url",), "oauth.token_url"),
        (("cache", "dir"), "cache.directory"),
        (("routes", 2, "tll"), "routes.ttl"),
        (("routes", 0, "key", "ignore_qury"), "routes.key.ignore_query"),
        (("upstream", "zzzqq"), ""),
    ],
)
def test_nearest(path: keys.KeyPath, meant: str) -> None:
    assert keys.nearest(path) == meant


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (("upstream", "urll"), "did you mean url?"),
        (("upstream", "listen"), "did you mean server.listen?"),
        (("ttl",), "did you mean ttl of an item of routes?"),
        (("routes", 0, "cache"), "cache is a section of its own: write it at the beginning of a line"),
        (("log", "zzzqq"), "valid here: level, format, access, query"),
    ],
)
def test_remedies(path: keys.KeyPath, said: str) -> None:
    assert keys.remedy_for_unknown(path) == said


def test_kinds_of_keys() -> None:
    found = keys.catalogue()
    assert found["server",].section
    assert not found["routes",].section
    assert found["oauth", "client_secret"].secret
    assert found["oauth", "client_secret_file"].file
    assert found["upstream", "user_agent"].nullable
    assert not found["upstream", "connect_timeout"].nullable
    assert ("routes", "key", "headers") in found


@pytest.mark.parametrize("path", [("a",), ("a", "b"), ("routes", 2, "ttl"), ("routes", 0, "key", "headers", 1)])
def test_dotted_and_back(path: keys.KeyPath) -> None:
    assert keys.parsed(keys.dotted(path)) == path

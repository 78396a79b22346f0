"""Where things are, and which proxy leads there."""

from __future__ import annotations

import pytest

from passoproxy.errors import ConfigurationError
from passoproxy.outbound.dial import Endpoint, ForwardProxy, endpoint_of, forward_proxy

REMOTE = Endpoint("https", "api.example.com", 443)


@pytest.mark.parametrize(
    ("url", "endpoint", "authority"),
    [
        ("https://api.example.com", Endpoint("https", "api.example.com", 443), "api.example.com"),
        ("https://api.example.com:443/oauth/token", Endpoint("https", "api.example.com", 443), "api.example.com"),
        ("https://API.example.com:8443", Endpoint("https", "api.example.com", 8443), "api.example.com:8443"),
        ("http://127.0.0.1:8620", Endpoint("http", "127.0.0.1", 8620), "127.0.0.1:8620"),
        ("http://[::1]:8620/", Endpoint("http", "::1", 8620), "[::1]:8620"),
        ("http://[::1]", Endpoint("http", "::1", 80), "[::1]"),
        ("https://münchen.example", Endpoint("https", "xn--mnchen-3ya.example", 443), "xn--mnchen-3ya.example"),
    ],
)
def test_endpoints(url: str, endpoint: Endpoint, authority: str) -> None:
    assert endpoint_of(url) == endpoint
    assert endpoint.authority == authority
    assert endpoint.secure == url.startswith("https")


@pytest.mark.parametrize(
    "url", ["", "api.example.com", "ftp://x", "https://", "/path", "http://x:99999", "http://[::1"]
)
def test_what_is_no_endpoint(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"upstream\.url"):
        endpoint_of(url)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("a.localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("10.0.0.1", False),
        ("localhost.example", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert Endpoint("http", host, 80).loopback is loopback


def test_no_proxy_unless_one_is_set() -> None:
    assert forward_proxy("none", REMOTE, {"HTTPS_PROXY": "http://p:1"}) is None
    assert forward_proxy("env", REMOTE, {}) is None


def test_proxy_by_environment_and_by_url() -> None:
    assert forward_proxy("env", REMOTE, {"HTTPS_PROXY": "http://p:3128"}) == ForwardProxy("p", 3128)
    assert forward_proxy("env", REMOTE, {"https_proxy": "p:3128", "HTTPS_PROXY": "q:1"}) == ForwardProxy("p", 3128)
    assert forward_proxy("http://p", REMOTE, {"NO_PROXY": "*"}) == ForwardProxy("p", 80)


def test_proxy_with_credentials_never_shows_them() -> None:
    proxy = forward_proxy("http://us%40er:se%3Acret@p:3128", REMOTE, {})
    assert proxy == ForwardProxy("p", 3128, "Basic dXNAZXI6c2U6Y3JldA==")
    assert "dXNA" not in repr(proxy)


def test_loopback_is_never_reached_through_a_proxy() -> None:
    assert forward_proxy("http://p:1", Endpoint("http", "127.0.0.1", 80), {}) is None


@pytest.mark.parametrize(
    "url", ["https://p:1", "socks5://p:1", "http://", "http://user:hidden@p:port", "http://user:hidden@"]
)
def test_what_is_no_proxy_is_told_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"upstream\.proxy") as caught:
        forward_proxy(url, REMOTE, {})
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("listed", "host", "direct"),
    [
        ("*", "api.example.com", True),
        ("example.com", "api.example.com", True),
        (".example.com", "api.example.com", True),
        ("*.example.com", "api.example.com", True),
        ("API.example.com", "api.example.com", True),
        ("api.example.com:443", "api.example.com", True),
        ("api.example.com:80", "api.example.com", False),
        ("ample.com", "api.example.com", False),
        ("other.com, , example.com", "api.example.com", True),
        ("", "api.example.com", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3:443", "10.1.2.3", True),
        ("2001:db8::/32", "2001:db8::1", True),
        ("[2001:db8::1]:443", "2001:db8::1", True),
        ("10.0.0.0/8", "api.example.com", False),
    ],
)
def test_no_proxy_members(listed: str, host: str, direct: bool) -> None:
    found = forward_proxy("env", Endpoint("https", host, 443), {"HTTPS_PROXY": "p:1", "NO_PROXY": listed})
    assert (found is None) is direct

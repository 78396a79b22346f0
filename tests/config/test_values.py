"""How each kind of value is read, and what is said of one that is wrong."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from passoproxy.config import types
from passoproxy.config.types import TcpAddress


@pytest.mark.parametrize(
    ("read", "value", "found"),
    [
        (types.plain_text, 12, "12"),
        (types.plain_text, True, True),
        (types.secret, " a ", SecretStr("a")),
        (types.secret, SecretStr("b"), SecretStr("b")),
        (types.file_path, " /a ", Path("/a")),
        (types.file_path, Path("/a"), Path("/a")),
        (types.network, "10.0.0.0/8", ipaddress.ip_network("10.0.0.0/8")),
        (types.network, "10.0.0.7", ipaddress.ip_network("10.0.0.7/32")),
        (types.network, "fe80::/10", ipaddress.ip_network("fe80::/10")),
        (types.network, ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("10.0.0.0/8")),
        (types.http_url, " https://a.example/b?c ", "https://a.example/b?c"),
        (types.authority_url, "https://a.example/", "https://a.example"),
        (types.authority_url, "http://[::1]:80", "http://[::1]:80"),
        (types.origin_url, " https://a.example:8443/ ", "https://a.example:8443"),
        (types.origin_url, "https://a.example/v1/x/", "https://a.example/v1/x"),
        (types.listen, "127.0.0.1:1", (TcpAddress("127.0.0.1", 1),)),
        (types.listen, TcpAddress("a", 1), (TcpAddress("a", 1),)),
        (types.admin_listen, None, ()),
        (types.admin_listen, False, ()),
        (types.admin_listen, "OFF", ()),
        (types.host_entry, "proxy.internal", "proxy.internal"),
        (types.host_entry, "a:80", "a:80"),
        (types.host_entry, "[::1]:80", "[::1]:80"),
        (types.host_entry, "a.", "a."),
        (types.origin_entry, "http://LOCALHOST:3000", "http://localhost:3000"),
        (types.pattern, "/a/*/b/**", "/a/*/b/**"),
        (types.method, "PURGE", "PURGE"),
        (types.method, "query", "query"),
        (types.tls_version, 1.2, "1.2"),
        (types.tls_version, "1.3", "1.3"),
        (types.command_line, "/bin/x", ("/bin/x",)),
        (types.command_line, ["/bin/x", "-a"], ("/bin/x", "-a")),
        (types.proxy, "none", "none"),
        (types.proxy, "http://proxy:3128/", "http://proxy:3128"),
        (types.proxy_url, "http://u:p@proxy:3128", "http://u:p@proxy:3128"),
        (types.replay, "always", "always"),
        (types.replay, "30s", 30.0),
        (types.refresh_lifetime, "unknown", "unknown"),
        (types.refresh_lifetime, "30d", 2592000.0),
        (types.secret_url, "https://h.example/x", SecretStr("https://h.example/x")),
        (types.secret_url, SecretStr("https://h"), SecretStr("https://h")),
    ],
)
def test_right_ones(read: Callable[[object], object], value: object, found: object) -> None:
    assert read(value) == found


@pytest.mark.parametrize(
    ("read", "value", "said"),
    [
        (types.secret, ["planted"], "not text"),
        (types.secret, 1.5, "not text"),
        (types.secret, " ", "is empty"),
        (types.file_path, "", "not a path"),
        (types.file_path, "a\0b", "not a path"),
        (types.file_path, 5, "not a path"),
        (types.network, "10.0.0.5/8", "write 10.0.0.0/8"),
        (types.network, "host", "neither an address nor a network"),
        (types.network, 5, "neither an address nor a network"),
        (types.http_url, 5, "is not a URL"),
        (types.http_url, "ftp://x", "http or https"),
        (types.http_url, "https://", "http or https"),
        (types.http_url, "https://u:planted@x", "user name or password"),
        (types.http_url, "https://u:planted/2@x", "is not a URL"),
        (types.http_url, "u:planted@x", "http or https"),
        (types.http_url, "https://x/#f", "fragment"),
        (types.http_url, "https://b\u00fccher.example", "xn--"),
        (types.http_url, "https://a b", "percent-encoded"),
        (types.http_url, "https://x:99999", "is not a URL"),
        (types.http_url, "https://x:", "no valid host and port"),
        (types.http_url, "https://x:0", "no valid host and port"),
        (types.http_url, "https://[::1", "is not a URL"),
        (types.http_url, "https://1.2.3", "no valid host"),
        (types.authority_url, "https://a/b", "write https://a"),
        (types.authority_url, "https://a?", "path or query"),
        (types.origin_url, "https://a/b?", "has a query"),
        (types.origin_url, "https://a/b//c", "write for example https://a/v1"),
        (types.origin_url, "https://a/b/../c", "cannot be put before others"),
        (types.origin_url, "https://a/b%2e", "cannot be put before others"),
        (types.listen, 5, "no address"),
        (types.listen, [], "no address"),
        (types.listen, [5], "5 is not an address"),
        (types.listen, ["a:1", "foo", "unix:x"], "'foo' has no port, 'unix:x' has no absolute path; write host:port"),
        (types.admin_listen, True, "or off"),
        (types.host_entry, "http://x", "without scheme"),
        (types.host_entry, "*", "without scheme"),
        (types.host_entry, "::1", "in brackets"),
        (types.host_entry, "[a]", "in brackets"),
        (types.host_entry, "a:0", "is not a host"),
        (types.host_entry, "a:99999", "is not a host"),
        (types.host_entry, [5], "is not a host"),
        (types.host_entry, "a b", "is not a host"),
        (types.origin_entry, "*", "any page"),
        (types.origin_entry, "null", "any page"),
        (types.origin_entry, "http://x/", "write http://x"),
        (types.pattern, "a", "begins with '/'"),
        (types.pattern, 5, "begins with '/'"),
        (types.pattern, "/a?b", "query"),
        (types.pattern, "/a*", "one whole path segment"),
        (types.method, "get", "write GET"),
        (types.pattern, "/a%2fb" * 300, "can be read in too many ways"),
        (types.method, "TRACE", "never forwarded; remove it"),
        (types.method, "connect", "never forwarded; remove it"),
        (types.method, "G T", "not an HTTP method"),
        (types.method, False, "not an HTTP method"),
        (types.field_name, "a b", "header field"),
        (types.label, "a b", "not a name"),
        (types.label, "", "not a name"),
        (types.nonempty, " ", "is empty"),
        (types.tls_version, 1.1, "TLS version"),
        (types.tls_version, True, "TLS version"),
        (types.command_line, [], "not a command"),
        (types.command_line, ["a", 5], "not a command"),
        (types.proxy, "proxy:3128", "is no proxy"),
        (types.proxy, "http://u:planted@x:1", "upstream.proxy_file"),
        (types.proxy, "u:planted@x:1", "upstream.proxy_file"),
        (types.proxy, "http://u:planted/2@x:1", "upstream.proxy_file"),
        (types.proxy_url, "http://u:planted@2@x:1/a", "path or query"),
        (types.proxy, True, "is not a URL"),
        (types.proxy_url, "http://proxy:1/x", "path or query"),
        (types.proxy_url, "socks5://u:planted@proxy:1", "http or https"),
        (types.replay, "twice", "never, once, always"),
        (types.refresh_lifetime, "forever", "same, unknown"),
        (types.secret_url, "planted", "not an http or https URL"),
        (types.secret_url, "https://h/planted#x", "not a valid URL"),
        (types.secret_url, 5, "not an http or https URL"),
    ],
)
def test_wrong_ones_say_what_and_how(read: Callable[[object], object], value: object, said: str) -> None:
    with pytest.raises(ValueError, match="; ") as raised:
        read(value)
    assert said in str(raised.value)
    assert "planted" not in str(raised.value)

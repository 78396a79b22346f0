"""How each kind of value is read, and what is said of one that is wrong."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from passoproxy.config import values
from passoproxy.config.addresses import TcpAddress


@pytest.mark.parametrize(
    ("read", "value", "found"),
    [
        (values.plain_text, 12, "12"),
        (values.plain_text, True, True),
        (values.secret, " a ", SecretStr("a")),
        (values.secret, SecretStr("b"), SecretStr("b")),
        (values.file_path, " /a ", Path("/a")),
        (values.file_path, Path("/a"), Path("/a")),
        (values.network, "10.0.0.0/8", ipaddress.ip_network("10.0.0.0/8")),
        (values.network, "10.0.0.7", ipaddress.ip_network("10.0.0.7/32")),
        (values.network, "fe80::/10", ipaddress.ip_network("fe80::/10")),
        (values.network, ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("10.0.0.0/8")),
        (values.http_url, " https://a.example/b?c ", "https://a.example/b?c"),
        (values.authority_url, "https://a.example/", "https://a.example"),
        (values.authority_url, "http://[::1]:80", "http://[::1]:80"),
        (values.listen, "127.0.0.1:1", (TcpAddress("127.0.0.1", 1),)),
        (values.listen, TcpAddress("a", 1), (TcpAddress("a", 1),)),
        (values.admin_listen, None, ()),
        (values.admin_listen, False, ()),
        (values.admin_listen, "OFF", ()),
        (values.host_entry, "proxy.internal", "proxy.internal"),
        (values.host_entry, "a:80", "a:80"),
        (values.host_entry, "[::1]:80", "[::1]:80"),
        (values.host_entry, "a.", "a."),
        (values.origin_entry, "http://LOCALHOST:3000", "http://localhost:3000"),
        (values.pattern, "/a/*/b/**", "/a/*/b/**"),
        (values.method, "PURGE", "PURGE"),
        (values.method, "query", "query"),
        (values.tls_version, 1.2, "1.2"),
        (values.tls_version, "1.3", "1.3"),
        (values.command_line, "/bin/x", ("/bin/x",)),
        (values.command_line, ["/bin/x", "-a"], ("/bin/x", "-a")),
        (values.proxy, "none", "none"),
        (values.proxy, "http://proxy:3128/", "http://proxy:3128"),
        (values.proxy_url, "http://u:p@proxy:3128", "http://u:p@proxy:3128"),
        (values.replay, "always", "always"),
        (values.replay, "30s", 30.0),
        (values.refresh_lifetime, "unknown", "unknown"),
        (values.refresh_lifetime, "30d", 2592000.0),
        (values.secret_url, "https://h.example/x", SecretStr("https://h.example/x")),
        (values.secret_url, SecretStr("https://h"), SecretStr("https://h")),
    ],
)
def test_right_ones(read: Callable[[object], object], value: object, found: object) -> None:
    assert read(value) == found


@pytest.mark.parametrize(
    ("read", "value", "said"),
    [
        (values.secret, ["planted"], "not text"),
        (values.secret, 1.5, "not text"),
        (values.secret, " ", "is empty"),
        (values.file_path, "", "not a path"),
        (values.file_path, "a\0b", "not a path"),
        (values.file_path, 5, "not a path"),
        (values.network, "10.0.0.5/8", "write 10.0.0.0/8"),
        (values.network, "host", "neither an address nor a network"),
        (values.network, 5, "neither an address nor a network"),
        (values.http_url, 5, "is not a URL"),
        (values.http_url, "ftp://x", "http or https"),
        (values.http_url, "https://", "http or https"),
        (values.http_url, "https://u:planted@x", "user name or password"),
        (values.http_url, "https://x/#f", "fragment"),
        (values.http_url, "https://b\u00fccher.example", "xn--"),
        (values.http_url, "https://a b", "percent-encoded"),
        (values.http_url, "https://x:99999", "is not a URL"),
        (values.http_url, "https://x:", "no valid host and port"),
        (values.http_url, "https://x:0", "no valid host and port"),
        (values.http_url, "https://[::1", "is not a URL"),
        (values.http_url, "https://1.2.3", "no valid host"),
        (values.authority_url, "https://a/b", "write https://a"),
        (values.authority_url, "https://a?", "path or query"),
        (values.listen, 5, "no address"),
        (values.listen, [], "no address"),
        (values.listen, [5], "5 is not an address"),
        (values.listen, ["a:1", "foo", "unix:x"], "'foo' has no port, 'unix:x' has no absolute path; write host:port"),
        (values.admin_listen, True, "or off"),
        (values.host_entry, "http://x", "without scheme"),
        (values.host_entry, "*", "without scheme"),
        (values.host_entry, "::1", "in brackets"),
        (values.host_entry, "[a]", "in brackets"),
        (values.host_entry, "a:0", "is not a host"),
        (values.host_entry, "a:99999", "is not a host"),
        (values.host_entry, [5], "is not a host"),
        (values.host_entry, "a b", "is not a host"),
        (values.origin_entry, "*", "any page"),
        (values.origin_entry, "null", "any page"),
        (values.origin_entry, "http://x/", "write http://x"),
        (values.pattern, "a", "begins with '/'"),
        (values.pattern, 5, "begins with '/'"),
        (values.pattern, "/a?b", "query"),
        (values.pattern, "/a*", "one whole path segment"),
        (values.method, "get", "write GET"),
        (values.pattern, "/a%2fb" * 300, "can be read in too many ways"),
        (values.method, "TRACE", "never forwarded; remove it"),
        (values.method, "connect", "never forwarded; remove it"),
        (values.method, "G T", "not an HTTP method"),
        (values.method, False, "not an HTTP method"),
        (values.field_name, "a b", "header field"),
        (values.label, "a b", "not a name"),
        (values.label, "", "not a name"),
        (values.nonempty, " ", "is empty"),
        (values.tls_version, 1.1, "TLS version"),
        (values.tls_version, True, "TLS version"),
        (values.command_line, [], "not a command"),
        (values.command_line, ["a", 5], "not a command"),
        (values.proxy, "proxy:3128", "is no proxy"),
        (values.proxy, "http://u:planted@x:1", "upstream.proxy_file"),
        (values.proxy, True, "is not a URL"),
        (values.proxy_url, "http://proxy:1/x", "path or query"),
        (values.proxy_url, "socks5://u:planted@proxy:1", "http or https"),
        (values.replay, "twice", "never, once, always"),
        (values.refresh_lifetime, "forever", "same, unknown"),
        (values.secret_url, "planted", "not an http or https URL"),
        (values.secret_url, "https://h/planted#x", "not a valid URL"),
        (values.secret_url, 5, "not an http or https URL"),
    ],
)
def test_wrong_ones_say_what_and_how(read: Callable[[object], object], value: object, said: str) -> None:
    with pytest.raises(ValueError, match="; ") as raised:
        read(value)
    assert said in str(raised.value)
    assert "planted" not in str(raised.value)

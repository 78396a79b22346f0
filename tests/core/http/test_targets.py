"""Request targets and authorities (RFC 9112 §3.2, RFC 3986). Whole requests are in tests/server/test_hostile_exchanges.py."""

from __future__ import annotations

import string

import pytest

from passoproxy.core.http.request_line import Authority, Target, parse_authority, parse_target
from passoproxy.errors import BadRequest

ALLOWED = string.ascii_letters + string.digits + "-._~!$&'()*+,;=:@/"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost", Authority("localhost")),
        ("LocalHost:8610", Authority("localhost", 8610)),
        ("localhost:", Authority("localhost")),
        ("", Authority("")),
        ("localhost.", Authority("localhost.")),
        ("127.0.0.1:0", Authority("127.0.0.1", 0)),
        ("[::1]", Authority("[::1]")),
        ("[0:0:0:0:0:0:0:1]:80", Authority("[::1]", 80)),
        ("[V1.a:b]", Authority("[v1.a:b]")),
        ("a%20b", Authority("a%20b")),
        ("a_b", Authority("a_b")),
    ],
)
def test_authorities(text: str, expected: Authority) -> None:
    assert parse_authority(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "user@a",
        "a b",
        "a/b",
        "a:b",
        "a:65536",
        "a:123456",
        "a:-1",
        "a:1:2",
        "::1",
        "[::1",
        "[::1]a",
        "[::g]",
        "[fe80::1%25a]",
        "[]",
        "[v1.]",
        "a%2",
        "ä",
        "a\n",
        "a,b c",
        "x" * 256,
    ],
)
def test_what_is_no_authority(text: str) -> None:
    assert parse_authority(text) is None


def refusal_of(text: str) -> str:
    """Why a target is refused; '' for one that is not."""
    try:
        assert parse_target("GET", text) == Target(text)
    except BadRequest as refused:
        return refused.detail
    return ""


def test_rfc_3986_and_what_browsers_leave_as_it_is_stand_in_path_and_query() -> None:
    for character in map(chr, range(0x21, 0x100)):
        escaped = "".join(f"%{byte:02X}" for byte in character.encode())
        for text, allowed in ((f"/a{character}b", ALLOWED + "?[]|"), (f"/a?b{character}c", ALLOWED + "?[]|{}\\^`")):
            detail = refusal_of(text)
            assert (detail == "") is (character in allowed), text
            named = escaped in detail and (f"'{character}'" in detail or not "!" <= character <= "~")
            assert not detail or named, (text, detail)


@pytest.mark.parametrize(
    ("method", "text", "expected"),
    [
        ("GET", "/", Target("/")),
        ("GET", "/%C3%a4?%20", Target("/%C3%a4?%20")),
        ("OPTIONS", "*", Target("*")),
        ("GET", "http://a/b?c", Target("/b?c", "a")),
        ("GET", "HTTPS://a:1", Target("/", "a:1")),
        ("GET", "http://a?b", Target("/?b", "a")),
        ("OPTIONS", "http://a", Target("*", "a")),
        ("OPTIONS", "http://a/", Target("/", "a")),
        ("CONNECT", "a:443", Target("*", "a:443")),
    ],
)
def test_targets(method: str, text: str, expected: Target) -> None:
    assert parse_target(method, text) == expected


@pytest.mark.parametrize("text", ["*", "a", "", "http://", "http:///a", "ftp://a/", "http://u@a/", "http://a/#b", "http://a b/", "/%", "/%g0"])  # fmt: skip
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(BadRequest):
        parse_target("GET", text)

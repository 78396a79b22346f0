"""The strict look at a head's bytes (RFC 9112 §2 to §5). Whole requests are in tests/server/test_hostile_exchanges.py."""

from __future__ import annotations

import pytest

from passoproxy.core.http.request_line import Target, scan_beginning, scan_fields, scan_request_line, scan_trailer
from passoproxy.errors import BadRequest


def test_a_head_gives_its_request_line() -> None:
    scan_fields(b"\r\nX: \xff\tb\r\n\r\n")
    assert scan_request_line(b"FROB /a?b HTTP/1.0\r\nX: ") == ("FROB", Target("/a?b"), (1, 0))


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (b" folded\r\n", "folded"),
        (b"X: a\r\n\tfolded\r\n", "folded"),
        (b"no colon\r\n", "without a colon"),
        (b": a\r\n", "empty name"),
        (b"X : a\r\n", "white space"),
        (b"X\t: a\r\n", "white space"),
        (b"X(: a\r\n", "name with a character"),
        (b"X: a\0\r\n", "control character"),
        (b"X: a\nY: b\r\n", "control character"),
    ],
)
def test_a_fault_in_the_fields_is_named(fields: bytes, fault: str) -> None:
    with pytest.raises(BadRequest, match=fault):
        scan_fields(b"\r\n" + fields + b"\r\n")
    with pytest.raises(BadRequest, match=fault):
        scan_trailer(fields)


def test_a_trailer_may_be_empty_or_hold_fields() -> None:
    scan_trailer(b"")
    scan_trailer(b"X: a\r\nY:\r\n")


@pytest.mark.parametrize("head", [b"GET / HTTP/1.1", b"GET\r\n", b"GET / HTTP/2.0\r\n\r\n", b"GET / HTTP/1.9\r\n\r\n"])
def test_what_is_no_request_line(head: bytes) -> None:
    with pytest.raises(BadRequest):
        scan_request_line(head)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"GET /a b HTTP/1.1", "a space may not stand in the path of the request target; write %20"),
        (b"GET / /HTTP/1.1 HTTP/1.1", "a space"),
        (b"GET /\xc3\xa4 HTTP/1.0", "0xC3 0xA4 may not"),
        (b"GET /?\xff HTTP/1.0", "0xFF may not stand in the query"),
        (b"GET /a\x01 HTTP/1.0", "0x01 may not"),
        (b"CONNECT a b HTTP/1.1", "not a request line"),
    ],
)
def test_the_byte_at_fault_in_a_target_is_named(line: bytes, fault: str) -> None:
    with pytest.raises(BadRequest, match=fault):
        scan_request_line(line + b"\r\n\r\n")


@pytest.mark.parametrize("begun", [b"G", b"GET /", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nX: a\r\n\r"])  # fmt: skip
def test_a_beginning_may_go_on(begun: bytes) -> None:
    for seen in range(len(begun)):
        scan_beginning(begun, seen)


@pytest.mark.parametrize("begun", [b"\x16\x03", b" ", b"(", b"GET /\n", b"GET\0", b"GET /\rH", b"GET / HTTP/3.0\r\n", b"SSH-2.0\r\n"])  # fmt: skip
def test_a_hopeless_beginning_is_refused_at_once(begun: bytes) -> None:
    with pytest.raises(BadRequest):
        scan_beginning(begun, 0)


def test_a_hopeless_end_of_a_beginning_is_found_where_the_last_look_ended() -> None:
    with pytest.raises(BadRequest):
        scan_beginning(b"GET / HTTP/1.1\r\nX: a\rb", len(b"GET / HTTP/1.1\r\nX: a\r"))
    with pytest.raises(BadRequest):
        scan_beginning(b"GET / HTTP/2.0\r\n", len(b"GET / HTTP/2.0\r"))

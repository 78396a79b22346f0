"""What is used of aiohttp's parser, which documents none of it, and the strict look before it."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import http_exceptions, http_parser
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDictProxy

from passoproxy.errors import OriginInvalid
from passoproxy.outbound.response_parser import AnswerHead, HeadReader, require_native_parser


class FakeLoop(asyncio.AbstractEventLoop):
    """Never asked anything: heads are read without a loop."""


def parser() -> http_parser.HttpResponseParser:
    loop = FakeLoop()
    return http_parser.HttpResponseParser(
        BaseProtocol(loop), loop, 65536, response_with_body=False, auto_decompress=False, max_headers=100_000
    )


def reader(max_bytes: int = 32768) -> HeadReader:
    return HeadReader(FakeLoop(), "origin.example", max_bytes)


def feed_all(heads: HeadReader, pieces: list[bytes]) -> None:
    for piece in pieces:
        heads.feed(piece)


# ---- facts about aiohttp 3.14 that are relied upon ---------------------------------------------------------------------------


def test_the_c_parser_is_there() -> None:
    require_native_parser()
    assert http_parser.HttpResponseParser is not http_parser.HttpResponseParserPy


def test_without_body_each_head_is_a_whole_message() -> None:
    one = parser()
    for length in (b"5", b"0"):
        messages, upgraded, rest = one.feed_data(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n")
        assert len(messages) == 1
        assert (upgraded, rest) == (False, b"")
    messages, _, _ = one.feed_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert len(messages) == 1


def test_fields_keep_order_repetition_case_and_bytes() -> None:
    messages, _, _ = parser().feed_data(b"HTTP/1.1 200 OK\r\nX-b: 1\r\nA:\t caf\xc3\xa9 \xff \t\r\nx-B: 2\r\n\r\n")
    fields = messages[0][0].headers
    assert isinstance(fields, CIMultiDictProxy)
    assert list(fields.items()) == [("X-b", "1"), ("A", "caf\u00e9 \udcff"), ("x-B", "2")]


def test_the_parser_alone_would_be_lenient() -> None:
    """The reason for looking first; where this fails, the strict pattern may be more than is needed."""
    messages, _, _ = parser().feed_data(b"HTTP/1.1 200 OK\nA: b\n c\x01\n\n")
    assert len(messages) == 1


def test_after_close_no_further_head_is_taken() -> None:
    one = parser()
    one.feed_data(b"HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\n")
    with pytest.raises(http_exceptions.HttpProcessingError):
        one.feed_data(b"HTTP/1.1 200 OK\r\n\r\n")


# ---- the reader -----------------------------------------------------------------------------------------------------------


def test_interim_head_with_close_is_followed_by_another() -> None:
    heads = reader()
    found = heads.feed(b"HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\n\r\nrest")
    assert found is not None
    assert found[0].status == 103
    found = heads.feed(found[1])
    assert found is not None
    assert (found[0].status, found[1]) == (200, b"rest")


@pytest.mark.parametrize(
    "line",
    [
        "HTTP/2.0 200 OK",
        "HTTP/1.2 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1 OK",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 2000 OK",
        "HTTP/1.1 600 OK",
        "HTTP/1.1 099 OK",
        "\r\nHTTP/1.1 200 OK",
        "HTTP/1.1 200 O\0K",
    ],
)
def test_status_lines_that_are_none(line: str) -> None:
    with pytest.raises(OriginInvalid):
        reader().feed(line.encode() + b"\r\nA: b\r\n\r\n")


@pytest.mark.parametrize(
    "line",
    [
        b"A: b\nC: d",
        b"A: b\rc",
        b"A: b\0c",
        b"A: b\x01c",
        b"A: b\r\n c",
        b" A: b",
        b": b",
        b"A : b",
        b"Nonsense",
        b"A b: c",
        b"Content-Length: 2\r\nContent-Length: 2",
    ],
)
def test_field_lines_that_are_none(line: bytes) -> None:
    with pytest.raises(OriginInvalid):
        reader().feed(b"HTTP/1.1 200 OK\r\n" + line + b"\r\nZ: z\r\n\r\n")


@given(data=st.data())
def test_a_head_in_any_pieces_is_the_same_head(data: st.DataObject) -> None:
    raw = b"HTTP/1.1 404 Not Found\r\nA: b\r\nContent-Length: 3\r\n\r\nabcde"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    heads, got, rest = reader(), None, b""
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        if got is not None:
            rest += raw[start:end]
        elif (found := heads.feed(raw[start:end])) is not None:
            got, rest = found
            assert not heads.begun
    assert isinstance(got, AnswerHead)
    assert (got.status, got.version, dict(got.fields)) == (404, (1, 1), {"A": "b", "Content-Length": "3"})
    assert rest == b"abcde"


@pytest.mark.parametrize("start", [b"X", b"HTTP/1.1 200 OK\nA", b"HTTP/1.1 200 OK\r\nA: \0", b"HTTP/1.1 200 OK\rX"])
def test_what_can_no_longer_become_a_head_is_refused_at_once(start: bytes) -> None:
    with pytest.raises(OriginInvalid):
        feed_all(reader(), [bytes([byte]) for byte in start])


def test_size_is_counted_over_the_whole_head() -> None:
    line = b"HTTP/1.1 200 OK\r\n"
    fitting = line + b"A: " + b"b" * (1000 - len(line) - 7) + b"\r\n\r\n"
    assert len(fitting) == 1000
    assert reader(1000).feed(fitting) is not None
    assert reader(1000).feed(fitting + b"x" * 5000) is not None
    for pieces in ([fitting], [fitting[:500], fitting[500:]]):
        with pytest.raises(OriginInvalid, match="999 bytes"):
            feed_all(reader(999), pieces)
    with pytest.raises(OriginInvalid, match="999 bytes"):
        reader(999).feed(fitting[:-4] + b"bbbb")


def test_many_fields_are_no_fault_within_the_size() -> None:
    found = reader().feed(b"HTTP/1.1 200 OK\r\n" + b"a:b\r\n" * 5000 + b"\r\n")
    assert found is not None
    assert len(found[0].fields) == 5000

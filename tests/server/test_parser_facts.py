"""What is relied upon of aiohttp's C parser, which is undocumented and pinned: each fact a test, so that an update cannot change it unseen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import aiohttp
import pytest
from aiohttp import http_parser
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDictProxy

from passoproxy.core.http.messages import Fields
from passoproxy.core.http.trace_context import traceparent_in, traceparent_of
from passoproxy.errors import BadRequest
from passoproxy.server.request import receive, with_traced


def fed(lines: bytes, max_headers: int = 256) -> Sequence[tuple[http_parser.RawRequestMessage, object]]:
    parser = http_parser.HttpRequestParser(
        None,
        asyncio.get_running_loop(),
        len(lines),
        max_line_size=len(lines),
        max_field_size=len(lines),
        max_headers=max_headers,
        response_with_body=False,
        auto_decompress=False,
    )
    return parser.feed_data(b"GET / HTTP/1.0\r\n" + lines)[0]


def test_the_version_is_the_one_that_was_read() -> None:
    assert aiohttp.__version__.split(".")[:2] == ["3", "14"]
    assert int(aiohttp.__version__.split(".")[2]) >= 5


def test_the_parser_is_the_c_one() -> None:
    assert http_parser.HttpRequestParser.__module__ == "aiohttp._http_parser"


async def test_fields_come_as_an_immutable_multidict_in_their_order_and_words() -> None:
    fields = fed(b"B: 1\r\nhost: x\r\nA: 2\r\nb: \t3 \t\r\n\r\n")[0][0].headers
    assert isinstance(fields, CIMultiDictProxy)
    assert next(iter(fields.items())) == ("B", "1")
    assert fields.getall("B") == ["1", "3"]
    assert [value for _, value in fields.items()] == ["1", "x", "2", "3"]


async def test_values_are_decoded_so_that_the_bytes_can_be_had_back() -> None:
    value = fed(b"X: \xe4\xc3\xa4\r\n\r\n")[0][0].headers["X"]
    assert value.encode("utf-8", "surrogateescape") == b"\xe4\xc3\xa4"


async def test_no_host_is_asked_of_our_own_request_line() -> None:
    assert len(fed(b"\r\n")) == 1


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: upgrade\r\nUpgrade: websocket\r\n"],
)
async def test_no_body_is_waited_for_whatever_the_fields_say(framing: bytes) -> None:
    assert len(fed(framing + b"\r\n")) == 1


async def test_a_content_coding_starts_no_decompression() -> None:
    assert type(fed(b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\n")[0][1]).__name__ == "EmptyStreamReader"


@pytest.mark.parametrize(
    "lines",
    [
        b"Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"Content-Type: a\r\ncontent-type: a\r\n\r\n",
        b"Content-Length: 99999999999999999999\r\n\r\n",
        b"A" * 300 + b": " + b"b" * 1 + b"\r\n" + b"X: \0\r\n\r\n",
    ],
)
async def test_what_it_refuses_comes_as_one_family_of_exceptions(lines: bytes) -> None:
    with pytest.raises(HttpProcessingError):
        fed(lines)


async def test_its_own_limits_do_not_stand_in_the_way() -> None:
    long = b"X-" + b"a" * 9000 + b": " + b"b" * 20000 + b"\r\n"
    assert len(fed(long + b"\r\n")[0][0].headers) == 1
    assert len(fed(b"".join(b"X-%d: a\r\n" % n for n in range(256)) + b"\r\n")[0][0].headers) == 256
    with pytest.raises(HttpProcessingError):
        fed(b"".join(b"X-%d: a\r\n" % n for n in range(257)) + b"\r\n")


async def test_a_long_field_passes_through_the_whole_reading() -> None:
    received = receive(b"GET /a? HTTP/1.1\r\nHost: a\r\nX: " + b"b" * 20000 + b"\r\n\r\n", "http")
    assert len(received.head.fields["X"]) == 20000
    assert received.head.target == "/a?"


async def test_heads_share_nothing() -> None:
    with pytest.raises(BadRequest):
        receive(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "http")
    assert dict(receive(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "http").head.fields) == {"Host": "a"}


def lowered(fields: Fields) -> list[tuple[str, str]]:
    return sorted((name.lower(), value) for name, value in fields.items())


HEADS = (
    b"Host: a\r\nX: 1",
    b"traceparent:  t1\t\r\nHost: a\r\nX-Request-ID: \xe4\r\nX: 1",
    b"Host: a\r\nX: 1\r\nTraceParent: t1\r\ntraceparent: t2",
    b"Host: a\r\nTracestate:\r\nX: 1\r\nX-Traceparent: 3",
)


@pytest.mark.parametrize("lines", HEADS)
async def test_fields_that_tell_traces_apart_are_read_by_themselves_and_none_is_lost(lines: bytes) -> None:
    read = receive(b"GET / HTTP/1.1\r\n" + lines + b"\r\n\r\n", "http")
    whole = fed(lines + b"\r\n\r\n")[0][0].headers
    assert lowered(with_traced(read.head, read.traced).fields) == lowered(whole)
    assert traceparent_in(b"".join(read.traced)) == traceparent_of(whole)
    assert read.lines is not None
    assert not {name.lower() for name in read.lines.fields} & {"traceparent", "tracestate", "x-request-id"}
    again = receive(b"GET /b HTTP/1.1\r\nX-Request-Id: other\r\n" + lines + b"\r\n\r\n", "http")
    assert again.lines is read.lines


@pytest.mark.parametrize(
    "lines",
    [
        b"traceparent: t\r\n folded\r\nHost: a",
        b"Host: a\r\ntraceparent: t\r\n\tfolded",
        b"Host: a\r\ntraceparent : t",
        b"Host: a\r\ntraceparent: t\0",
        b"Host: a\r\ntraceparent: t\nX: 1",
        b"Host: a\r\ntraceparent: t\rX: 1",
        b"traceparent: t",
    ],
)
async def test_around_them_the_head_is_held_to_the_same_rules(lines: bytes) -> None:
    with pytest.raises(BadRequest):
        receive(b"GET / HTTP/1.1\r\n" + lines + b"\r\n\r\n", "http")

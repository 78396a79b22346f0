"""Chunked bodies (RFC 9112 §7.1). More wrong ones are in tests/server/test_hostile_exchanges.py."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.http.framing import ChunkReader
from passoproxy.errors import BadRequest, HeadersTooLarge, Refusal


def read(pieces: list[bytes], max_trailer_bytes: int = 1000) -> tuple[bytes, bool, bytes]:
    """What comes of feeding `pieces` until the body is done: data, whether done, and all that was not the body's."""
    reader = ChunkReader(max_trailer_bytes)
    data = b""
    for number, piece in enumerate(pieces):
        data += reader.feed(piece)
        if reader.done:
            return data, True, reader.rest + b"".join(pieces[number + 1 :])
    return data, False, b""


@st.composite
def bodies(draw: st.DrawFn) -> tuple[bytes, bytes]:
    data, raw = b"", b""
    for chunk in draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6)):
        extension = draw(st.sampled_from([b"", b";a", b" ; a = b", b';a="\\"x";b=c']))
        raw += draw(st.sampled_from([b"%x", b"%X", b"00%x"])) % len(chunk) + extension + b"\r\n" + chunk + b"\r\n"
        data += chunk
    return data, raw + b"0\r\n" + draw(st.sampled_from([b"", b"X: a\r\n", b"X: a\r\nY:\r\n"])) + b"\r\n"


@given(bodies(), st.binary(max_size=10), st.lists(st.integers(0, 300), max_size=10))
def test_however_it_is_cut_a_body_is_read_the_same(body: tuple[bytes, bytes], after: bytes, cuts: list[int]) -> None:
    data, raw = body
    stream = raw + after
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:end] for start, end in itertools.pairwise(edges)]
    assert read(pieces) == (data, True, after)
    assert read([bytes((byte,)) for byte in stream]) == (data, True, after)


@given(st.binary(max_size=60))
def test_rubbish_is_read_or_refused_and_never_fails_otherwise(rubbish: bytes) -> None:
    try:
        read([rubbish])
    except Refusal:
        pass


@pytest.mark.parametrize(
    "raw",
    [
        b"\r\n",
        b"g\r\n",
        b"3 \r\n",
        b" 3\r\n",
        b"0x3\r\nabc\r\n",
        b"+3\r\nabc\r\n",
        b"1_0\r\n0123456789abcdef\r\n",
        b"\r\n3\r\nabc\r\n",
        b"3\n",
        b"3\rx",
        b"3;\r\n",
        b'3;a="b\r\n',
        b"3;a=b c\r\n",
        b"3\r\nabcd",
        b"3\r\nabc\n",
        b"3\r\nabc\rx",
        b"0" * 17 + b"\r\n",
        b"3;" + b"a" * 1100,
        b"0\r\nX: a\n",
        b"0\r\n: a\r\n\r\n",
    ],
)
def test_wrong_bodies_are_refused_as_soon_as_they_are_wrong(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        read([raw])
    with pytest.raises(BadRequest):
        read([bytes((byte,)) for byte in raw])


def test_a_trailer_over_its_bound_is_too_large() -> None:
    with pytest.raises(HeadersTooLarge):
        read([b"0\r\n" + b"X: a\r\n" * 100], max_trailer_bytes=100)


def test_a_body_of_empty_talk_is_refused() -> None:
    with pytest.raises(BadRequest, match="extensions"):
        read([b"1;a=" + b"b" * 900 + b"\r\nx\r\n"] * 100)


def test_small_chunks_without_extensions_are_no_offence() -> None:
    assert read([b"1\r\nx\r\n"] * 20000 + [b"0\r\n\r\n"])[0] == b"x" * 20000


@given(bodies(), st.integers(1, 3))
def test_a_body_read_a_few_chunks_at_a_time_is_the_same(body: tuple[bytes, bytes], most: int) -> None:
    data, raw = body
    reader = ChunkReader(1000, max_chunks=most)
    read = reader.feed(raw + b"after")
    while reader.unread:
        read += reader.feed(reader.unread)
    assert (read, reader.done, reader.rest) == (data, True, b"after")


def test_one_feed_reads_so_many_chunks() -> None:
    reader = ChunkReader(max_chunks=3)
    assert (reader.feed(b"1\r\na\r\n" * 8), len(reader.unread)) == (b"aaa", 30)
    assert (reader.feed(reader.unread), len(reader.unread)) == (b"aaa", 12)
    assert (reader.feed(reader.unread), reader.unread) == (b"aa", b"")


def test_a_trailer_section_that_drips_is_searched_once() -> None:
    """Searched anew with every byte it took minutes of a core."""
    reader = ChunkReader(32 * 1024)
    reader.feed(b"0\r\n")
    began = time.process_time()
    for _ in range(32_000):
        reader.feed(b"a")
    assert time.process_time() - began < 4

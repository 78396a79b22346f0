"""Codings: exact both ways, in any split, with bounded steps, and broken ones told."""

from __future__ import annotations

import gzip
import random

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.errors import BodyBroken
from passoproxy.ports import BytesBody
from passoproxy.proxy import codecs
from tests.fakes import BROKEN, ChunkedBody
from tests.turns import Turns

MIB = 1024 * 1024

TEXT = b'{"records": [' + b'"entry", ' * 5000 + b"0]}"
OTHERS = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.ZstdCompressor().compress}
UNDO = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


async def gathered(body: codecs.DecodedBody | codecs.SteppedBody) -> bytes:
    return b"".join([part async for part in body])


@pytest.mark.parametrize("coding", codecs.KNOWN)
async def test_decodes_what_others_encoded_in_any_split(coding: str) -> None:
    data = OTHERS[coding](TEXT)
    for step in (1, 7, len(data)):
        body = ChunkedBody(*(data[at : at + step] for at in range(0, len(data), step)))
        assert await gathered(codecs.DecodedBody(body, coding)) == TEXT


@pytest.mark.parametrize("coding", codecs.KNOWN)
async def test_encodes_what_others_decode(coding: str) -> None:
    body = codecs.encoded_body(ChunkedBody(TEXT[:100], TEXT[100:]), coding)
    assert UNDO[coding](await gathered(body)) == TEXT
    assert UNDO[coding](codecs.encoded(TEXT, coding)) == TEXT
    large = bytes(range(256)) * 1024
    assert UNDO[coding](await gathered(codecs.encoded_body(BytesBody(large), coding))) == large


@pytest.mark.parametrize("coding", codecs.KNOWN)
async def test_what_trickles_is_not_held_back(coding: str) -> None:
    """Each part of a stream can be read at the other end before the next one is there."""
    decoding, encoding = codecs.decoder(coding), codecs.encoded_body(ChunkedBody(b"one", b"two", b"three"), coding)
    read = [b"".join(decoding.feed(part)) async for part in encoding]
    decoding.finish()
    assert read[:3] == [b"one", b"two", b"three"]
    assert b"".join(read) == b"onetwothree"


@pytest.mark.parametrize("coding", codecs.KNOWN)
async def test_closing_closes_the_inner_body(coding: str) -> None:
    for kind in (codecs.DecodedBody, codecs.encoded_body):
        inner = ChunkedBody(b"x")
        await kind(inner, coding).aclose()
        assert inner.closed


@pytest.mark.parametrize("coding", codecs.KNOWN)
@pytest.mark.parametrize(
    "broken",
    [lambda data: data[:-4], lambda data: data[: len(data) // 2] + b"\xff" * 40, lambda data: b"nonsense" * 20],
)
async def test_broken_ones_are_told(coding: str, broken: object) -> None:
    data = OTHERS[coding](TEXT)
    with pytest.raises(BodyBroken):
        await gathered(codecs.DecodedBody(BytesBody(broken(data)), coding))  # type: ignore[operator]


async def test_a_break_further_in_goes_through() -> None:
    data = gzip.compress(TEXT)
    with pytest.raises(BodyBroken):
        await gathered(codecs.DecodedBody(ChunkedBody(data[:50], BROKEN), "gzip"))
    with pytest.raises(BodyBroken):
        await gathered(codecs.encoded_body(ChunkedBody(b"x", BROKEN), "gzip"))


@pytest.mark.parametrize("coding", codecs.KNOWN)
async def test_an_empty_body_is_empty(coding: str) -> None:
    assert await gathered(codecs.DecodedBody(BytesBody(b""), coding)) == b""


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
async def test_several_members_are_one_content(coding: str) -> None:
    data = OTHERS[coding](b"one ") + OTHERS[coding](b"two")
    assert await gathered(codecs.DecodedBody(BytesBody(data), coding)) == b"one two"


async def test_gzip_padding_is_ignored() -> None:
    assert await gathered(codecs.DecodedBody(BytesBody(gzip.compress(b"one") + b"\0" * 20), "gzip")) == b"one"


@pytest.mark.parametrize(
    ("coding", "most"), [("gzip", codecs.STEP), ("br", codecs.STEP + 64 * 1024), ("zstd", 4 * MIB)]
)
def test_a_bomb_comes_in_bounded_steps(coding: str, most: int) -> None:
    bomb = brotli.compress(b"0" * (16 * MIB), quality=5) if coding == "br" else OTHERS[coding](b"0" * (16 * MIB))
    assert len(bomb) < 20_000
    sizes = [len(part) for part in codecs.decoder(coding).feed(bomb)]
    assert sum(sizes) == 16 * MIB
    assert max(sizes) <= most


@pytest.mark.parametrize("coding", codecs.KNOWN)
@pytest.mark.parametrize("split", [1 << 30, 1000])
async def test_a_bomb_is_broken_off(coding: str, split: int) -> None:
    bomb = codecs.encoded(bytes(32 * MIB), coding)
    body = codecs.DecodedBody(ChunkedBody(*(bomb[at : at + split] for at in range(0, len(bomb), split))), coding)
    sizes: list[int] = []

    async def read() -> None:
        async for part in body:
            sizes.append(len(part))

    with pytest.raises(BodyBroken, match="1,000 times"):
        await read()
    assert codecs.MOST_FREE <= sum(sizes) + MIB <= codecs.MOST_FREE + 8 * MIB


@pytest.mark.parametrize("coding", codecs.KNOWN)
async def test_what_is_long_and_shrinks_well_is_no_bomb(coding: str) -> None:
    text = random.Random(1).randbytes(24 * 1024) * 720
    data = codecs.encoded(text, coding)
    assert len(text) > codecs.MOST_FREE
    assert len(text) > 100 * len(data)
    size = 0
    async for part in codecs.DecodedBody(BytesBody(data), coding):
        size += len(part)
    assert size == len(text)


LONG_STEP = 0.02
"""Seconds of the loop's own work that no step may take, generously: one that is done in one go takes 50 ms and more."""


@pytest.mark.parametrize("coding", codecs.KNOWN)
async def test_the_loop_has_turns_while_a_body_is_decoded(coding: str) -> None:
    zeros = bytes(12 * MIB)
    data = brotli.compress(zeros, quality=5, lgwin=24) if coding == "br" else codecs.encoded(zeros, coding)
    async with Turns() as turns:
        async for _ in codecs.DecodedBody(BytesBody(data), coding):
            pass
    assert max(turns.computed) < LONG_STEP, turns


@pytest.mark.parametrize("coding", codecs.KNOWN)
async def test_the_loop_has_turns_while_a_body_is_encoded(coding: str) -> None:
    large = random.Random(1).randbytes(2 * MIB).hex().encode()
    async with Turns() as turns:
        made = await gathered(codecs.encoded_body(BytesBody(large), coding))
    assert max(turns.computed) < LONG_STEP, turns
    assert UNDO[coding](made) == large


def test_a_zstd_frame_with_a_giant_window_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    data = zstandard.ZstdCompressor(compression_params=parameters).compressobj().compress(b"x" * (130 * 1024 * 1024))
    with pytest.raises(BodyBroken):
        list(codecs.decoder("zstd").feed(data))


@pytest.mark.parametrize("coding", codecs.KNOWN)
def test_at_once_within_a_bound(coding: str) -> None:
    data = OTHERS[coding](TEXT)
    assert codecs.decoded(data, coding, len(TEXT)) == TEXT
    assert codecs.decoded(data, coding, len(TEXT) - 1) is None


@pytest.mark.parametrize(
    ("name", "own"), [("GZIP ", "gzip"), ("x-gzip", "gzip"), ("br", "br"), ("deflate", None), ("gzip, br", None)]
)
def test_names(name: str, own: str | None) -> None:
    assert codecs.known(name) == own


@given(st.binary(max_size=4000), st.sampled_from(codecs.KNOWN))
def test_round_trip(data: bytes, coding: str) -> None:
    assert codecs.decoded(codecs.encoded(data, coding), coding, 10_000) == data

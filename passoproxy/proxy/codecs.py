"""Content codings (RFC 9110 §8.4.1): gzip, br and zstd, decoded and encoded in small steps with bounded memory.

Decoding is done in threads, since a few bytes can stand for a long work of which the coding's library gives no part before it is done
(a br window: 16 MiB). Which coding a client gets is decided in `representation`; this module only turns bytes into bytes.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from typing import Any

import brotli
import zstandard

from passoproxy.errors import BodyBroken
from passoproxy.ports import Body

STEP = 64 * 1024
"""Bytes that one step gives at most, or takes at once: what the loop is kept busy with for less than 5 ms."""

MOST_FREE = 16 * 1024 * 1024
MOST_RATIO = 1000
"""A body of more than MOST_FREE bytes that is more than so many times as long as its coded form is a bomb, and is broken off."""

_BATCH = 4 * STEP  # what a thread gives at once
_INPUT = 4 * 1024  # what a decoder is fed at once, so that it is known how little stands for how much

KNOWN = ("zstd", "br", "gzip")
"""The codings that can be made and undone, in the order of preference among equals."""

_ALIASES = {"x-gzip": "gzip"}
_ZSTD_WINDOW = 8 * 1024 * 1024  # RFC 9659 §3: what a decoder of this coding has to support, and no more
_ZSTD_SLICE = (
    128  # four bytes of a frame can stand for 128 KiB, and zstandard knows no output limit: so it is fed in crumbs
)


def known(coding: str) -> str | None:
    """The coding's own name if it can be undone, None for others."""
    name = coding.strip().lower()
    name = _ALIASES.get(name, name)
    return name if name in KNOWN else None


class _Members:
    """Undoes gzip or zstd, of which several members or frames may follow one another. `used` counts the bytes that what was given until now
    stands for. Raises BodyBroken for bytes that are not in the coding; `finish` also for a stream that ended early.
    """

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._inner = self._made()
        self._begun = False
        self.used = 0

    def _made(self) -> Any:
        if self._coding == "gzip":
            return zlib.decompressobj(wbits=31)
        return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._coding == "gzip":
            yield from self._fed(data, STEP)
        else:
            for start in range(0, len(data), _ZSTD_SLICE):
                yield from self._fed(data[start : start + _ZSTD_SLICE])

    def _fed(self, data: bytes, *most: int) -> Iterator[bytes]:
        while data:
            if self._inner.eof:
                if most and not data.strip(b"\0"):
                    return  # padding after the last member, as gzip itself allows
                self._inner = self._made()
            self._begun = True
            try:
                made = self._inner.decompress(data, *most)
            except (zlib.error, zstandard.ZstdError) as error:
                raise BodyBroken(f"a {self._coding} body cannot be decoded ({error})") from error
            rest = (self._inner.unconsumed_tail if most else b"") or self._inner.unused_data
            self.used += len(data) - len(rest)
            data = rest
            if made:
                yield made

    def finish(self) -> None:
        if self._begun and not self._inner.eof:
            raise BodyBroken(f"a {self._coding} body ended before its end")


class _Brotli:
    """Undoes br, as `_Members` does the others."""

    def __init__(self) -> None:
        self._inner = brotli.Decompressor()
        self._begun = False
        self.used = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _INPUT):
            yield from self._fed(data[start : start + _INPUT])

    def _fed(self, data: bytes) -> Iterator[bytes]:
        self._begun = True
        self.used += len(data)
        try:
            made = self._inner.process(data, output_buffer_limit=STEP)
            while made or not self._inner.can_accept_more_data():
                if made:
                    yield made
                made = self._inner.process(b"", output_buffer_limit=STEP)
        except brotli.error as error:
            raise BodyBroken(f"a br body cannot be decoded ({error})") from error

    def finish(self) -> None:
        if self._begun and not self._inner.is_finished():
            raise BodyBroken("a br body ended before its end")


def decoder(coding: str) -> _Members | _Brotli:
    """A fresh decoder for one of KNOWN."""
    return _Brotli() if coding == "br" else _Members(coding)


def decoded(data: bytes, coding: str, max_bytes: int) -> bytes | None:
    """The whole content, or None if it is longer than `max_bytes`; to be done in a thread. Raises BodyBroken."""
    undoing, parts, size = decoder(coding), [], 0
    for part in undoing.feed(data):
        size += len(part)
        if size > max_bytes:
            return None
        parts.append(part)
    undoing.finish()
    return b"".join(parts)


_WINDOW_LOG = 18
"""256 KiB: with the usual windows an encoder for br takes 6.3 MiB and one for zstd 3.2 for as long as its client reads; so 1.6 and 1.4."""


class Encoder:
    """Makes one of KNOWN. `flush` gives what is held back, so that all that was fed can be read at the other end."""

    def __init__(self, coding: str) -> None:
        self.feed: Callable[[bytes], bytes]
        self.flush: Callable[[], bytes]
        self.finish: Callable[[], bytes]
        if coding == "gzip":
            gzip = zlib.compressobj(5, wbits=31)
            self.feed, self.flush, self.finish = gzip.compress, partial(gzip.flush, zlib.Z_SYNC_FLUSH), gzip.flush
        elif coding == "br":
            br = brotli.Compressor(quality=4, lgwin=_WINDOW_LOG)
            self.feed, self.flush, self.finish = br.process, br.flush, br.finish
        else:
            parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=_WINDOW_LOG)
            zstd = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
            self.feed, self.finish = zstd.compress, zstd.flush
            self.flush = partial(zstd.flush, zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def step(self, data: bytes) -> bytes:
        """As `feed`; less than STEP is all that is there now, and a stream that trickles must not wait for an encoder to be full."""
        return self.feed(data) if len(data) >= STEP else self.feed(data) + self.flush()


def encoded(data: bytes, coding: str) -> bytes:
    """The whole of `data` in a coding; to be done in a thread if that is more than STEP."""
    making = Encoder(coding)
    return making.feed(data) + making.finish()


class DecodedBody:
    """A coded body, decoded as it is read, in `threads` (None: the loop's own). Iteration raises BodyBroken for a bomb, too."""

    __slots__ = ("_body", "_decoder", "_ended", "_given", "_pending", "_threads", "length")

    def __init__(self, body: Body, coding: str, threads: Executor | None = None) -> None:
        self._body, self._decoder, self._threads = body, decoder(coding), threads
        self._pending: Iterator[bytes] | None = None
        self._ended = False
        self._given = 0
        self.length: int | None = None

    def __aiter__(self) -> DecodedBody:
        return self

    async def __anext__(self) -> bytes:
        while not self._ended:
            if self._pending is None:
                try:
                    self._pending = self._decoder.feed(await anext(self._body))
                except StopAsyncIteration:
                    self._ended = True
                    self._decoder.finish()
                    break
            if made := await asyncio.get_running_loop().run_in_executor(self._threads, self._batch, self._pending):
                return made
        raise StopAsyncIteration

    def _batch(self, pending: Iterator[bytes]) -> bytes:
        """The next bytes of what was fed; notes if that was all."""
        made, size = [], 0
        for part in pending:
            made.append(part)
            size += len(part)
            self._given += len(part)
            if self._given > MOST_FREE and self._given > MOST_RATIO * self._decoder.used:
                raise BodyBroken("a coded body is more than 1,000 times as long as its coded form")
            if size >= _BATCH:
                return b"".join(made)
        self._pending = None
        return b"".join(made)

    async def aclose(self) -> None:
        await self._body.aclose()


class SteppedBody:
    """A body that is put through `feed` as it is read, and ended by `finish`; in steps of at most STEP bytes, so that the loop is not held up."""

    __slots__ = ("__weakref__", "_body", "_ended", "_feed", "_finish", "_rest", "length")

    def __init__(self, body: Body, feed: Callable[[bytes], bytes], finish: Callable[[], bytes]) -> None:
        self._body, self._feed, self._finish = body, feed, finish
        self._rest, self._ended = b"", False
        self.length: int | None = None

    def __aiter__(self) -> SteppedBody:
        return self

    async def __anext__(self) -> bytes:
        while not self._ended:
            await asyncio.sleep(0)
            try:
                part = self._rest or await anext(self._body)
                self._rest = part[STEP:]
                made = self._feed(part[:STEP])
            except StopAsyncIteration:
                self._ended = True
                made = self._finish()
            if made:
                return made
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await self._body.aclose()


def encoded_body(body: Body, coding: str) -> SteppedBody:
    """A plain body, encoded as it is read."""
    encoder = Encoder(coding)
    return SteppedBody(body, encoder.step, encoder.finish)

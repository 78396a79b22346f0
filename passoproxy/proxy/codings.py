"""Content codings (RFC 9110 §8.4.1): gzip, br and zstd, decoded and encoded in small steps with bounded memory.

Which coding a client gets is decided in `encoding`; this module only turns bytes into bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import brotli
import zstandard

from passoproxy.errors import BodyBroken
from passoproxy.ports import Body

STEP = 64 * 1024
"""Bytes that one step gives at most, or takes at once: what the loop is kept busy with."""

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


class Decoder(Protocol):
    """Undoes a coding. Both raise BodyBroken for bytes that are not in it; `finish` also for a stream that ended early."""

    def feed(self, data: bytes) -> Iterator[bytes]: ...
    def finish(self) -> None: ...


class _Gzip:
    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inner.eof:
                if not data.strip(b"\0"):
                    return  # padding after the last member, as gzip itself allows
                self._inner = zlib.decompressobj(wbits=31)
            self._begun = True
            try:
                made = self._inner.decompress(data, STEP)
            except zlib.error as error:
                raise BodyBroken(f"a gzip body cannot be decoded ({error})") from error
            data = self._inner.unconsumed_tail or self._inner.unused_data
            if made:
                yield made

    def finish(self) -> None:
        if self._begun and not self._inner.eof:
            raise BodyBroken("a gzip body ended before its end")


class _Brotli:
    def __init__(self) -> None:
        self._inner = brotli.Decompressor()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._begun = True
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


class _Zstandard:
    def __init__(self) -> None:
        self._inner = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _ZSTD_SLICE):
            yield from self._crumb(data[start : start + _ZSTD_SLICE])

    def _crumb(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._inner.eof:  # another frame follows (RFC 8878 §3.1)
                self._inner = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
            self._begun = True
            try:
                made = self._inner.decompress(data)
            except zstandard.ZstdError as error:
                raise BodyBroken(f"a zstd body cannot be decoded ({error})") from error
            data = self._inner.unused_data if self._inner.eof else b""
            if made:
                yield made

    def finish(self) -> None:
        if self._begun and not self._inner.eof:
            raise BodyBroken("a zstd body ended before its end")


_DECODERS: dict[str, Callable[[], Decoder]] = {"gzip": _Gzip, "br": _Brotli, "zstd": _Zstandard}


def decoder(coding: str) -> Decoder:
    """A fresh decoder for one of KNOWN."""
    return _DECODERS[coding]()


def decoded(data: bytes, coding: str, max_bytes: int) -> bytes | None:
    """The whole content, or None where it is longer than `max_bytes`. Raises BodyBroken."""
    undoing, parts, size = decoder(coding), [], 0
    for part in undoing.feed(data):
        size += len(part)
        if size > max_bytes:
            return None
        parts.append(part)
    undoing.finish()
    return b"".join(parts)


class Encoder(Protocol):
    """Makes a coding. `flush` gives what is held back, so that all that was fed can be read at the other end."""

    def feed(self, data: bytes) -> bytes: ...
    def flush(self) -> bytes: ...
    def finish(self) -> bytes: ...


class _GzipEncoder:
    def __init__(self) -> None:
        self._inner = zlib.compressobj(5, wbits=31)

    def feed(self, data: bytes) -> bytes:
        return self._inner.compress(data)

    def flush(self) -> bytes:
        return self._inner.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._inner.flush()


class _BrotliEncoder:
    def __init__(self) -> None:
        self._inner = brotli.Compressor(quality=4)

    def feed(self, data: bytes) -> bytes:
        return bytes(self._inner.process(data))

    def flush(self) -> bytes:
        return bytes(self._inner.flush())

    def finish(self) -> bytes:
        return bytes(self._inner.finish())


class _ZstandardEncoder:
    def __init__(self) -> None:
        self._inner = zstandard.ZstdCompressor(level=3).compressobj()

    def feed(self, data: bytes) -> bytes:
        return self._inner.compress(data)

    def flush(self) -> bytes:
        return self._inner.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def finish(self) -> bytes:
        return self._inner.flush()


_ENCODERS: dict[str, Callable[[], Encoder]] = {"gzip": _GzipEncoder, "br": _BrotliEncoder, "zstd": _ZstandardEncoder}


def encoder(coding: str) -> Encoder:
    """A fresh encoder for one of KNOWN."""
    return _ENCODERS[coding]()


def encoded(data: bytes, coding: str) -> bytes:
    """The whole of `data` in a coding."""
    making = encoder(coding)
    return making.feed(data) + making.finish()


class DecodedBody:
    """A coded body, decoded as it is read, in steps of at most 64 KiB (4 MiB for a hostile zstd frame)."""

    __slots__ = ("_body", "_decoder", "_ended", "_pending", "length")

    def __init__(self, body: Body, coding: str) -> None:
        self._body, self._decoder = body, decoder(coding)
        self._pending: Iterator[bytes] = iter(())
        self._ended = False
        self.length: int | None = None

    def __aiter__(self) -> DecodedBody:
        return self

    async def __anext__(self) -> bytes:
        while True:
            for part in self._pending:
                return part
            if self._ended:
                raise StopAsyncIteration
            try:
                self._pending = self._decoder.feed(await anext(self._body))
            except StopAsyncIteration:
                self._ended = True
                self._decoder.finish()

    async def aclose(self) -> None:
        await self._body.aclose()


class EncodedBody:
    """A plain body, encoded as it is read; large parts are taken in steps so that the loop is not held up."""

    __slots__ = ("_body", "_encoder", "_ended", "_rest", "length")

    def __init__(self, body: Body, coding: str) -> None:
        self._body, self._encoder = body, encoder(coding)
        self._rest, self._ended = b"", False
        self.length: int | None = None

    def __aiter__(self) -> EncodedBody:
        return self

    async def __anext__(self) -> bytes:
        while not self._ended:
            if not self._rest:
                try:
                    self._rest = await anext(self._body)
                except StopAsyncIteration:
                    self._ended = True
                    return self._encoder.finish()
            step, self._rest = self._rest[:STEP], self._rest[STEP:]
            made = self._encoder.feed(step)
            # less than a step is all that is there now: a stream that trickles must not wait for an encoder to be full
            if len(step) < STEP:
                made += self._encoder.flush()
            if made:
                return made
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await self._body.aclose()

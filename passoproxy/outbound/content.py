"""Cuts the content of one answer out of what arrives on its connection, by the answer's framing, and finds its exact end."""

from __future__ import annotations

from typing import assert_never

from passoproxy.core.http.chunks import ChunkReader
from passoproxy.core.http.framing import Chunked, NoBody, ResponseFraming, Sized, UntilClosed
from passoproxy.errors import BodyBroken, Refusal


class BodyInvalid(BodyBroken):
    """A body broke because its bytes are not HTTP."""


class ContentReader:
    """Reads one answer's content. `peer` names the origin in faults, `trailer_bytes` bounds the trailer section of a chunked body."""

    __slots__ = ("_chunks", "_left", "_peer", "done", "excess", "length", "until_close")

    def __init__(self, framing: ResponseFraming, peer: str, trailer_bytes: int) -> None:
        self._peer = peer
        self._chunks: ChunkReader | None = None
        self._left = 0
        self.length: int | None = None
        """How long the content will be, where the head said so."""
        self.until_close = False
        """Whether only the end of the connection is the end of the content."""
        self.done = False
        """Whether the content is complete."""
        self.excess = False
        """Whether more arrived than belongs to the answer."""
        match framing:
            case NoBody():
                self.length = 0
            case Sized(length):
                self.length = self._left = length
            case Chunked():
                self._chunks = ChunkReader(trailer_bytes)
            case UntilClosed():
                self.until_close = True
            case _:
                assert_never(framing)

    def feed(self, data: bytes) -> bytes:
        """The content in `data`. Raises BodyInvalid; not to be fed when done."""
        if self._chunks is not None:
            return self._feed_chunks(self._chunks, data)
        if self.until_close:
            return data
        if len(data) < self._left:
            self._left -= len(data)
            return data
        self.done = True
        if len(data) == self._left:
            return data
        self.excess = True
        return data[: self._left]

    def _feed_chunks(self, chunks: ChunkReader, data: bytes) -> bytes:
        try:
            content = chunks.feed(data)
        except Refusal as refusal:
            raise BodyInvalid(f"{self._peer} sent a body that is not valid HTTP: {refusal.detail}") from refusal
        self.done = chunks.done
        self.excess = bool(chunks.rest)
        return content

"""A chunked body's bytes (RFC 9112 §7.1), read strictly and piece by piece: a machine without I/O that is fed and gives data back."""

from __future__ import annotations

import re
import sys
from enum import Enum, auto

from passoproxy.core.http.grammar import WORD_CHARACTERS
from passoproxy.core.http.scanning import scan_trailer
from passoproxy.errors import BadRequest, HeadersTooLarge

_WORD = b"[%b]+" % WORD_CHARACTERS.encode()
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*+)" % (_WORD, _WORD, _QUOTED)
)
_HEX_DIGITS = b"0123456789abcdefABCDEF"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_LONGEST_LINE = 1024
# Overhead beyond what data excuses: a body of empty talk is refused before it costs (as Go's net/http counts it).
_FREE_PER_CHUNK = 16
_MOST_EXCESS = 16 * 1024


class _Expecting(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    NOTHING = auto()


class ChunkReader:
    """Reads one chunked body. `feed` gives the data in what it was fed; `done` tells that the body ended, `rest` what came after it, `unread` what
    was left for the next time.
    """

    __slots__ = (
        "_excess",
        "_expecting",
        "_held",
        "_left",
        "_max_chunks",
        "_max_trailer_bytes",
        "_searched",
        "done",
        "rest",
        "unread",
    )

    def __init__(self, max_trailer_bytes: int = 32 * 1024, max_chunks: int = sys.maxsize) -> None:
        """`max_trailer_bytes` bounds the trailer section, which is checked and dropped, `max_chunks` the work of one `feed`."""
        self._expecting = _Expecting.SIZE
        self._held = b""
        self._left = 0
        self._excess = 0
        self._searched = 0  # of the trailer section, so that one that drips is not searched anew with every byte
        self._max_trailer_bytes, self._max_chunks = max_trailer_bytes, max_chunks
        self.unread = b""
        self.done = False
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in `data`, joined. Raises BadRequest, HeadersTooLarge for the trailer; not to be fed afterwards or when done."""
        if self._held:
            data, self._held = self._held + data, b""
        parts: list[bytes] = []
        at = 0
        self.unread = b""
        while at < len(data) and not self.done:
            match self._expecting:
                case _Expecting.DATA:
                    part = data[at : at + self._left]
                    parts.append(part)
                    at += len(part)
                    self._left -= len(part)
                    if not self._left:
                        self._expecting = _Expecting.DATA_END
                case _Expecting.DATA_END:
                    if not b"\r\n".startswith(data[at : at + 2]):
                        raise BadRequest("a chunk is longer than its size says")
                    at = self._take(data, at, 2, _Expecting.SIZE)
                case _Expecting.SIZE:
                    at = self._whole_chunks(data, at, parts)
                    if len(parts) >= self._max_chunks:
                        self.unread = data[at:]
                        break
                    if at < len(data):
                        at = self._size_line(data, at)
                case _:
                    at = self._trailer(data, at)
        self.rest = data[at:] if self.done else b""
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _whole_chunks(self, data: bytes, at: int, parts: list[bytes]) -> int:
        """Reads chunks that are there whole and have a plain size of up to four digits; the rest is left to the rules below.

        A loop of its own, because chunks of a byte are a cheap way to keep others waiting.
        """
        while len(parts) < self._max_chunks:
            end = data.find(b"\r\n", at, at + 6)
            size = data[at:end]
            if end < 0 or not size or size.strip(_HEX_DIGITS):
                return at
            stop = end + 2 + int(size, 16)
            if stop == end + 2 or not data.startswith(b"\r\n", stop):
                return at
            parts.append(data[end + 2 : stop])
            self._excess = max(0, self._excess + end - at - _FREE_PER_CHUNK - 2 * (stop - end - 2))
            at = stop + 2
        return at

    def _take(self, data: bytes, at: int, count: int, then: _Expecting) -> int:
        if len(data) - at < count:
            self._held = data[at:]
            return len(data)
        self._expecting = then
        return at + count

    def _size_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\r\n", at, at + _LONGEST_LINE)
        if end < 0:
            return self._hold_line(data, at)
        line = _SIZE_LINE.fullmatch(data, at, end)
        if line is None:
            raise BadRequest("a chunk's size line is not as RFC 9112 §7.1 has it")
        self._left = int(line[1], 16)
        self._excess = max(0, self._excess + end - at - _FREE_PER_CHUNK - 2 * self._left)
        if self._excess > _MOST_EXCESS:
            raise BadRequest("the chunked body is mostly chunk extensions")
        self._expecting = _Expecting.DATA if self._left else _Expecting.TRAILER
        return end + 2

    def _hold_line(self, data: bytes, at: int) -> int:
        held = data[at:]
        if len(held) >= _LONGEST_LINE:
            raise BadRequest(f"a chunk's size line is longer than {_LONGEST_LINE} bytes")
        # A bare LF or CR can no longer become a line end: say so now, and not when the client's time is up.
        if b"\n" in held or b"\r" in held[:-1]:
            raise BadRequest("a bare CR or LF in a chunk's size line")
        self._held = held
        return len(data)

    def _trailer(self, data: bytes, at: int) -> int:
        if data.startswith(b"\r\n", at):
            self._finish()
            return at + 2
        end = data.find(b"\r\n\r\n", at + max(0, self._searched - 3), at + self._max_trailer_bytes + 4)
        if end >= 0:
            scan_trailer(data[at : end + 2])
            self._finish()
            return end + 4
        if len(data) - at > self._max_trailer_bytes:
            raise HeadersTooLarge("the trailer section is larger than server.limits.header_bytes leaves room for")
        self._held = data[at:]
        if _BARE_LF.search(self._held, self._searched):
            raise BadRequest("a bare LF in the trailer section")
        self._searched = len(self._held)
        return len(data)

    def _finish(self) -> None:
        self._expecting = _Expecting.NOTHING
        self.done = True

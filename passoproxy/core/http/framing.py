"""How a message's body is framed (RFC 9112 §6): without mercy for requests, and for answers as lenient as §6.3 demands; and a chunked body's bytes
(§7.1), read strictly by a machine without I/O that is fed and gives data back. The bytes of a head are read in `request_line`.
"""

from __future__ import annotations

import re
import sys
from enum import Enum, auto
from functools import lru_cache

from passoproxy.core.http.messages import Fields
from passoproxy.core.http.request_line import scan_trailer
from passoproxy.core.http.syntax import WORD_CHARACTERS, members_of, split_list
from passoproxy.errors import BadRequest, HeadersTooLarge, OriginInvalid
from passoproxy.values import value

_WORD = b"[%b]+" % WORD_CHARACTERS.encode()
_QUOTED = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:[ \t]*;[ \t]*%b(?:[ \t]*=[ \t]*(?:%b|%b))?)*+)" % (_WORD, _WORD, _QUOTED)
)
_HEX_DIGITS = b"0123456789abcdefABCDEF"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_LONGEST_LINE = 1024
_LONGEST_REMEMBERED = 256
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


_DIGITS = re.compile("[0-9]+")
_HUGE = 10**18


@value
class NoBody:
    """The message ends with its head."""


@value
class Sized:
    """`length` bytes follow the head; 0 where a length of 0 was said."""

    length: int


@value
class Chunked:
    """The body comes in chunks (RFC 9112 §7.1)."""


@value
class UntilClosed:
    """The body ends with the connection: answers only."""


RequestFraming = NoBody | Sized | Chunked
ResponseFraming = NoBody | Sized | Chunked | UntilClosed

NO_BODY = NoBody()
CHUNKED = Chunked()
UNTIL_CLOSED = UntilClosed()


def request_framing(version: tuple[int, int], fields: Fields) -> RequestFraming:
    """How the body of a request is framed. Raises BadRequest for everything that two readers could read in two ways."""
    if "Transfer-Encoding" in fields:
        return _chunked_request(version, fields)
    lengths = fields.getall("Content-Length", ())
    if not lengths:
        return NO_BODY
    if len(lengths) > 1 or not _DIGITS.fullmatch(lengths[0]):
        raise BadRequest("Content-Length must be one decimal number, once (RFC 9112 §6.2)")
    return Sized(_number(lengths[0]))


def expects_continue(version: tuple[int, int], fields: Fields) -> bool:
    """Whether the client waits for a 100 (RFC 9110 §10.1.1). Raises BadRequest for any other expectation."""
    if "Expect" not in fields:
        return False
    expectations = members_of(fields, "Expect")
    if any(expectation.lower() != "100-continue" for expectation in expectations):
        raise BadRequest("Expect knows nothing but 100-continue")
    return bool(expectations) and version >= (1, 1)


def response_framing(method: str, version: tuple[int, int], status: int, fields: Fields) -> ResponseFraming:
    """How the body of an answer to `method` is framed (RFC 9112 §6.3). Raises OriginInvalid where it cannot be known for sure."""
    if method == "HEAD" or status in (204, 304) or 100 <= status < 200:
        return NO_BODY
    if "Transfer-Encoding" in fields:
        return _chunked_response(version, fields)
    stated = fields.getall("Content-Length", ())
    if len(stated) == 1 and len(stated[0]) <= 18 and _DIGITS.fullmatch(stated[0]):
        return Sized(int(stated[0]))
    lengths = members_of(fields, "Content-Length")
    if not lengths:
        if stated:
            raise OriginInvalid("the origin's answer has an empty Content-Length")
        return UNTIL_CLOSED
    # One value said several times over is the one leniency that §6.3 point 5 has.
    if len(set(lengths)) > 1 or not _DIGITS.fullmatch(lengths[0]):
        raise OriginInvalid("the origin's answer has a Content-Length that is not one decimal number")
    return Sized(_number(lengths[0]))


def keeps_alive(version: tuple[int, int], fields: Fields) -> bool:
    """Whether the sender of a message keeps its connection for another (RFC 9112 §9.3)."""
    if "Connection" not in fields:
        return version >= (1, 1)
    lines = tuple(fields.getall("Connection"))
    judge = _remembered_keeping if sum(map(len, lines)) <= _LONGEST_REMEMBERED else _keeps_alive
    return judge(version, lines)


def _keeps_alive(version: tuple[int, int], lines: tuple[str, ...]) -> bool:
    options = {option.lower() for line in lines for option in split_list(line)}
    return "close" not in options and (version >= (1, 1) or "keep-alive" in options)


_remembered_keeping = lru_cache(maxsize=64)(_keeps_alive)  # the same few values come with every message


def _chunked_request(version: tuple[int, int], fields: Fields) -> Chunked:
    if version < (1, 1):
        raise BadRequest("Transfer-Encoding in an HTTP/1.0 request (RFC 9112 §6.1)")
    if "Content-Length" in fields:
        raise BadRequest("both Transfer-Encoding and Content-Length (RFC 9112 §6.1)")
    codings = fields.getall("Transfer-Encoding")
    if len(codings) != 1 or codings[0].lower() != "chunked":
        raise BadRequest("Transfer-Encoding must be 'chunked' and nothing else")
    return CHUNKED


def _chunked_response(version: tuple[int, int], fields: Fields) -> Chunked:
    if version < (1, 1):
        raise OriginInvalid("the origin's HTTP/1.0 answer has a Transfer-Encoding")
    if "Content-Length" in fields:
        raise OriginInvalid("the origin's answer has both Transfer-Encoding and Content-Length")
    if [coding.lower() for coding in members_of(fields, "Transfer-Encoding")] != ["chunked"]:
        raise OriginInvalid("the origin's answer has a Transfer-Encoding other than 'chunked'")
    return CHUNKED


def _number(digits: str) -> int:
    # int() refuses thousands of digits with an error of its own; nothing that long can be meant.
    return int(digits) if len(digits) <= 18 else _HUGE

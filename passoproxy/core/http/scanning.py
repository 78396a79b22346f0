"""A strict look at the bytes of a request's head, before any lenient parser sees them (RFC 9112 §2 to §5).

Refused here: bare LF and CR, folded lines, white space before a colon, empty names, control characters, other versions, and
whatever does not look like a request line. What the fields mean is left to `framing` and `core.admission`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from passoproxy.core.http.grammar import WORD_CHARACTERS
from passoproxy.core.http.targets import Target, parse_target
from passoproxy.errors import BadRequest

HEAD_END = b"\r\n\r\n"

_WORD = WORD_CHARACTERS.encode()
_REQUEST_LINE = re.compile(rb"([%b]++) ([!-~]++) HTTP/([0-9])\.([0-9])\r\n" % _WORD)
# The same, with whatever else may stand between the spaces: so that the byte at fault is named.
_FAULTY_REQUEST_LINE = re.compile(rb"([%b]++) ([^\r\n]+) HTTP/[0-9]\.[0-9]\r\n" % _WORD)
_FIELD_LINE = rb"[%b]++:[\t\x20-\x7e\x80-\xff]*+\r\n" % _WORD
_FIELDS = re.compile(rb"(?:%b)*+\r\n" % _FIELD_LINE)
_FIELD_LINES = re.compile(rb"(?:%b)*+" % _FIELD_LINE)
# What can never become valid, whatever follows: a control character, a line feed without its CR, a CR without its line feed.
_HOPELESS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?=[^\n])")
_START = re.compile(rb"[%b]" % _WORD)


class RequestLine(NamedTuple):
    """A request line that passed, with `fields_at`: where in the head the field lines begin. A tuple for speed, as `Target`."""

    method: str
    target: Target
    version: tuple[int, int]
    fields_at: int


def scan_head(head: bytes) -> RequestLine:
    """Checks a whole head, its empty last line included. Raises BadRequest."""
    line = scan_request_line(head)
    if _FIELDS.fullmatch(head, line.fields_at) is None:
        raise BadRequest(_field_fault(head, line.fields_at))
    return line


def scan_request_line(head: bytes) -> RequestLine:
    """Checks the request line that `head` begins with. Raises BadRequest."""
    found = _REQUEST_LINE.match(head)
    if found is None:
        if faulty := _FAULTY_REQUEST_LINE.match(head):
            parse_target(faulty[1].decode("ascii"), faulty[2].decode("utf-8", "surrogateescape"))
        raise BadRequest("the first line is not a request line as RFC 9112 §3 has it (METHOD target HTTP/1.1)")
    method, target, major, minor = found.groups()
    version = (int(major), int(minor))
    if version not in ((1, 1), (1, 0)):
        raise BadRequest("only HTTP/1.1 and HTTP/1.0 are spoken here")
    name = method.decode("ascii")
    return RequestLine(name, parse_target(name, target.decode("ascii")), version, found.end())


def scan_beginning(buffer: bytes | bytearray, seen: int) -> None:
    """Looks at a head that is not complete yet, of which the first `seen` bytes were looked at before. Raises BadRequest early.

    So a client that speaks something else is told at once, and not when its time is up.
    """
    if not seen and _START.match(buffer) is None:
        raise BadRequest("the first byte cannot begin an HTTP request (TLS or another protocol on a plain port?)")
    if _HOPELESS.search(buffer, max(0, seen - 1)) is not None:
        raise BadRequest("a control character or a bare CR or LF in the request's head")
    line_end = buffer.find(b"\r\n", max(0, seen - 1))
    if line_end >= 0 and buffer.find(b"\r\n", 0, line_end) < 0:
        scan_request_line(bytes(buffer[: line_end + 2]))


def scan_trailer(trailer: bytes) -> None:
    """Checks the field lines after the last chunk, without the empty line that ends them (RFC 9112 §7.1.2). Raises BadRequest."""
    if _FIELD_LINES.fullmatch(trailer) is None:
        raise BadRequest(_field_fault(trailer, 0))


def _field_fault(head: bytes, at: int) -> str:
    valid = _FIELD_LINES.match(head, at)
    line = head[valid.end() if valid else at :].partition(b"\r\n")[0]
    name, colon, _ = line.partition(b":")
    if line[:1] in (b" ", b"\t"):
        return "a folded field line (obs-fold, RFC 9112 §5.2)"
    if not colon:
        return "a field line without a colon"
    if not name:
        return "a field with an empty name"
    if name[-1:] in (b" ", b"\t"):
        return "white space between a field's name and its colon (RFC 9112 §5.1)"
    if not re.fullmatch(rb"[%b]+" % _WORD, name):
        return "a field name with a character that is not allowed in one"
    return "a field value with a control character or a bare CR or LF"

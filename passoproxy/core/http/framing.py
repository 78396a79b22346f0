"""How a message's body is framed (RFC 9112 §6): without mercy for requests, and for answers as lenient as §6.3 demands.

The bytes of a chunked body are the business of `chunks`; that of a head, of `scanning`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from passoproxy.core.http.grammar import members_of
from passoproxy.core.http.messages import Fields
from passoproxy.errors import BadRequest, OriginInvalid

_DIGITS = re.compile("[0-9]+")
_HUGE = 10**18


@dataclass(frozen=True, slots=True)
class NoBody:
    """The message ends with its head."""


@dataclass(frozen=True, slots=True)
class Sized:
    """`length` bytes follow the head; 0 where a length of 0 was said."""

    length: int


@dataclass(frozen=True, slots=True)
class Chunked:
    """The body comes in chunks (RFC 9112 §7.1)."""


@dataclass(frozen=True, slots=True)
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
    expectations = members_of(fields, "Expect") if "Expect" in fields else []
    if any(expectation.lower() != "100-continue" for expectation in expectations):
        raise BadRequest("Expect knows nothing but 100-continue")
    return bool(expectations) and version >= (1, 1)


def response_framing(method: str, version: tuple[int, int], status: int, fields: Fields) -> ResponseFraming:
    """How the body of an answer to `method` is framed (RFC 9112 §6.3). Raises OriginInvalid where it cannot be known for sure."""
    if method == "HEAD" or status in (204, 304) or 100 <= status < 200:
        return NO_BODY
    if "Transfer-Encoding" in fields:
        return _chunked_response(version, fields)
    lengths = members_of(fields, "Content-Length")
    if not lengths:
        if "Content-Length" in fields:
            raise OriginInvalid("the origin's answer has an empty Content-Length")
        return UNTIL_CLOSED
    # One value said several times over is the one leniency that §6.3 point 5 has.
    if len(set(lengths)) > 1 or not _DIGITS.fullmatch(lengths[0]):
        raise OriginInvalid("the origin's answer has a Content-Length that is not one decimal number")
    return Sized(_number(lengths[0]))


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

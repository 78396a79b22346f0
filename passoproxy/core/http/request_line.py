"""A strict look at the bytes of a request's head, before any lenient parser sees them (RFC 9112 §2 to §5), and at targets and authorities (RFC 9112
§3.2, RFC 3986, and what browsers leave as it is in a URL). Nothing is re-encoded.

Refused here: bare LF and CR, folded lines, white space before a colon, empty names, control characters, other versions, and lines that are no
request line. Whether an authority or a path is allowed is decided in `core.access`, what the fields mean in `framing`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import NamedTuple

from passoproxy.core.http.syntax import WORD_CHARACTERS
from passoproxy.errors import BadRequest
from passoproxy.values import dataclass

_UNRESERVED_AND_SUB = r"A-Za-z0-9\-._~!$&'()*+,;="
_ESCAPED = "%[0-9A-Fa-f]{2}"
_IN_PATH = rf"(?:[{_UNRESERVED_AND_SUB}:@/\[\]|]|{_ESCAPED})*+"
_IN_QUERY = rf"(?:[{_UNRESERVED_AND_SUB}:@/?\[\]|{{}}\\^`]|{_ESCAPED})*+"
_PATH_AND_QUERY = re.compile(rf"/{_IN_PATH}(?:\?{_IN_QUERY})?")
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_REGISTERED_NAME = re.compile(rf"(?:[{_UNRESERVED_AND_SUB}]|{_ESCAPED})*+")
_FUTURE_ADDRESS = re.compile(rf"v[0-9A-Fa-f]+\.[{_UNRESERVED_AND_SUB}:]+", re.IGNORECASE)
_PORT = re.compile("[0-9]{0,5}")

MAX_AUTHORITY_LENGTH = 255
"""Characters in an authority; what is longer names nothing."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A host and its port. `host` is lower case, an IPv6 address in brackets and compressed; `port` None where none was named."""

    host: str
    port: int | None = None


class Target(NamedTuple):
    """A request target: `text` in origin-form (`*` for a whole server), `authority` as an absolute-form target named it, else None.

    A tuple, because one is made for every request and a frozen dataclass costs three times as much.
    """

    text: str
    authority: str | None = None


def parse_authority(text: str) -> Authority | None:
    """The authority that a Host field or an absolute-form target names; None where it is not valid (RFC 9112 §3.2).

    User information is not valid here. An empty host is: RFC 9110 §7.2 asks for it where a target has no authority.
    """
    return _remembered_authority(text) if len(text) <= MAX_AUTHORITY_LENGTH else None


@lru_cache(maxsize=512)
def _remembered_authority(text: str) -> Authority | None:
    if text.startswith("["):
        literal, bracket, rest = text[1:].partition("]")
        host = _literal(literal) if bracket else None
        if host is None or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    else:
        host, _, port = text.partition(":")
        if not _REGISTERED_NAME.fullmatch(host):
            return None
    if not _PORT.fullmatch(port) or int(port or 0) > 65535:
        return None
    return Authority(host.lower(), int(port) if port else None)


def parse_target(method: str, text: str) -> Target:
    """The target of a request line. Raises BadRequest, which names the first byte that may not stand there, a fragment's `#` included."""
    if text.startswith("/"):
        return Target(_checked(text))
    if method == "CONNECT":
        # Authority-form; there is no tunnel here, and admission says so.
        return Target("*", text)
    if text == "*" and method == "OPTIONS":
        return Target("*")
    absolute = _ABSOLUTE.fullmatch(text)
    if absolute is None:
        raise BadRequest("the request target is neither a path nor an http URL (RFC 9112 §3.2)")
    authority, rest = absolute.groups()
    if not authority or parse_authority(authority) is None:
        raise BadRequest("the authority in the request target is not valid; user information is not accepted")
    if not rest and method == "OPTIONS":
        return Target("*", authority)
    return Target(_checked(rest if rest.startswith("/") else "/" + rest), authority)


def _checked(path_and_query: str) -> str:
    if _PATH_AND_QUERY.fullmatch(path_and_query) is None:
        valid = _PATH_AND_QUERY.match(path_and_query)
        at = valid.end() if valid else 0
        raise BadRequest(_fault(path_and_query[at], "query" if "?" in path_and_query[:at] else "path"))
    return path_and_query


def _fault(character: str, place: str) -> str:
    # what stands for a byte of the wire is that byte; other halves of a character come from JSON alone
    raw = character.encode("utf-8", "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass")
    named = f"'{character}'" if re.fullmatch("[!-~]", character) else " ".join(f"0x{byte:02X}" for byte in raw)
    named = "a space" if character == " " else named
    escaped = "".join(f"%{byte:02X}" for byte in raw)
    match character:
        case "#":
            return (
                f"{named} begins a fragment, which no server gets; leave it out, or write {escaped} for the character"
            )
        case "%":
            return f"{named} without two hexadecimal digits in the {place} of the request target; write {escaped} for the character"
        case _:
            return f"{named} may not stand in the {place} of the request target; write {escaped} for it"


def _literal(text: str) -> str | None:
    if _FUTURE_ADDRESS.fullmatch(text):
        return f"[{text}]"
    if "%" in text:  # a zone, which ipaddress would take
        return None
    try:
        return f"[{IPv6Address(text).compressed}]"
    except AddressValueError:
        return None


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
    """A request line that passed. A tuple for speed, as `Target`."""

    method: str
    target: Target
    version: tuple[int, int]


def scan_fields(rest: bytes) -> None:
    """Checks a head's field lines, with the line end before them and the empty line after them. Raises BadRequest."""
    if _FIELDS.fullmatch(rest, 2) is None:
        raise BadRequest(_field_fault(rest, 2))


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
    return RequestLine(name, parse_target(name, target.decode("ascii")), version)


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

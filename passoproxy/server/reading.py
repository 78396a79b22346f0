"""From the bytes of a head to a request: the strict scan first, then aiohttp's C parser for the fields, then the framing rules.

The parser is undocumented and pinned; `tests/server/test_parser_facts.py` states each thing relied upon. It is given the field lines
under a request line of ours, so that methods it does not know, targets and versions are judged by `core.http` alone; a new one
for each head, so that nothing of one request can reach another.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from aiohttp import http_parser
from aiohttp.http_exceptions import HttpProcessingError

from passoproxy.core.http.framing import RequestFraming, expects_continue, request_framing
from passoproxy.core.http.grammar import members_of
from passoproxy.core.http.messages import Fields, RequestHead
from passoproxy.core.http.scanning import RequestLine, scan_head
from passoproxy.core.http.targets import parse_authority
from passoproxy.errors import BadRequest, HeadersTooLarge, ServiceUnreachable

MOST_FIELDS = 256
"""Field lines in a head; each costs many times its bytes once it is an object."""

_OWN_REQUEST_LINE = b"GET / HTTP/1.0\r\n"


class Received(NamedTuple):
    """A head that may be handled. `keep_alive`: what the client asked for (RFC 9112 §9.3); `expects_continue`: it waits for a 100."""

    head: RequestHead
    framing: RequestFraming
    keep_alive: bool
    expects_continue: bool


def require_c_parser() -> None:
    """Raises ServiceUnreachable where only aiohttp's pure-Python parser is there, which reads some messages another way."""
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        raise ServiceUnreachable(
            "aiohttp's C parser is not available, and its Python one is not strict enough to serve with; unset "
            "AIOHTTP_NO_EXTENSIONS or install an aiohttp wheel for this platform"
        )


def receive(head: bytes, scheme: str) -> Received:
    """Reads a whole head, its empty last line included. Raises BadRequest, or HeadersTooLarge for too many fields."""
    if head.count(b"\n") > MOST_FIELDS + 2:
        raise HeadersTooLarge(f"more than {MOST_FIELDS} header fields")
    line = scan_head(head)
    fields = _read_fields(head, line.fields_at)
    request = RequestHead(
        line.method, line.target.text, fields, _authority(line, fields), scheme, line.version
    )  # fmt: skip
    framing = request_framing(line.version, fields)
    return Received(request, framing, _keeps_alive(line.version, fields), expects_continue(line.version, fields))


def _read_fields(head: bytes, at: int) -> Fields:
    lines = _OWN_REQUEST_LINE + head[at:]
    most = len(lines)
    parser = http_parser.HttpRequestParser(
        None,  # nobody to pause: the parser never sees a body
        asyncio.get_running_loop(),
        most,
        max_line_size=most,
        max_field_size=most,
        max_headers=MOST_FIELDS,
        response_with_body=False,
        auto_decompress=False,
    )
    try:
        messages, _, _ = parser.feed_data(lines)
    except HttpProcessingError as fault:
        # Its text repeats the line, credentials included: never passed on.
        raise BadRequest(
            "the header fields are not as RFC 9112 has them, or one that must be alone is there twice"
        ) from fault
    if len(messages) != 1:
        raise BadRequest("the header fields do not end where they seem to")
    fields: Fields = messages[0][0].headers
    return fields


def _authority(line: RequestLine, fields: Fields) -> str:
    hosts = fields.getall("Host", ())
    if len(hosts) > 1:
        raise BadRequest("more than one Host field (RFC 9112 §3.2)")
    if not hosts and line.version >= (1, 1):
        raise BadRequest("no Host field (RFC 9112 §3.2)")
    if hosts and parse_authority(hosts[0]) is None:
        raise BadRequest("the Host field is not valid (RFC 9112 §3.2)")
    if line.target.authority is not None:
        return line.target.authority
    return hosts[0] if hosts else ""


def _keeps_alive(version: tuple[int, int], fields: Fields) -> bool:
    if "Connection" not in fields:
        return version >= (1, 1)
    options = {option.lower() for option in members_of(fields, "Connection")}
    return "close" not in options and (version >= (1, 1) or "keep-alive" in options)

"""Heads of requests and responses as values: what every room means by a message. Bodies are the business of `ports`.

Field values are text as aiohttp's parser decodes it (UTF-8 with surrogate escapes), so that encoding them back the same way
gives the bytes that came. Field order and repetition are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from http import HTTPStatus

from multidict import CIMultiDict, CIMultiDictProxy

from passoproxy.errors import OriginInvalid
from passoproxy.values import value

Fields = CIMultiDictProxy[str]
"""Header fields in their order, read without regard to case, immutable."""


def fields_of(pairs: Iterable[tuple[str, str]] | Mapping[str, str] = ()) -> Fields:
    """Fields from pairs or a mapping, order and repetition kept."""
    return CIMultiDictProxy(CIMultiDict(pairs))


NO_FIELDS: Fields = fields_of()


@value
class RequestHead:
    """A request's head.

    `target` is the origin-form path and query exactly as on the wire (ASCII). `authority` is the effective Host (RFC 9112 §3.2),
    `scheme` how the client reached the proxy. `version` is (1, 0) or (1, 1).
    """

    method: str
    target: str
    fields: Fields = field(default_factory=lambda: NO_FIELDS)
    authority: str = ""
    scheme: str = "http"
    version: tuple[int, int] = (1, 1)

    @property
    def path(self) -> str:
        """The target without its query, still encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str | None:
        """What follows the first `?`, still encoded; None without a `?` (a trailing `?` gives '')."""
        _, mark, query = self.target.partition("?")
        return query if mark else None

    def with_fields(self, fields: Fields) -> RequestHead:
        """The same head with other fields."""
        return RequestHead(self.method, self.target, fields, self.authority, self.scheme, self.version)

    def having(self, target: str, authority: str) -> RequestHead:
        """The same head with another target and authority."""
        return RequestHead(self.method, target, self.fields, authority, self.scheme, self.version)


TRACING = frozenset(
    {"baggage", "b3", "request-id", "sentry-trace", "traceparent", "tracestate", "uber-trace-id", "x-amzn-trace-id"}
    | {"x-b3-flags", "x-b3-parentspanid", "x-b3-sampled", "x-b3-spanid", "x-b3-traceid"}
    | {"x-cloud-trace-context", "x-correlation-id", "x-request-id"}
)
"""Fields that clients make anew for each request, and that no rule of the proxy reads: heads that differ in nothing else are read once."""


class FieldLines:
    """The field lines of a head but those of TRACING, one object for equal bytes: by it is remembered what they mean."""

    __slots__ = ("fields", "scheme", "version")

    def __init__(self, fields: Fields, scheme: str, version: tuple[int, int]) -> None:
        self.fields, self.scheme, self.version = fields, scheme, version


@value
class ResponseHead:
    """A response's head."""

    status: int
    fields: Fields = field(default_factory=lambda: NO_FIELDS)

    def with_fields(self, fields: Fields) -> ResponseHead:
        """The same head with other fields."""
        return ResponseHead(self.status, fields)


def changed(
    fields: Fields,
    *,
    without: Iterable[str] = (),
    having: Iterable[tuple[str, str]] = (),
    adding: Iterable[tuple[str, str]] = (),
) -> Fields:
    """A copy of `fields` in which the names of `without` are gone and the pairs of `having` replace their namesakes; those of `adding` come last."""
    kept = CIMultiDict(fields)
    for name in without:
        kept.popall(name, None)
    if having := tuple(having):
        for name, _ in having:
            kept.popall(name, None)
        kept.extend(having)
    if adding:
        kept.extend(adding)
    return CIMultiDictProxy(kept)


_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}
BODILESS = frozenset({204, 304})
"""Status codes of answers without a body (RFC 9112 §6.3)."""
_FRAMING_FIELDS = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})


def head_text(head: ResponseHead, date: str = "") -> str:
    """The status line and the fields on the wire, each with its line end; without framing, and with `date` if the head has none.

    Raises OriginInvalid if a field holds a line break, which would end the head early.
    """
    # Not an f-string: formatting a multidict's name takes five times as long as adding to it.
    lines = [name + ": " + value for name, value in head.fields.items() if name.lower() not in _FRAMING_FIELDS]
    if date and "Date" not in head.fields:
        lines.append(f"Date: {date}")
    status_line = _STATUS_LINES.get(head.status) or f"HTTP/1.1 {head.status} "
    text = "\r\n".join((status_line, *lines, ""))
    breaks = len(lines) + 1
    if text.count("\n") != breaks or text.count("\r") != breaks:
        raise OriginInvalid("a field of the answer holds a line break")
    return text


def declared_length(head: ResponseHead) -> int | None:
    """What `Content-Length` says of the body that an answer to HEAD or a 304 does not have; a 204 must not have one (RFC 9110 §8.6)."""
    declared = head.fields.get("Content-Length", "") if head.status != 204 else ""
    return int(declared) if declared.isdecimal() and len(declared) <= 18 else None

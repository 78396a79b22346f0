"""W3C Trace Context: what `traceparent` says of the trace that a request belongs to, and what it looks like when it goes on.

A field that is malformed, or there twice, counts as absent.
"""

from __future__ import annotations

import re

from passoproxy.core.http.messages import Fields
from passoproxy.values import value

_LINE = re.compile(rb"\r\ntraceparent:([^\r\n]*)", re.IGNORECASE)
_TRACEPARENT = re.compile(
    r"(?!ff|00.{54})[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
"""Only versions after 00 may have more behind the flags, and ff is none."""
_KNOWN_FLAGS = 0x03
"""`sampled`, and `random` of level 2; others are sent as zero."""


@value
class TraceContext:
    """One span's place: trace and span in lower-case hexadecimal digits (32 and 16), and the flags."""

    trace_id: str
    span_id: str
    flags: int = 1

    @property
    def is_sampled(self) -> bool:
        """Whether the spans of this trace are recorded."""
        return bool(self.flags & 1)

    @property
    def traceparent(self) -> str:
        """The field for a request that this span sends."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags & _KNOWN_FLAGS:02x}"


def context_of(traceparent: str) -> TraceContext | None:
    """What a value of `traceparent` says; None if it is not valid."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return None if found is None else TraceContext(found[1], found[2], int(found[3], 16))


def trace_id(traceparent: str) -> str:
    """The trace that a value of `traceparent` names; '' if it is not valid."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return "" if found is None else found[1]


def traceparent_of(fields: Fields) -> str:
    """The value of `traceparent`; '' unless there is exactly one."""
    values = fields.getall("traceparent", ())
    return values[0] if len(values) == 1 else ""


def traceparent_in(lines: bytes) -> str:
    """The same in field lines, each with a line end before it."""
    values = _LINE.findall(lines) if lines else ()
    return values[0].decode("utf-8", "surrogateescape").strip(" \t") if len(values) == 1 else ""


class Trace:
    """One request's part of a trace: `context` is the span of the request itself, `parent_id` the span that its `traceparent` named, '' for none.

    `links` are spans of other requests that had to do with this one, and `sent_links` those of requests that wait for what this one asks the
    origin. `refused_at` is when the origin answered 401 last, in nanoseconds, 0 if the request went on since.
    """

    __slots__ = ("context", "links", "parent_id", "refused_at", "sent_links")

    def __init__(self, context: TraceContext, parent_id: str = "") -> None:
        self.context, self.parent_id, self.refused_at = context, parent_id, 0
        self.links: list[TraceContext] = []
        self.sent_links: list[TraceContext] = []

    def joins(self, other: Trace) -> None:
        """This request waits for what `other` asks the origin."""
        self.links.append(other.context)
        other.sent_links.append(self.context)

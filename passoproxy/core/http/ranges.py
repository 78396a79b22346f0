"""Byte ranges (RFC 9110 §14): what a `Range` asks for, which bytes of a representation that is, and what `Content-Range` says.

Whether a stored answer may serve a range is decided in `core.cache`; bodies are cut in `proxy.ranges`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from multidict import istr

from passoproxy.core.http.conditional import is_weak, readable_tag
from passoproxy.core.http.messages import Fields, ResponseHead, changed
from passoproxy.core.http.representation import OF_ANY_BYTES, OF_CONTENT
from passoproxy.core.http.syntax import parse_date
from passoproxy.values import dataclass

RANGE = istr("Range")
"""The field's name in the form that is found fastest: every hit looks for it."""

MOST_RANGES = 16
"""A request for more is answered with the whole (RFC 9110 §14.2 and §17.15: many small ranges are an attack)."""

_UNIT = re.compile(r"[ \t]*bytes=", re.IGNORECASE)
_SPEC = re.compile(r"(\d{1,18})-(\d{0,18})|-(\d{1,18})")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `first` to `last`, both included, as `Content-Range` counts them."""

    first: int
    last: int

    @property
    def size(self) -> int:
        """How many bytes these are."""
        return self.last - self.first + 1


Spec = tuple[int | None, int | None]
"""One range as asked for: first and last, last None for "to the end", first None for the last so many bytes."""


def in_bytes(fields: Fields) -> bool:
    """Whether a `Range` counts in bytes, the only unit that is understood here."""
    return _UNIT.match(fields["Range"]) is not None


def wanted(fields: Fields) -> tuple[Spec, ...]:
    """The ranges that a request asks for, at least one; none where there is no `Range` or one that is to be ignored (RFC 9110 §14.2)."""
    lines = fields.getall("Range", ())
    if len(lines) != 1 or (unit := _UNIT.match(lines[0])) is None:
        return ()
    members = [member.strip(" \t") for member in lines[0][unit.end() :].split(",", MOST_RANGES * 2)]
    specs = [_spec(member) for member in members if member]
    if len(specs) > MOST_RANGES or None in specs:
        return ()
    return tuple(spec for spec in specs if spec is not None)


def resolved(specs: Iterable[Spec], size: int) -> tuple[Span, ...]:
    """The bytes that the ranges mean in a representation of `size` bytes, in order, those that overlap or touch as one; none where no
    range can be satisfied.
    """
    spans = sorted((span for spec in specs if (span := _span(spec, size))), key=lambda span: span.first)
    joined: list[Span] = []
    for span in spans:
        if joined and span.first <= joined[-1].last + 1:
            joined[-1] = Span(joined[-1].first, max(joined[-1].last, span.last))
        else:
            joined.append(span)
    return tuple(joined)


def if_range_holds(request: Fields, fields: Fields) -> bool:
    """Whether `If-Range` lets a range be served from an answer with `fields` (RFC 9110 §13.1.5); true where the request has none.

    A tag must be strong and equal; a date must be exactly that of `Last-Modified`, where that is strong.
    """
    if "If-Range" not in request:
        return True
    value = request["If-Range"].strip(" \t")
    if parse_date(value) is not None:
        return value == _strong_date(fields)
    return bool(tag := _strong_tag(value)) and tag == _strong_tag(fields.get("ETag", ""))


def strong_validator(fields: Fields) -> str:
    """What names the very bytes of an answer, as `If-Range` would have it: its strong tag, or where it has no tag a strong
    `Last-Modified`; '' where nothing does.
    """
    return _strong_tag(fields["ETag"]) if "ETag" in fields else _strong_date(fields)


def _strong_tag(text: str) -> str:
    tag = readable_tag(text)
    return "" if is_weak(tag) else tag


def _strong_date(fields: Fields) -> str:
    # Strong only where the answer was made at least a second later (RFC 9110 §8.8.2.2).
    value = fields.get("Last-Modified", "")
    modified, made = parse_date(value), parse_date(fields.get("Date", ""))
    return value if modified is not None and made is not None and made >= modified + 1.0 else ""


def content_range(span: Span, size: int) -> str:
    """The value of `Content-Range` (RFC 9110 §14.4)."""
    return f"bytes {span.first}-{span.last}/{size}"


def read_content_range(fields: Fields) -> tuple[Span, int] | None:
    """The bytes that a 206 holds and the size of the whole; None where it does not say, or says what cannot be."""
    lines = fields.getall("Content-Range", ())
    found = _CONTENT_RANGE.fullmatch(lines[0].strip(" \t")) if len(lines) == 1 else None
    if found is None:
        return None
    first, last, size = int(found[1]), int(found[2]), int(found[3])
    if not first <= last < size or fields.get("Content-Length", str(last - first + 1)) != str(last - first + 1):
        return None
    return Span(first, last), size


def partial(head: ResponseHead, span: Span, size: int) -> ResponseHead:
    """The 206 of one part in place of a 200 (RFC 9110 §15.3.7.1)."""
    having = (("Content-Range", content_range(span, size)), ("Content-Length", str(span.size)))
    return ResponseHead(206, changed(head.fields, without=OF_CONTENT, having=having))


def several(head: ResponseHead, spans: Sequence[Span], size: int, boundary: str) -> tuple[ResponseHead, list[bytes]]:
    """The 206 of several parts (RFC 9110 §14.6), with what stands before each part, and behind the last one."""
    kind = f"Content-Type: {head.fields['Content-Type']}\r\n" if "Content-Type" in head.fields else ""
    between = [
        f"\r\n--{boundary}\r\n{kind}Content-Range: {content_range(span, size)}\r\n\r\n".encode(
            "utf-8", "surrogateescape"
        )
        for span in spans
    ]
    between.append(f"\r\n--{boundary}--\r\n".encode("ascii"))
    length = sum(map(len, between)) + sum(span.size for span in spans)
    having = (("Content-Type", f"multipart/byteranges; boundary={boundary}"), ("Content-Length", str(length)))
    fields = changed(head.fields, without=OF_CONTENT, having=having)
    return ResponseHead(206, fields), between


def unsatisfiable(head: ResponseHead, size: int) -> ResponseHead:
    """The 416 in place of a 200 of `size` bytes (RFC 9110 §15.5.17)."""
    having = (("Content-Range", f"bytes */{size}"), ("Content-Length", "0"))
    fields = changed(head.fields, without=OF_ANY_BYTES - {"Accept-Ranges"}, having=having)
    return ResponseHead(416, fields)


def _spec(member: str) -> Spec | None:
    found = _SPEC.fullmatch(member)
    if found is None:
        return None
    if found[3]:
        return None, int(found[3])
    first, last = int(found[1]), int(found[2]) if found[2] else None
    return None if last is not None and last < first else (first, last)


def _span(spec: Spec, size: int) -> Span | None:
    first, last = spec
    if first is None:
        return Span(max(0, size - last), size - 1) if last else None
    if first >= size:
        return None
    return Span(first, size - 1 if last is None else min(last, size - 1))

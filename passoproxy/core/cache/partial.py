"""Stored parts (RFC 9111 §3.3, §3.4): entries of status 206 that hold some of the bytes of a representation.

An entry's body is its spans one behind the other, in order; which they are, and of how many bytes in all, is remembered in `extra`. A
part lives by the rules of the whole: it is judged as the 200 that it is a part of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.etag import is_json
from passoproxy.core.http.messages import Fields, RequestHead, changed
from passoproxy.core.http.ranges import Span, content_range, if_range_holds, resolved, strong_validator, wanted
from passoproxy.core.http.representation import OF_CONTENT
from passoproxy.values import dataclass

LARGEST_COMBINED = 4 * 1024 * 1024
"""Parts of more bytes in all are not combined: that is done in memory."""

MOST_SPANS = 16
_SPANS = "spans"


@dataclass(frozen=True, slots=True)
class Holding:
    """What a part holds: `spans` in order, apart from one another, of a whole of `size` bytes."""

    spans: tuple[Span, ...]
    size: int

    @property
    def bytes_held(self) -> int:
        """The length of the stored body."""
        return sum(span.size for span in self.spans)

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing."""
        return self.spans == (Span(0, self.size - 1),)

    def offset_of(self, span: Span) -> int | None:
        """Where in the stored body `span` begins; None where it is not held in one piece."""
        before = 0
        for held in self.spans:
            if held.first <= span.first and span.last <= held.last:
                return before + span.first - held.first
            before += held.size
        return None


def is_partial(entry: Entry) -> bool:
    """Whether only a part is stored."""
    return entry.status == 206


def whole_status(status: int) -> int:
    """The status by whose rules an answer lives: a part by those of the whole."""
    return 200 if status == 206 else status


def holding_of(entry: Entry) -> Holding:
    """What a partial entry holds. An entry that does not say holds nothing."""
    text = entry.note(_SPANS) or "/0"
    spans, _, size = text.rpartition("/")
    pairs = [span.split("-") for span in spans.split(",") if span]
    return Holding(tuple(Span(int(first), int(last)) for first, last in pairs), int(size))


def as_part(entry: Entry, holding: Holding) -> Entry:
    """The entry as it is stored with what `holding` says; a whole one becomes an ordinary 200."""
    if holding.is_whole:
        having = [("Content-Length", str(holding.size))]
        fields = changed(entry.fields, without=OF_CONTENT, having=having)
        return replace(entry.noting(_SPANS, None), status=200, fields=fields)
    spans = ",".join(f"{span.first}-{span.last}" for span in holding.spans)
    having = [
        ("Content-Range", content_range(holding.spans[0], holding.size)),
        ("Content-Length", str(holding.bytes_held)),
    ]
    fields = changed(entry.fields, without=OF_CONTENT, having=having)
    return replace(entry.noting(_SPANS, f"{spans}/{holding.size}"), status=206, fields=fields)


def covers(entry: Entry, request: Fields) -> bool:
    """Whether a part holds all that the ranges of `request` mean (RFC 9111 §3.3); with `If-Range` only where that holds."""
    holding = holding_of(entry)
    spans = resolved(wanted(request), holding.size)
    if (
        not spans
        or not if_range_holds(request, entry.fields)
        or (len(spans) > 1 and not in_one_multipart(entry.fields))
    ):
        return False
    return all(holding.offset_of(span) is not None for span in spans)


def in_one_multipart(fields: Fields) -> bool:
    """Whether parts of a representation with `fields` may be sent in one multipart: within it no coding could be undone, no link rewritten."""
    return not is_json(fields) and "Content-Encoding" not in fields


def may_combine(entry: Entry, fields: Fields, size: int) -> bool:
    """Whether a 206 with `fields` is of the same representation as a stored part: one strong validator, one size (RFC 9111 §3.4)."""
    known = strong_validator(entry.fields)
    return bool(known) and known == strong_validator(fields) and holding_of(entry).size == size


def combined(old: Holding, old_body: bytes, span: Span, data: bytes) -> tuple[Holding, bytes]:
    """Both parts as one; where they overlap the new bytes count. Of more than MOST_SPANS, the new one alone is kept."""
    pieces = [*_around(old, old_body, span), (span, data)]
    pieces.sort(key=lambda piece: piece[0].first)
    spans: list[Span] = []
    for piece, _ in pieces:
        if spans and spans[-1].last + 1 == piece.first:
            spans[-1] = Span(spans[-1].first, piece.last)
        else:
            spans.append(piece)
    if len(spans) > MOST_SPANS:
        return Holding((span,), old.size), data
    return Holding(tuple(spans), old.size), b"".join(held for _, held in pieces)


def rest_of(entry: Entry) -> Span | None:
    """The one piece that is missing; None where that is more than one, or too much to be put together in memory."""
    holding = holding_of(entry)
    at, missing = 0, []
    for span in (*holding.spans, Span(holding.size, holding.size)):
        if span.first > at:
            missing.append(Span(at, span.first - 1))
        at = span.last + 1
    return missing[0] if len(missing) == 1 and holding.size <= LARGEST_COMBINED else None


def completing(head: RequestHead, entry: Entry, rest: Span) -> RequestHead:
    """The question for the rest of a stored part (RFC 9111 §3.3): with `If-Range` where something can say that it is still the same."""
    to_the_end = rest.last == holding_of(entry).size - 1
    having = [("Range", f"bytes={rest.first}-{'' if to_the_end else rest.last}")]
    if validator := strong_validator(entry.fields):
        having.append(("If-Range", validator))
    return head.with_fields(changed(head.fields, without=("If-Range",), having=having))


def _around(old: Holding, body: bytes, span: Span) -> Sequence[tuple[Span, bytes]]:
    """The old pieces without what `span` covers."""
    kept: list[tuple[Span, bytes]] = []
    at = 0
    for held in old.spans:
        data, at = body[at : at + held.size], at + held.size
        if held.first < span.first:
            last = min(held.last, span.first - 1)
            kept.append((Span(held.first, last), data[: last - held.first + 1]))
        if held.last > span.last:
            first = max(held.first, span.last + 1)
            kept.append((Span(first, held.last), data[first - held.first :]))
    return kept

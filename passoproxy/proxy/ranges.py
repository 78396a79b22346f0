"""Parts of answers: the ranges that a client asked for, cut out of a body that is stored or on its way (RFC 9110 §14).

Which bytes these are is decided in `core.http.ranges`, and what a stored part holds in `core.cache.partial`.
"""

from __future__ import annotations

from collections.abc import Sequence

from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.etag import is_json
from passoproxy.core.cache.partial import Holding, holding_of, in_one_multipart, is_partial
from passoproxy.core.http import ranges
from passoproxy.core.http.messages import RequestHead, ResponseHead
from passoproxy.core.http.ranges import Span
from passoproxy.ports import Body, BytesBody

Cut = tuple[bytes, int, int]
"""What stands before a part, where the part begins in the body, and its length in bytes."""


def is_ranged(request: RequestHead) -> bool:
    """Whether a request asks for ranges that can be understood; only GET does (RFC 9110 §14.2)."""
    return request.method == "GET" and "Range" in request.fields and bool(ranges.wanted(request.fields))


def needs_store(request: RequestHead, size: int | None) -> bool:
    """Whether the ranges of a request cannot be cut out of a body of `size` bytes while it arrives, only out of the stored one."""
    return size is None or len(ranges.resolved(ranges.wanted(request.fields), size)) > 1


def cut_out(request: RequestHead, head: ResponseHead, entry: Entry, body: Body, size: int) -> tuple[ResponseHead, Body]:
    """The part that `request` asks for of the answer `head` with its `body`, which has `size` bytes; the whole where that is right.

    A part that is stored must be one that covers the request. A BytesBody other than `body` stands in its place: then `body` is to be closed.
    """
    holding = holding_of(entry) if is_partial(entry) else Holding((Span(0, size - 1),), size)
    specs = ranges.wanted(request.fields)
    if not specs or not holding.size or not ranges.if_range_holds(request.fields, entry.fields):
        return head, body
    spans = ranges.resolved(specs, holding.size)
    if not spans:
        if is_json(entry.fields):  # rewriting may make it longer than it is stored: its end is not known here
            return head, body
        return ranges.unsatisfiable(head, holding.size), BytesBody()
    if len(spans) == 1:
        span = spans[0]
        return ranges.partial(head, span, holding.size), _cut(body, [(b"", holding.offset_of(span) or 0, span.size)])
    if not in_one_multipart(entry.fields):
        return head, body
    parted, between = ranges.several(head, spans, holding.size, f"part-{entry.identifier}")
    cuts = [(before, holding.offset_of(span) or 0, span.size) for before, span in zip(between, spans, strict=False)]
    return parted, _cut(body, cuts, between[-1])


def _cut(body: Body, cuts: Sequence[Cut], end: bytes = b"") -> Body:
    if isinstance(body, BytesBody):
        data = memoryview(body.data)
        return BytesBody(
            b"".join([piece for before, at, size in cuts for piece in (before, data[at : at + size])] + [end])
        )
    return CutBody(body, cuts, end)


class CutBody:
    """Parts of a body in their order, read from it as far as they go and no further."""

    __slots__ = ("_at", "_body", "_cuts", "_end", "_left", "_part", "length")

    def __init__(self, body: Body, cuts: Sequence[Cut], end: bytes) -> None:
        self._body, self._cuts, self._end = body, list(cuts)[::-1], end
        self._at = 0  # where in the body the unread rest of `_part` begins
        self._part = memoryview(b"")
        self._left = 0  # bytes still to be given of the part at hand
        self.length: int | None = sum(len(before) + size for before, _, size in cuts) + len(end)

    def __aiter__(self) -> CutBody:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            if not self._cuts:
                return await self._ended()
            before, start, self._left = self._cuts.pop()
            await self._skip_to(start)
            if before:
                return before
        if not self._part:
            self._part = memoryview(await anext(self._body))
        piece = self._part[: self._left]
        self._took(len(piece))
        self._left -= len(piece)
        return bytes(piece)

    async def aclose(self) -> None:
        await self._body.aclose()

    async def _skip_to(self, start: int) -> None:
        while self._at + len(self._part) < start:
            self._took(len(self._part))
            self._part = memoryview(await anext(self._body))
        self._took(start - self._at)

    def _took(self, count: int) -> None:
        self._at += count
        self._part = self._part[count:]

    async def _ended(self) -> bytes:
        await self._body.aclose()
        end, self._end = self._end, b""
        if not end:
            raise StopAsyncIteration
        return end

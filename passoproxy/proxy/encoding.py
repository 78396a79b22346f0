"""The content coding of each client. Stands outermost of what touches bodies: the inner rooms see one `Accept-Encoding`, the proxy's own.

A body is passed on as it is stored where the client takes that coding, decoded as a stream where it does not, and encoded where it
is plain, worth it, and the client takes one (contract §5).
"""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import Executor
from dataclasses import replace
from weakref import WeakSet

from passoproxy.core.http.entity_tags import merged_vary, not_modified_for, with_inner_forms
from passoproxy.core.http.messages import Fields, RequestHead, ResponseHead, changed
from passoproxy.core.http.negotiation import accepted_codings, chosen, compressible, content_coding, takes
from passoproxy.core.http.ranges import read_content_range
from passoproxy.core.http.representation import OF_ANY_BYTES, in_coding
from passoproxy.errors import Refusal
from passoproxy.ports import Body, BytesBody, Hop, Request, Response
from passoproxy.proxy.codings import KNOWN, STEP, DecodedBody, EncodedBody, encoded, known
from passoproxy.proxy.remembering import Remembered

OWN = "gzip, br, zstd"
"""What the origin is told that we take."""

_WORTH_IT = 1024  # bytes under which nothing is encoded (contract §5)
_AT_ONCE = 256 * 1024  # bytes that are encoded before they are sent; more is encoded while it is sent
_MOST_STREAMS = 64
"""Bodies that are being encoded while they are sent; gzip has to do for more: its encoders take a sixth of the memory of others."""

_BODILESS = frozenset((204, 205, 304))

_accepted = functools.lru_cache(maxsize=256)(
    accepted_codings
)  # clients send few different values, and each with every request


class Encoding:
    """Gives each client the coding it takes. `memory_bytes` bounds what is remembered of encoded stored bodies, 0 remembers none; long work
    is done in `threads` (None: the loop's own).
    """

    def __init__(self, inner: Hop, *, memory_bytes: int = 0, threads: Executor | None = None) -> None:
        self._inner = inner
        self._threads = threads
        self._remembered: Remembered[bytes] = Remembered(memory_bytes)
        self._streams: WeakSet[EncodedBody] = WeakSet()

    async def send(self, request: Request) -> Response:
        fields = request.head.fields
        weights = _accepted(", ".join(fields.getall("Accept-Encoding", ())))
        sent = ", ".join(fields.getall("If-None-Match")) if "If-None-Match" in fields else None
        response = await self._inner.send(_for_inner_rooms(request, sent))
        head = response.head
        if head.status == 304:
            return response.with_head(not_modified_for(_unchanged(response), sent))
        if head.status in _BODILESS:
            return response
        stored = _coding(head.fields)
        if stored is None:
            return response  # a coding that we cannot undo is passed on untouched
        if stored != "identity":
            # A coding that is not taken is undone, not made anew: a client that knows neither of the two is rare. Whatever the origin says of
            # transforming, for it was we who told it that we take the coding.
            coding = stored if takes(weights, stored) > 0 else "identity"
        elif _worth_it(response) and not _must_stay(head.fields):
            coding = chosen(weights, KNOWN)
        else:
            return response
        if head.status == 206 and coding != stored:
            return await self._whole_instead(request, response, stored)
        return await self._in_coding(request, response, stored, coding, takes(weights, "gzip") > 0)

    async def _whole_instead(self, request: Request, partial: Response, stored: str) -> Response:
        # Part of an encoded body cannot be decoded, nor part of a plain one be a part of the encoded: the whole is right where a part is
        # not. But the origin is not asked again for what it was asked for already (contract §5), nor for more than a plain part that serves.
        head = request.head.with_fields(changed(request.head.fields, without=("Range", "If-Range")))
        if stored == "identity":
            whole = await self._stored(request, head) if request.trail.cache in ("hit", "stale") else None
            if whole is None:
                return partial.with_head(_with_vary(partial.head))
            await partial.body.aclose()
            return whole
        if "Range" not in request.head.fields or request.trail.cache == "pass":
            return partial
        await partial.body.aclose()
        return await self.send(request.with_head(head))

    async def _stored(self, request: Request, head: RequestHead) -> Response | None:
        fields = changed(head.fields, having=[("Cache-Control", "only-if-cached")])
        try:
            return await self.send(replace(request, head=head.with_fields(fields), trail=replace(request.trail)))
        except Refusal:
            return None

    async def _in_coding(
        self, request: Request, response: Response, stored: str, coding: str, takes_gzip: bool
    ) -> Response:
        if coding == stored:
            return response.with_head(_with_vary(response.head))
        if request.head.method == "HEAD":
            return response.with_head(in_coding(response.head, coding, None))
        if coding == "identity":
            return Response(in_coding(response.head, coding, None), DecodedBody(response.body, stored, self._threads))
        if isinstance(response.body, BytesBody) and len(response.body.data) <= _AT_ONCE:
            data = await self._encoded(response.body.data, coding, response.content_id)
            return Response(in_coding(response.head, coding, len(data)), BytesBody(data))
        if len(self._streams) >= _MOST_STREAMS and coding != "gzip":
            if not takes_gzip:
                return response.with_head(_with_vary(response.head))
            coding = "gzip"
        body = EncodedBody(response.body, coding)
        self._streams.add(body)
        return Response(in_coding(response.head, coding, None), body)

    async def _encoded(self, data: bytes, coding: str, content_id: str) -> bytes:
        if content_id and (known := self._remembered.get((content_id, coding))) is not None:
            return known
        if len(data) <= STEP:
            made = encoded(data, coding)
        else:
            made = await asyncio.get_running_loop().run_in_executor(self._threads, encoded, data, coding)
        if content_id:
            self._remembered.keep((content_id, coding), made, len(made))
        return made


def _for_inner_rooms(request: Request, sent: str | None) -> Request:
    having = [("Accept-Encoding", OWN)]
    if sent is not None and "-" in sent:
        having.append(("If-None-Match", with_inner_forms(sent)))
    return request.with_head(request.head.with_fields(changed(request.head.fields, having=having)))


def _must_stay(fields: Fields) -> bool:
    """RFC 9111 §5.2.2.6: `no-transform` forbids to encode."""
    return "Cache-Control" in fields and any("no-transform" in line.lower() for line in fields.getall("Cache-Control"))


def _coding(fields: Fields) -> str | None:
    """The one coding of the body, `identity` for none, None for what we cannot undo."""
    value = content_coding(fields)
    return known(value) if value else "identity"


def _worth_it(response: Response) -> bool:
    if not compressible(response.head.fields.get("Content-Type")):
        return False
    length = _length(response.head.fields, response.body)
    return length is None or length >= _WORTH_IT


def _length(fields: Fields, body: Body) -> int | None:
    """Of the whole, where the answer is a part: what a part is cut from must not depend on how long it is."""
    if "Content-Range" in fields and (described := read_content_range(fields)) is not None:
        return described[1]
    stated = fields.get("Content-Length", "")
    return int(stated) if stated.isdigit() else body.length or None


def _unchanged(response: Response) -> ResponseHead:
    """The head of a 304: with the `Vary` that its 200 would have, and without what describes content (RFC 9110 §15.4.5)."""
    fields = response.head.fields
    coding = _coding(fields)
    varies = _worth_it(response) and not _must_stay(fields) if coding == "identity" else coding is not None
    head = _with_vary(response.head) if varies else response.head
    return head.with_fields(changed(head.fields, without=OF_ANY_BYTES))


def _with_vary(head: ResponseHead) -> ResponseHead:
    vary = merged_vary(head.fields.getall("Vary", ()), "Accept-Encoding")
    return head if head.fields.get("Vary") == vary else head.with_fields(changed(head.fields, having=(("Vary", vary),)))

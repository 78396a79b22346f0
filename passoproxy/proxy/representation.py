"""A bounded memory of what was made of stored bodies (links rewritten, encoded), so that a hit is not worked on twice.

The content coding of each client. Stands outermost of what touches bodies: the inner rooms see one `Accept-Encoding`, the proxy's own.

A body is passed on as it is stored where the client takes that coding, decoded as a stream where it does not, and encoded where it
is plain, worth it, and the client takes one (contract §5).

Links to the origin become links to the proxy. Stands outside the cache: what is stored keeps the origin's links.

JSON comes from the inner rooms in whatever coding it is stored; it is decoded here only where there is something to rewrite, and
encoded again for the client in `encoding`, which stands further out.
"""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Executor
from dataclasses import replace
from typing import Generic, TypeVar
from weakref import WeakSet

from passoproxy.core.http.content_coding import accepted_codings, chosen, compressible, content_coding, takes
from passoproxy.core.http.links import LinkRewriter, StreamRewriting
from passoproxy.core.http.messages import Fields, RequestHead, ResponseHead, changed
from passoproxy.core.http.ranges import read_content_range
from passoproxy.core.http.representation import OF_ANY_BYTES, in_coding, rewritten
from passoproxy.core.http.syntax import merged_vary, not_modified_for, with_inner_forms
from passoproxy.errors import BodyBroken, Refusal
from passoproxy.ports import Body, BytesBody, Hop, Request, Response
from passoproxy.proxy.codecs import KNOWN, STEP, DecodedBody, EncodedBody, decoded, encoded, known

V = TypeVar("V")

_OVERHEAD = (
    512  # bytes that a remembered form costs beside its body: head, key, bookkeeping; an estimate on the high side
)


class Remembered(Generic[V]):
    """Forms by key, least recently used out first, at most `max_bytes` in sum; 0 remembers nothing."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._used = max_bytes, 0
        self._kept: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """What was kept under `key`, now the youngest."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def keep(self, key: Hashable, form: V, size: int) -> None:
        """Keeps `form`, whose body has `size` bytes; one that would take more than an eighth of the room is not kept."""
        cost = size + _OVERHEAD
        if cost * 8 > self._max_bytes:
            return
        if (before := self._kept.pop(key, None)) is not None:
            self._used -= before[1]
        self._kept[key] = (form, cost)
        self._used += cost
        while self._used > self._max_bytes:
            self._used -= self._kept.popitem(last=False)[1][1]

    @property
    def used_bytes(self) -> int:
        """What is kept takes so much."""
        return self._used


OWN = "gzip, br, zstd"
"""What the origin is told that we take."""

_WORTH_IT = 1024  # bytes under which nothing is encoded (contract §5)
_ENCODED_AT_ONCE = 256 * 1024  # bytes that are encoded before they are sent; more is encoded while it is sent
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
        stored = _coding_of(head.fields)
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
        if isinstance(response.body, BytesBody) and len(response.body.data) <= _ENCODED_AT_ONCE:
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


def _coding_of(fields: Fields) -> str | None:
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
    coding = _coding_of(fields)
    varies = _worth_it(response) and not _must_stay(fields) if coding == "identity" else coding is not None
    head = _with_vary(response.head) if varies else response.head
    return head.with_fields(changed(head.fields, without=OF_ANY_BYTES))


def _with_vary(head: ResponseHead) -> ResponseHead:
    vary = merged_vary(head.fields.getall("Vary", ()), "Accept-Encoding")
    return head if head.fields.get("Vary") == vary else head.with_fields(changed(head.fields, having=(("Vary", vary),)))


_REFERENCES = ("Location", "Content-Location")
_REWRITTEN_AT_ONCE = 1024 * 1024  # bytes of content that are rewritten in memory; more is streamed

Form = tuple[bytes | None]
"""What a stored body became; None in it for one in which nothing names the origin."""


class Rewriting:
    """Rewrites links to `origin` (scheme, authority and path). `public_url` replaces the scheme and Host of the request as their base, and
    `base_path` follows either; long work is done in `threads` (None: the loop's own)."""

    def __init__(
        self,
        inner: Hop,
        *,
        origin: str,
        public_url: str | None = None,
        base_path: str = "",
        in_bodies: bool = True,
        memory_bytes: int = 0,
        threads: Executor | None = None,
    ) -> None:
        self._inner, self._rewriter = inner, LinkRewriter(origin, base_path)
        self._public_url = public_url.rstrip("/") if public_url else None
        self._in_bodies = in_bodies
        self._remembered: Remembered[Form] = Remembered(memory_bytes)
        self._threads = threads

    async def send(self, request: Request) -> Response:
        response = await self._inner.send(request)
        base = self._public_url or f"{request.head.scheme}://{request.head.authority}"
        if (
            self._in_bodies
            and response.head.status == 206
            and _is_json(response.head.fields)
            and "Range" in request.head.fields
            and request.trail.cache != "pass"  # that would be a second request to the origin (contract §5)
        ):
            response = await self._whole_instead(request, response)
        response = self._with_references(response, base)
        if response.head.status == 304:
            return response.with_head(not_modified_for(response.head, request.head.fields.get("If-None-Match")))
        if not self._in_bodies or not _is_json(response.head.fields) or response.head.status in (204, 206):
            return response
        return await self._with_body(request, response, base)

    async def _whole_instead(self, request: Request, partial: Response) -> Response:
        # Offsets count the origin's bytes, and rewriting would move them: the whole is right where a part is not.
        await partial.body.aclose()
        fields = changed(request.head.fields, without=("Range", "If-Range"))
        return await self._inner.send(request.with_head(request.head.with_fields(fields)))

    def _with_references(self, response: Response, base: str) -> Response:
        fields = response.head.fields
        new = [(name, self._rewriter.reference(fields[name], base)) for name in _REFERENCES if name in fields]
        if "Link" in fields:
            links = [("Link", self._rewriter.link(value, base)) for value in fields.getall("Link")]
            if any(value not in fields.getall("Link") for _, value in links):
                new += links
        if all(fields.get(name) == value for name, value in new):
            return response
        return response.with_head(response.head.with_fields(changed(fields, having=new)))

    async def _with_body(self, request: Request, response: Response, base: str) -> Response:
        coding = _coding(response.head.fields)
        if coding is None:
            return response  # in a coding that cannot be undone: nothing can be rewritten
        if request.head.method == "HEAD":
            return response.with_head(rewritten(response.head, None))
        key = (response.content_id, base) if response.content_id else None
        if key is not None and (found := self._remembered.get(key)) is not None:
            return await _with_form(response, found, base)
        if (
            isinstance(response.body, BytesBody)
            and (content := await self._content(response.body.data, coding)) is not None
        ):
            form = await self._form(content, base)
            if key is not None:
                self._remembered.keep(key, form, len(form[0] or b""))
            return await _with_form(response, form, base)
        body: Body = DecodedBody(response.body, coding, self._threads) if coding else response.body
        return Response(rewritten(response.head, None), _RewrittenBody(body, self._rewriter.streaming(base)))

    async def _content(self, data: bytes, coding: str) -> bytes | None:
        """The plain content, where it is short enough to be rewritten in memory."""
        if not coding:
            return data if len(data) <= _REWRITTEN_AT_ONCE else None
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, decoded, data, coding, _REWRITTEN_AT_ONCE
            )
        except BodyBroken:
            return None  # told while it is streamed, as a broken transfer

    async def _form(self, content: bytes, base: str) -> Form:
        made = b"".join([part async for part in _RewrittenBody(BytesBody(content), self._rewriter.streaming(base))])
        return (None if made == content else made,)


class _RewrittenBody:
    """A JSON body whose links are rewritten as it is read; large parts are taken in steps so that the loop is not held up."""

    __slots__ = ("_body", "_ended", "_rest", "_rewriting", "length")

    def __init__(self, body: Body, rewriting: StreamRewriting) -> None:
        self._body, self._rewriting = body, rewriting
        self._rest, self._ended = b"", False
        self.length: int | None = None

    def __aiter__(self) -> _RewrittenBody:
        return self

    async def __anext__(self) -> bytes:
        while not self._ended:
            if self._rest:
                await asyncio.sleep(0)
            try:
                part = self._rest or await anext(self._body)
                self._rest = part[STEP:]
                made = self._rewriting.feed(part[:STEP])
            except StopAsyncIteration:
                self._ended = True
                made = self._rewriting.finish()
            if made:
                return made
        raise StopAsyncIteration

    async def aclose(self) -> None:
        await self._body.aclose()


async def _with_form(response: Response, form: Form, base: str) -> Response:
    if form[0] is None:
        return response
    await response.body.aclose()
    # Only the bytes are remembered: Age, Cache-Status and Date are those of this answer.
    head = rewritten(response.head, len(form[0]))
    return Response(head, BytesBody(form[0]), f"{response.content_id} {base}" if response.content_id else "")


def _is_json(fields: Fields) -> bool:
    kind = fields.get("Content-Type", "").partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _coding(fields: Fields) -> str | None:
    """The one coding to undo, '' for none, None for what cannot be undone."""
    value = content_coding(fields)
    return known(value) if value else ""

"""The representation that a client gets (contract §5): links to the origin become links to the proxy, and the body has a coding it takes.

Both hops stand outside the cache, so that one stored body serves every client. `Codings` is the outer one: the hops behind see one
`Accept-Encoding`, the proxy's own, so JSON comes to `Links` in the coding that it is stored in. What was made of stored bodies is
remembered, within bounds. How bytes are coded is the business of `codecs`.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Executor
from dataclasses import replace
from functools import lru_cache
from typing import Generic, TypeVar
from weakref import WeakSet

from multidict import CIMultiDict, CIMultiDictProxy

from passoproxy.core.http.conditional import not_modified_for, with_inner_forms
from passoproxy.core.http.content_coding import accepted_codings, chosen, compressible, content_coding, takes
from passoproxy.core.http.links import LinkRewriter
from passoproxy.core.http.messages import Fields, RequestHead, ResponseHead, changed, fields_of
from passoproxy.core.http.ranges import read_content_range
from passoproxy.core.http.representation import OF_ANY_BYTES, in_coding, merged_vary, rewritten
from passoproxy.errors import BodyBroken, Refusal
from passoproxy.ports import Body, BytesBody, Hop, Request, Response
from passoproxy.proxy.codecs import KNOWN, STEP, DecodedBody, SteppedBody, decoded, encoded, encoded_body, known

OWN = "gzip, br, zstd"
"""What the origin is told that we take."""

T = TypeVar("T")
_OVERHEAD = 512  # bytes that a remembered body costs beside itself: key and bookkeeping, estimated on the high side
_WORTH_IT = 1024  # bytes under which nothing is encoded (contract §5)
_CODED_AT_ONCE = (
    256 * 1024
)  # bytes that are encoded or decoded before they are sent; of more it is done while they are sent
_LONG = b""  # stands for a decoded body of more bytes
_SEARCHED_AT_ONCE = 256 * 1024  # bytes that are searched for links in one go, which takes a millisecond at most
_REWRITTEN_AT_ONCE = 1024 * 1024  # bytes of content that are rewritten in memory; more is streamed
_MOST_STREAMS = 64
"""Bodies that are being encoded while they are sent; gzip has to do for more: its encoders take a sixth of the memory of others."""

_BODILESS = frozenset((204, 205))
_LONGEST_REMEMBERED = 256


class Made(Generic[T]):
    """What was made of stored bodies, by key, least recently used out first: at most `max_bytes` in sum; 0 remembers nothing."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.used_bytes = 0
        self._kept: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()

    def get(self, key: Hashable) -> T | None:
        """What was kept under `key`, now the youngest."""
        if (found := self._kept.get(key)) is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def keep(self, key: Hashable, made: T, size: int) -> None:
        """Keeps it, which takes `size` bytes; not if that is more than an eighth of the room."""
        cost = size + _OVERHEAD
        self.used_bytes -= self._kept.pop(key, (None, 0))[1]
        if cost * 8 > self._max_bytes:
            return
        self._kept[key] = made, cost
        self.used_bytes += cost
        while self.used_bytes > self._max_bytes:
            self.used_bytes -= self._kept.popitem(last=False)[1][1]


# ---- codings -----------------------------------------------------------------------------------------------------------


def wanted(fields: Fields) -> tuple[str, frozenset[str]]:
    """The coding to make for a client, and those that it takes."""
    accept_encoding = ", ".join(fields.getall("Accept-Encoding", ()))
    return (_remembered_wanted if len(accept_encoding) <= _LONGEST_REMEMBERED else _judged)(accept_encoding)


def _judged(accept_encoding: str) -> tuple[str, frozenset[str]]:
    weights = accepted_codings(accept_encoding)
    return chosen(weights, KNOWN), frozenset(coding for coding in KNOWN if takes(weights, coding) > 0)


_remembered_wanted = lru_cache(maxsize=256)(_judged)  # clients send few different values, and each with every request
_compressible = lru_cache(maxsize=256)(compressible)
_merged_vary = lru_cache(maxsize=256)(merged_vary)


@lru_cache(maxsize=256)
def _undone(lines: tuple[str, ...]) -> str | None:
    value = content_coding(fields_of([("Content-Encoding", line) for line in lines]))
    return known(value) if value else ""


class Codings:
    """Gives each client a coding that it takes: the body as it is stored if the client takes that, decoded if not, and encoded if it is plain
    and worth it. `memory_bytes` bounds what is remembered of bodies so made; long work is done in `threads` (None: the loop's own).
    """

    def __init__(self, next: Hop, *, memory_bytes: int = 0, threads: Executor | None = None) -> None:
        self._next = next
        self._threads = threads
        self._made = Made[bytes](memory_bytes)
        self._streams: WeakSet[SteppedBody] = WeakSet()

    async def send(self, request: Request) -> Response:
        """The answer of the hop behind, in a coding for this client."""
        head = request.head
        response = await self._next.send(request.with_head(head.with_fields(inner_fields(head.fields))))
        return self.coded(request, response) or await self._recoded(request, response)

    def coded(self, request: Request, response: Response) -> Response | None:
        """The response in a coding for this client; None if that takes another response, or a thread."""
        head, body = response.head, response.body
        if head.status == 304:
            return response.with_head(not_modified_for(_unchanged(response), _condition(request.head.fields)))
        stored = _coding_of(head.fields)
        if head.status in _BODILESS or stored is None:
            return response  # a coding that we cannot undo is passed on untouched
        best, taken = wanted(request.head.fields)
        if stored:
            # A coding that is not taken is undone, not made anew: a client that takes neither of the two is rare. `no-transform` does not
            # count here, for it was we who told the origin that we take the coding.
            coding = stored if stored in taken else "identity"
        elif _worth_it(response):
            coding = best
        else:
            return response
        if coding == (stored or "identity"):
            return Response(_with_vary(head), body, response.content_id)
        if head.status == 206:
            return None
        if request.head.method == "HEAD":
            return response.with_head(in_coding(head, coding, None))
        if isinstance(body, BytesBody) and len(body.data) <= _CODED_AT_ONCE and (response.content_id or not stored):
            made = self._made.get((response.content_id, coding)) if response.content_id else None
            if made is None and not stored and len(body.data) <= STEP:
                made = self._kept(response, coding, encoded(body.data, coding))
            if made != _LONG:
                return None if made is None else Response(in_coding(head, coding, len(made)), BytesBody(made))
        if coding == "identity":
            return Response(in_coding(head, coding, None), DecodedBody(body, stored, self._threads))
        if len(self._streams) >= _MOST_STREAMS and coding != "gzip":
            if "gzip" not in taken:
                return response.with_head(_with_vary(head))
            coding = "gzip"
        stream = encoded_body(body, coding)
        self._streams.add(stream)
        return Response(in_coding(head, coding, None), stream)

    async def _recoded(self, request: Request, response: Response) -> Response:
        if response.head.status == 206:
            return await self._whole_instead(request, response)
        assert isinstance(response.body, BytesBody)
        data, stored, loop = response.body.data, _coding_of(response.head.fields), asyncio.get_running_loop()
        if not stored:
            coding = wanted(request.head.fields)[0]
            made = self._kept(response, coding, await loop.run_in_executor(self._threads, encoded, data, coding))
            return Response(in_coding(response.head, coding, len(made)), BytesBody(made))
        try:
            plain = await loop.run_in_executor(self._threads, decoded, data, stored, _CODED_AT_ONCE)
        except BodyBroken:
            plain = None  # told while it is streamed, as a broken transfer
        if self._kept(response, "identity", plain or _LONG) != _LONG:
            return Response(in_coding(response.head, "identity", len(plain or b"")), BytesBody(plain or b""))
        return Response(in_coding(response.head, "identity", None), DecodedBody(response.body, stored, self._threads))

    def _kept(self, response: Response, coding: str, made: bytes) -> bytes:
        if response.content_id:
            self._made.keep((response.content_id, coding), made, len(made))
        return made

    async def _whole_instead(self, request: Request, partial: Response) -> Response:
        # Part of an encoded body cannot be decoded, nor part of a plain one be a part of the encoded: the whole is right if a part is
        # not. But the origin is not asked again for what it was asked for already (contract §5), nor for more than a plain part that serves.
        head = request.head.with_fields(changed(request.head.fields, without=("Range", "If-Range")))
        if not _coding_of(partial.head.fields):
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


def inner_fields(fields: Fields) -> Fields:
    """A request's fields as the hops behind see them."""
    inner = CIMultiDict(fields)
    inner["Accept-Encoding"] = OWN
    if "If-None-Match" in inner and "-" in (sent := ", ".join(inner.getall("If-None-Match"))):
        inner["If-None-Match"] = with_inner_forms(sent)
    return CIMultiDictProxy(inner)


def _condition(fields: Fields) -> str | None:
    return ", ".join(fields.getall("If-None-Match")) if "If-None-Match" in fields else None


def _coding_of(fields: Fields) -> str | None:
    """The one coding of the body, '' for none, None for what cannot be undone."""
    return _undone(tuple(fields.getall("Content-Encoding"))) if "Content-Encoding" in fields else ""


def _worth_it(response: Response) -> bool:
    """Whether a plain body is to be encoded. RFC 9111 §5.2.2.6: `no-transform` forbids it."""
    fields = response.head.fields
    if not _compressible(fields.get("Content-Type")):
        return False
    if "Cache-Control" in fields and "no-transform" in ",".join(fields.getall("Cache-Control")).lower():
        return False
    length = _length(fields, response.body)
    return length is None or length >= _WORTH_IT


def _length(fields: Fields, body: Body) -> int | None:
    """Of the whole, if the answer is a part: what a part is cut from must not depend on how long it is."""
    if "Content-Range" in fields and (described := read_content_range(fields)) is not None:
        return described[1]
    stated = fields.get("Content-Length", "")
    return int(stated) if stated.isdigit() else body.length or None


def _unchanged(response: Response) -> ResponseHead:
    """The head of a 304: with the `Vary` that its 200 would have, and without what describes content (RFC 9110 §15.4.5)."""
    coding = _coding_of(response.head.fields)
    head = _with_vary(response.head) if coding or (coding == "" and _worth_it(response)) else response.head
    return head.with_fields(changed(head.fields, without=OF_ANY_BYTES))


def _with_vary(head: ResponseHead) -> ResponseHead:
    lines = tuple(head.fields.getall("Vary", ()))
    vary = _merged_vary(lines, "Accept-Encoding")
    if lines == (vary,):
        return head
    fields = CIMultiDict(head.fields)
    fields["Vary"] = vary
    return ResponseHead(head.status, CIMultiDictProxy(fields))


# ---- links -------------------------------------------------------------------------------------------------------------

_REFERENCES = ("Location", "Content-Location")


class Links:
    """Rewrites links to `origin` (scheme, authority and path). `public_url` replaces the scheme and Host of the request as their base, and
    `base_path` follows either; `in_bodies` says whether JSON bodies are rewritten too; long work is done in `threads` (None: the loop's own).
    """

    def __init__(
        self,
        next: Hop,
        *,
        origin: str,
        public_url: str | None = None,
        base_path: str = "",
        in_bodies: bool = True,
        memory_bytes: int = 0,
        threads: Executor | None = None,
    ) -> None:
        self._next, self._rewriter = next, LinkRewriter(origin, base_path)
        self._public_url = public_url.rstrip("/") if public_url else None
        self._in_bodies = in_bodies
        self._made = Made[bytes](memory_bytes)  # empty: nothing in that body names the origin
        self._threads = threads

    def base(self, head: RequestHead) -> str:
        """What stands in links in the place of the origin for this request: the proxy as its client sees it."""
        return self._public_url or f"{head.scheme}://{head.authority}"

    def in_memory(self, request: Request, response: Response) -> Response | None:
        """The response with its links rewritten; None if that takes another response, or a body has to be rewritten first."""
        return None if self._needs_whole(request, response) else self._linked(request, response)

    async def send(self, request: Request) -> Response:
        """The answer of the hop behind, with its links rewritten."""
        response = await self._next.send(request)
        if self._needs_whole(request, response):
            # Offsets count the origin's bytes, and rewriting would move them: the whole is right if a part is not.
            await response.body.aclose()
            fields = changed(request.head.fields, without=("Range", "If-Range"))
            response = await self._next.send(request.with_head(request.head.with_fields(fields)))
        linked = self._linked(request, response)
        if linked is None:
            return await self._rewritten(request, response)
        if linked.body is not response.body:
            await response.body.aclose()
        return linked

    def _needs_whole(self, request: Request, response: Response) -> bool:
        return (
            response.head.status == 206
            and self._in_bodies
            and _is_json(response.head.fields.get("Content-Type", ""))
            and "Range" in request.head.fields
            and request.trail.cache != "pass"  # that would be a second request to the origin (contract §5)
        )

    def _linked(self, request: Request, response: Response) -> Response | None:
        """The response with its links rewritten; None if its body has to be rewritten first."""
        fields = response.head.fields
        base = self.base(request.head)
        if "Location" in fields or "Content-Location" in fields or "Link" in fields:
            response = self._with_references(response, base)
        head = response.head
        if head.status == 304:
            return response.with_head(not_modified_for(head, request.head.fields.get("If-None-Match")))
        if not self._in_bodies or not _is_json(fields.get("Content-Type", "")) or head.status in (204, 206):
            return response
        if _coding_of(fields) is None:
            return response  # in a coding that cannot be undone: nothing can be rewritten
        if request.head.method == "HEAD":
            return response.with_head(rewritten(head, None))
        made = self._made.get((response.content_id, base)) if response.content_id else None
        if made is None and self._names_no_origin(response):
            made = b""
            if response.content_id:
                self._made.keep((response.content_id, base), made, 0)
        return None if made is None else _with_body(response, made, base)

    def _names_no_origin(self, response: Response) -> bool:
        """Whether the whole body is short, plain, and has nothing to rewrite."""
        body = response.body
        if (
            not isinstance(body, BytesBody)
            or len(body.data) > _SEARCHED_AT_ONCE
            or "Content-Encoding" in response.head.fields
        ):
            return False
        return self._rewriter.is_free_of_links(body.data)

    async def _rewritten(self, request: Request, response: Response) -> Response:
        base, body = self.base(request.head), response.body
        response = self._with_references(response, base)
        coding = _coding_of(response.head.fields) or ""
        if isinstance(body, BytesBody) and (content := await self._content(body.data, coding)) is not None:
            made = b"".join([part async for part in self._streamed(BytesBody(content), base)])
            made = b"" if made == content else made
            if response.content_id:
                self._made.keep((response.content_id, base), made, len(made))
            return _with_body(response, made, base)
        body = DecodedBody(body, coding, self._threads) if coding else body
        return Response(rewritten(response.head, None), self._streamed(body, base))

    def _streamed(self, body: Body, base: str) -> SteppedBody:
        rewriting = self._rewriter.streaming(base)
        return SteppedBody(body, rewriting.feed, rewriting.finish)

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

    async def _content(self, data: bytes, coding: str) -> bytes | None:
        """The plain content, if it is short enough to be rewritten in memory."""
        if not coding:
            return data if len(data) <= _REWRITTEN_AT_ONCE else None
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, decoded, data, coding, _REWRITTEN_AT_ONCE)
        except BodyBroken:
            return None  # told while it is streamed, as a broken transfer


def _with_body(response: Response, made: bytes, base: str) -> Response:
    """The response with what its body became; as it is if that is empty, because nothing in it names the origin."""
    if not made:
        return response
    # Only the bytes are remembered: Age, Cache-Status and Date are those of this answer.
    content_id = f"{response.content_id} {base}" if response.content_id else ""
    return Response(rewritten(response.head, len(made)), BytesBody(made), content_id)


@lru_cache(maxsize=256)
def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")

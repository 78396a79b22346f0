"""Links to the origin become links to the proxy. Stands outside the cache: what is stored keeps the origin's links.

JSON comes from the inner rooms in whatever coding it is stored; it is decoded here only where there is something to rewrite, and
encoded again for the client in `encoding`, which stands further out.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor

from passoproxy.core.http.entity_tags import not_modified_for
from passoproxy.core.http.messages import Fields, changed
from passoproxy.core.http.negotiation import content_coding
from passoproxy.core.http.representation import rewritten
from passoproxy.core.http.rewriting import LinkRewriter, StreamRewriting
from passoproxy.errors import BodyBroken
from passoproxy.ports import Body, BytesBody, Hop, Request, Response
from passoproxy.proxy.codings import STEP, DecodedBody, decoded, known
from passoproxy.proxy.remembering import Remembered

_REFERENCES = ("Location", "Content-Location")
_AT_ONCE = 1024 * 1024  # bytes of content that are rewritten in memory; more is streamed

Form = tuple[bytes | None]
"""What a stored body became; None in it for one in which nothing names the origin."""


class Rewriting:
    """Rewrites links to `origin` (scheme and authority). `public_url` replaces the scheme and Host of the request as their base; long work
    is done in `threads` (None: the loop's own)."""

    def __init__(
        self,
        inner: Hop,
        *,
        origin: str,
        public_url: str | None = None,
        in_bodies: bool = True,
        memory_bytes: int = 0,
        threads: Executor | None = None,
    ) -> None:
        self._inner, self._rewriter = inner, LinkRewriter(origin)
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
            return data if len(data) <= _AT_ONCE else None
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, decoded, data, coding, _AT_ONCE)
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

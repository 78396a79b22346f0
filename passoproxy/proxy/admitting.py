"""The first hop: nobody who may not ask gets past it. It answers preflights of listed pages and lets such pages read their answers.

The rules are those of `core.admission` and `core.cross_origin`; this hop asks them in their order and carries out what they say.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

from passoproxy.core.admission import GLANCED_BYTES, SEARCHED_BYTES, Admission
from passoproxy.core.cross_origin import cross_origin_fields, is_preflight, listed_origin, preflight_answer, readable_by
from passoproxy.core.http.messages import RequestHead, changed
from passoproxy.errors import Overloaded, Refusal
from passoproxy.ports import BytesBody, Hop, Request, Response
from passoproxy.proxy.bodies import BegunBody, gathered

MOST_READ = 64 * SEARCHED_BYTES
"""Bytes of long bodies that may be in memory at once to be searched."""


class Admitting:
    """Lets a request pass or raises the refusal. Fills in `client.name` and the effective authority; changes nothing else,
    but a client key given as Basic `Authorization` stays here."""

    def __init__(self, next: Hop, admission: Callable[[], Admission]) -> None:
        """`admission` is asked for each request, so that a reload counts from the next one on."""
        self._next = next
        self._admission = admission
        self._read = 0

    async def send(self, request: Request) -> Response:
        admission = self._admission()
        authority = admission.authority(request.head)
        if authority != request.head.authority:
            request = request.with_head(replace(request.head, authority=authority))
        page = listed_origin(admission.pages, request.head)
        if page is None:
            return await self._next.send(await self._judged(admission, request))
        if is_preflight(request.head):
            await request.body.aclose()
            return Response(preflight_answer(admission.pages, page, request.head.fields), BytesBody())
        return await self._send_for_page(admission, request, page)

    async def _send_for_page(self, admission: Admission, request: Request, page: str) -> Response:
        try:
            response = await self._next.send(await self._judged(admission, request))
        except Refusal as refusal:
            # A copy, because one refusal may be told to many who waited for the same flight.
            readable = copy.copy(refusal)
            readable.fields = (*refusal.fields, *cross_origin_fields(page))
            raise readable from refusal
        return response.with_head(readable_by(response.head, page))

    async def _judged(self, admission: Admission, request: Request) -> Request:
        head = request.head
        holder = admission.key_holder(head.fields)
        admission.method(head.method)
        admission.query(head.query)
        admission.path(head)
        if head.method.upper() == "POST":
            request = await self._searched(admission, request)
        if not holder.name:
            return request
        request.trail.client = holder.name
        client = replace(request.client, name=holder.name)
        return replace(request, head=_without_key(head) if holder.by_basic else head, client=client)

    async def _searched(self, admission: Admission, request: Request) -> Request:
        """The request of which the body was read before it goes on, because a field in it can make it another method; one that is too long
        streams."""
        size = 0

        def taken(part: int) -> None:
            nonlocal size
            size += part
            self._read += part
            if size > GLANCED_BYTES and self._read > MOST_READ:
                raise Overloaded("too many long bodies are being searched for a _method field", 1)

        try:
            body = await gathered(request.body, admission.read_first(request.head.fields), taken)
        finally:
            self._read -= size
        admission.post(request.head.fields, body.data if isinstance(body, BytesBody) else None)
        if isinstance(body, BytesBody) and len(body.data) > GLANCED_BYTES:
            body = BegunBody(body, BytesBody(), len(body.data))  # so that it may wait on disk, as if it came just now
        return replace(request, body=body)


def _without_key(head: RequestHead) -> RequestHead:
    return head.with_fields(changed(head.fields, without=("Authorization",)))

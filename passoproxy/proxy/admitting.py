"""The first hop: nobody who may not ask gets past it. It answers preflights of listed pages and lets such pages read their answers.

The rules are those of `core.admission` and `core.cross_origin`; this hop asks them in their order and carries out what they say.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

from passoproxy.core.admission import Admission
from passoproxy.core.cross_origin import cross_origin_fields, is_preflight, listed_origin, preflight_answer, readable_by
from passoproxy.core.http.messages import RequestHead, changed
from passoproxy.core.method_overrides import may_hold_method, methods_in_body, methods_in_query
from passoproxy.errors import BodyTooLarge, Refusal
from passoproxy.ports import BytesBody, Hop, Request, Response, read_whole

_SEARCHED_BYTES = 1024 * 1024


class Admitting:
    """Lets a request pass or raises the refusal. Fills in `client.name` and the effective authority; changes nothing else,
    but a client key given as Basic `Authorization` stays here."""

    def __init__(self, next: Hop, admission: Callable[[], Admission]) -> None:
        """`admission` is asked for each request, so that a reload counts from the next one on."""
        self._next = next
        self._admission = admission

    async def send(self, request: Request) -> Response:
        admission = self._admission()
        authority = admission.authority(request.head)
        if authority != request.head.authority:
            request = request.with_head(replace(request.head, authority=authority))
        page = listed_origin(admission.pages, request.head)
        if page is None:
            return await self._next.send(await _judged(admission, request))
        if is_preflight(request.head):
            await request.body.aclose()
            return Response(preflight_answer(admission.pages, page, request.head.fields), BytesBody())
        return await self._send_for_page(admission, request, page)

    async def _send_for_page(self, admission: Admission, request: Request, page: str) -> Response:
        try:
            response = await self._next.send(await _judged(admission, request))
        except Refusal as refusal:
            # A copy, because one refusal may be told to many who waited for the same flight.
            readable = copy.copy(refusal)
            readable.fields = (*refusal.fields, *cross_origin_fields(page))
            raise readable from refusal
        return response.with_head(readable_by(response.head, page))


async def _judged(admission: Admission, request: Request) -> Request:
    head = request.head
    holder = admission.key_holder(head.fields)
    admission.method(head.method)
    admission.overriding_methods(methods_in_query(head.query))
    admission.path(head)
    if head.method == "POST" and admission.restricts_methods:
        request = await _searched(admission, request)
    if not holder.name:
        return request
    request.trail.client = holder.name
    client = replace(request.client, name=holder.name)
    return replace(request, head=_without_key(head) if holder.by_basic else head, client=client)


async def _searched(admission: Admission, request: Request) -> Request:
    # Only where some method is forbidden: then a form is read before it goes on, because it could ask for that method.
    content_type = request.head.fields.get("Content-Type", "")
    if not may_hold_method(content_type):
        return request
    data = await read_whole(request.body, _SEARCHED_BYTES)
    if data is None:
        raise BodyTooLarge(
            f"upstream.allow_methods forbids methods that a _method field can ask for, so forms are read first, up to {_SEARCHED_BYTES} bytes"
        )
    admission.overriding_methods(methods_in_body(content_type, data))
    return replace(request, body=BytesBody(data))


def _without_key(head: RequestHead) -> RequestHead:
    return head.with_fields(changed(head.fields, without=("Authorization",)))

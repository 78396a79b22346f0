"""The first hop: nobody who may not ask gets past it. It answers preflights of listed pages and lets such pages read their answers.

The rules are those of `core.admission` and `core.cross_origin`; this hop asks them in their order and carries out what they say.

Routing: finds the policy that a request lives under, and takes away what may not leave, so that all hops inwards judge what may.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import replace

from passoproxy.core.access import (
    Admission,
    cross_origin_fields,
    is_preflight,
    listed_origin,
    preflight_answer,
    readable_by,
)
from passoproxy.core.http.forwarding import admitted
from passoproxy.core.http.messages import RequestHead, changed
from passoproxy.core.routes import RouteTable
from passoproxy.errors import Refusal
from passoproxy.ports import Body, BytesBody, Hop, Request, Response, read_whole
from passoproxy.proxy.spool import Reader, Spools

AT_ONCE = 8
"""How many long bodies may be in memory at once to be searched for a method."""


class Admitting:
    """Lets a request pass or raises the refusal. Fills in `client.name` and the effective authority, and takes
    `server.base_path` off the path; changes nothing else, but a client key given as Basic `Authorization` stays here."""

    def __init__(self, next: Hop, admission: Callable[[], Admission], spools: Spools) -> None:
        """`admission` is asked for each request, so that a reload counts from the next one on; bodies are gathered in `spools`."""
        self._next = next
        self._admission = admission
        self._spools = spools
        self._searching = asyncio.Semaphore(AT_ONCE)

    async def send(self, request: Request) -> Response:
        admission = self._admission()
        authority = admission.authority(request.head)
        if authority != request.head.authority:
            request = request.with_head(replace(request.head, authority=authority))
        page = listed_origin(admission.pages, request.head)
        if page is None:
            return await self._judged(admission, request)
        if is_preflight(request.head):
            await request.body.aclose()
            return Response(preflight_answer(admission.pages, page, request.head.fields), BytesBody())
        return await self._send_for_page(admission, request, page)

    async def _send_for_page(self, admission: Admission, request: Request, page: str) -> Response:
        try:
            response = await self._judged(admission, request)
        except Refusal as refusal:
            # A copy, because one refusal may be told to many who waited for the same flight.
            readable = copy.copy(refusal)
            readable.fields = (*refusal.fields, *cross_origin_fields(page))
            raise readable from refusal
        return response.with_head(readable_by(response.head, page))

    async def _judged(self, admission: Admission, request: Request) -> Response:
        holder = admission.key_holder(request.head.fields)
        head = admission.inward(request.head)
        if head is not request.head:
            request = request.with_head(head)
            request.trail.target = head.target
        admission.method(head.method)
        admission.query(head.query)
        admission.path(head)
        if holder.name:
            request.trail.client = holder.name
            client = replace(request.client, name=holder.name)
            request = replace(request, head=_without_key(head) if holder.by_basic else head, client=client)
        if isinstance(request.body, BytesBody):
            return await self._sent(admission, request)
        if head.method.upper() == "POST" and (request.body.length or 0) > admission.read_first(head.fields):
            admission.post(head.fields, None)  # before all of it was read
        async with self._spools.buffered(request.body) as body:
            return await self._sent(admission, replace(request, body=body))

    async def _sent(self, admission: Admission, request: Request) -> Response:
        if request.head.method.upper() == "POST":  # a field in the body can make it another method
            fields = request.head.fields
            async with self._searching:
                admission.post(fields, await _searchable(request.body, admission.read_first(fields)))
        return await self._next.send(request)


async def _searchable(body: Body, most_bytes: int) -> bytes | None:
    """All of a body, where it is whole and short enough to be searched; it can be read once more afterwards."""
    if isinstance(body, BytesBody):
        return body.data
    if not isinstance(body, Reader):
        return None
    own = body.again()
    try:
        return await read_whole(own, most_bytes)
    finally:
        own.leave()


def _without_key(head: RequestHead) -> RequestHead:
    return head.with_fields(changed(head.fields, without=("Authorization",)))


class Routing:
    """Sets `policy` and `trail.route`. `table` may be replaced at any time; requests under way keep the policy they found."""

    def __init__(self, next: Hop, table: RouteTable) -> None:
        self._next = next
        self.table = table

    async def send(self, request: Request) -> Response:
        """The answer of the hop behind."""
        head = request.head
        policy = self.table.policy_of(head)
        request.trail.route = policy.name
        leaving = admitted(head, pass_cookies=policy.pass_cookies, pass_authorization=policy.pass_client_authorization)
        return await self._next.send(request.under(leaving, policy))

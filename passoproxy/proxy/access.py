"""The first hop: who may ask, and which route a request lives under.

It asks the rules of `core.access` in their order and carries out what they say, answers preflights of listed pages, and lets such pages read
their answers. Then it finds the route's policy and takes away what may not leave, so that every hop behind judges what may.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import replace

from passoproxy.core.access import (
    GLANCED_BYTES,
    LONGEST_REMEMBERED,
    Admission,
    cross_origin_fields,
    is_preflight,
    listed_origin,
    preflight_answer,
    readable_by,
)
from passoproxy.core.cache.policy import for_cookies
from passoproxy.core.http.forwarding import admitted
from passoproxy.core.http.messages import changed
from passoproxy.core.routes import RouteTable
from passoproxy.errors import Refusal
from passoproxy.ports import Body, BytesBody, HitHop, Request, Response, read_whole
from passoproxy.proxy.spool import Reader, Spools

AT_ONCE = 8
"""How many long bodies may be in memory at once to be searched for a method."""


class Access:
    """Lets a request pass or raises the refusal. Fills in `client.name`, the effective authority, `policy` and `trail.route`, and takes
    `server.base_path` off the path. A client key that was given as Basic `Authorization` stays here.
    """

    def __init__(self, next: HitHop, admission: Callable[[], Admission], table: RouteTable, spools: Spools) -> None:
        """`admission` is asked for each request, so that a reload counts from the next one on; bodies are gathered in `spools`."""
        self._next = next
        self.table = table
        """May be replaced at any time; requests under way keep the policy that they found."""
        self._admission = admission
        self._spools = spools
        self._searching = asyncio.Semaphore(AT_ONCE)

    def try_hit(self, request: Request) -> Response | None:
        """See `HitHop`. A refusal is left to `send` as well."""
        body, admission = request.body, self._admission()
        if not isinstance(body, BytesBody) or len(body.data) > GLANCED_BYTES:
            return None
        try:
            request, page = _named(admission, request)
            request = _admitted(admission, request)
            if request.head.method.upper() == "POST":
                admission.post(request.head.fields, body.data)
        except Refusal:
            return None
        response = self._next.try_hit(self._routed(request))
        return response if response is None or page is None else response.with_head(readable_by(response.head, page))

    async def send(self, request: Request) -> Response:
        """The answer of the hop behind, or to a preflight. Raises the refusals of `core.access` and of the hops behind."""
        admission = self._admission()
        request, page = _named(admission, request)
        if page is None:
            return await self._let_in(admission, request)
        if is_preflight(request.head):
            await request.body.aclose()
            return Response(preflight_answer(admission.pages, page, request.head.fields), BytesBody())
        try:
            response = await self._let_in(admission, request)
        except Refusal as refusal:
            # A copy, because one refusal may be told to many that waited for the same fetch.
            readable = copy.copy(refusal)
            readable.fields = (*refusal.fields, *cross_origin_fields(page))
            raise readable from refusal
        return response.with_head(readable_by(response.head, page))

    async def _let_in(self, admission: Admission, request: Request) -> Response:
        request = _admitted(admission, request)
        if isinstance(request.body, BytesBody):
            return await self._searched(admission, request)
        head = request.head
        if head.method.upper() == "POST" and (request.body.length or 0) > admission.read_first(head.fields):
            admission.post(head.fields, None)  # before all of it was read
        async with self._spools.buffered(request.body) as body:
            return await self._searched(admission, replace(request, body=body))

    async def _searched(self, admission: Admission, request: Request) -> Response:
        if request.head.method.upper() == "POST":  # a field in the body can make it another method
            async with self._searching:
                fields = request.head.fields
                admission.post(fields, await _searchable(request.body, admission.read_first(fields)))
        return await self._next.send(self._routed(request))

    def _routed(self, request: Request) -> Request:
        head = request.head
        path = head.target.partition("?")[0]
        policy = (self.table.find_remembered if len(path) <= LONGEST_REMEMBERED else self.table.find)(path)
        if policy.pass_cookies and "Cookie" in head.fields:
            policy = for_cookies(policy)
        request.trail.route = policy.name
        leaving = admitted(head, pass_cookies=policy.pass_cookies, pass_authorization=policy.pass_client_authorization)
        on_interim, background = request.on_interim, request.background
        trail, received_at = request.trail, request.received_at
        return Request(leaving, request.body, request.client, received_at, policy, trail, on_interim, background)


def _named(admission: Admission, request: Request) -> tuple[Request, str | None]:
    """The request under its effective authority, and the listed page that asks, if one does."""
    head, fields = request.head, request.head.fields
    if head.authority:
        admission.judge_authority(head.authority, head.scheme)
    else:
        request = request.with_head(replace(head, authority=admission.authority(head)))
    if "Origin" not in fields and "Sec-Fetch-Site" not in fields:
        return request, None
    return request, listed_origin(admission.pages, head)


def _admitted(admission: Admission, request: Request) -> Request:
    """The request with its client's name, if that client may ask for this."""
    head, policy = request.head, admission.policy
    holder = None if policy.client_keys is None else admission.key_holder(head.fields)
    if policy.base_path:
        head = admission.inward(head)
        request = request.with_head(head)
        request.trail.target = head.target
    short = len(head.target) <= LONGEST_REMEMBERED
    (admission.judge_remembered if short else admission.judge)(head.method, head.target)
    if holder is None:
        return request
    request.trail.client = holder.name
    if holder.by_basic:
        head = head.with_fields(changed(head.fields, without=("Authorization",)))
    return replace(request, head=head, client=replace(request.client, name=holder.name))


async def _searchable(body: Body, most_bytes: int) -> bytes | None:
    """All of a body, if it is whole and short enough to be searched; it can be read once more afterwards."""
    if isinstance(body, BytesBody):
        return body.data
    if not isinstance(body, Reader):
        return None
    own = body.again()
    try:
        return await read_whole(own, most_bytes)
    finally:
        own.leave()

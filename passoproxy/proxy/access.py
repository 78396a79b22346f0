"""The first hop: who may ask, and which route a request lives under.

It asks the rules of `core.access` in their order and carries out what they say, answers preflights of listed pages, and lets such pages read
their answers. Then it finds the route's policy and takes away what may not leave, so that every hop behind judges what may.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

from passoproxy.core.access import (
    LONGEST_REMEMBERED,
    Admission,
    cross_origin_fields,
    is_preflight,
    listed_origin,
    preflight_answer,
    readable_by,
)
from passoproxy.core.cache.policy import RoutePolicy, for_cookies
from passoproxy.core.http.forwarding import admitted
from passoproxy.core.http.messages import RequestHead, changed
from passoproxy.core.routes import UNLISTED, RouteTable
from passoproxy.errors import Refusal
from passoproxy.ports import Body, BytesBody, Hop, Request, Response, read_whole
from passoproxy.proxy.spool import Reader, Spools

AT_ONCE = 8
"""How many long bodies may be in memory at once to be searched for a method."""


class Access:
    """Lets a request pass or raises the refusal. Fills in `client.name`, the effective authority, `policy` and `trail.route`, and takes
    `server.base_path` off the path. A client key that was given as Basic `Authorization` stays here.
    """

    def __init__(self, next: Hop, admission: Callable[[], Admission], table: RouteTable, spools: Spools) -> None:
        """`admission` is asked for each request, so that a reload counts from the next one on; bodies are gathered in `spools`."""
        self._next = next
        self.table = table
        """May be replaced at any time; requests under way keep the policy that they found."""
        self.admission = admission
        self._spools = spools
        self._searching = asyncio.Semaphore(AT_ONCE)

    async def send(self, request: Request) -> Response:
        """The answer of the hop behind, or to a preflight. Raises the refusals of `core.access` and of the hops behind."""
        admission = self.admission()
        head, page = named(admission, request.head)
        request = request.with_head(head)
        if page is None:
            return await self._admitted(admission, request)
        if is_preflight(head):
            await request.body.aclose()
            return Response(preflight_answer(admission.pages, page, head.fields), BytesBody())
        try:
            response = await self._admitted(admission, request)
        except Refusal as refusal:
            # A copy, because one refusal may be told to many that waited for the same fetch.
            readable = copy.copy(refusal)
            readable.fields = (*refusal.fields, *cross_origin_fields(page))
            raise readable from refusal
        return response.with_head(readable_by(response.head, page))

    def placed(self, admission: Admission, method: str, target: str) -> tuple[str, RoutePolicy]:
        """The target below `server.base_path`, and its route's policy. Raises NotHere, MethodNotAllowed and PathNotAllowed."""
        if admission.policy.base_path:
            target = admission.inward(target)
        path, _, query = target.partition("?")
        admission.judge(method, query)
        policy_of = _policy if len(path) <= LONGEST_REMEMBERED else _policy.__wrapped__
        return target, policy_of(admission, self.table, path)

    async def _admitted(self, admission: Admission, request: Request) -> Response:
        """The answer to a request whose client may ask for this."""
        trail = request.trail
        head, trail.client = let_in(admission, request.head)
        if admission.policy.base_path:
            trail.target = admission.inward(head.target)
        target, policy = self.placed(admission, head.method, head.target)
        client = replace(request.client, name=trail.client) if trail.client else request.client
        head = head.having(target, head.authority)
        if isinstance(body := request.body, BytesBody):
            return await self._searched(admission, replace(request, head=head, client=client, policy=policy))
        if head.method.upper() == "POST" and (body.length or 0) > admission.read_first(head.fields):
            admission.post(head.fields, None)  # before all of it was read
        async with self._spools.buffered(body) as whole:
            request = replace(request, head=head, client=client, policy=policy, body=whole)
            return await self._searched(admission, request)

    async def _searched(self, admission: Admission, request: Request) -> Response:
        head, policy = request.head, request.policy or UNLISTED
        if head.method.upper() == "POST":  # a field in the body can make it another method
            async with self._searching:
                admission.post(head.fields, await _searchable(request.body, admission.read_first(head.fields)))
        if policy.pass_cookies and "Cookie" in head.fields:
            policy = for_cookies(policy)
        request.trail.route = policy.name
        leaving = admitted(head, pass_cookies=policy.pass_cookies, pass_authorization=policy.pass_client_authorization)
        return await self._next.send(replace(request, head=leaving, policy=policy))


@lru_cache(maxsize=2048)
def _policy(admission: Admission, table: RouteTable, path: str) -> RoutePolicy:
    admission.path(path)
    return table.find(path)


def named(admission: Admission, head: RequestHead) -> tuple[RequestHead, str | None]:
    """The head under its effective authority, and the listed page that asks, if one does. Raises BadRequest, HostNotAllowed, OriginNotAllowed."""
    return head.having(head.target, admission.authority(head)), listed_origin(admission.pages, head)


def let_in(admission: Admission, head: RequestHead) -> tuple[RequestHead, str]:
    """The head without a client key given as Basic `Authorization`, and the name of that key's client. Raises ClientNotAllowed."""
    holder = admission.key_holder(head.fields)
    if holder.by_basic:
        head = head.with_fields(changed(head.fields, without=("Authorization",)))
    return head, holder.name


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

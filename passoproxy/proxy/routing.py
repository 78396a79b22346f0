"""Routing: finds the policy that a request lives under, and takes away what may not leave, so that all hops inwards judge what may."""

from __future__ import annotations

from passoproxy.core.http.forwarding import admitted
from passoproxy.core.routes import RouteTable
from passoproxy.ports import Hop, Request, Response


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

"""Sees to it that a request has a bearer, and sends it once more with a newer one if the origin refused it (contract §4).

The hop stands before the limiter: a request that waits for a bearer, or for the refresh after a 401, holds no place at the origin. The bearer goes
in where the request is written (`token_to_send`), so that none is sent which was replaced while its request waited for a place. Which bearer is
usable, and whether a refresh is due, is decided by the keeper behind BearerSource.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import cast

from passoproxy.core.oauth.pair import Bearer
from passoproxy.errors import BodyBroken, OriginUnreachable
from passoproxy.ports import BearerSource, Body, BytesBody, Hop, Request, Response, Trail
from passoproxy.proxy.spool import BegunBody, gathered

REPLAY_BYTES = 1024 * 1024
"""How much of a request's body is kept for being sent once more."""

_REFUSAL_BYTES = 64 * 1024
"""A 401 up to this size is read to its end before a newer bearer is waited for."""


class Authorizer:
    """The hop. A request with an `Authorization` of its own, on a route that passes it, is left alone."""

    def __init__(self, next: Hop, bearers: BearerSource, *, replay_bytes: int = REPLAY_BYTES) -> None:
        self._next = next
        self._bearers = bearers
        self._replay_bytes = replay_bytes

    async def send(self, request: Request) -> Response:
        """The origin's answer; a 401 only if no newer bearer could be had, the body could not be sent again, or it came twice.

        Raises AuthorizationRequired or TokenUnavailable if there is no bearer, the former also for a 401 while the chain is dead.
        """
        policy = request.policy
        if policy is not None and policy.pass_client_authorization and "Authorization" in request.head.fields:
            return await self._next.send(request)
        if (bearer := self._bearers.current()) is not None:
            request.trail.bearer, request.trail.authorized_as = bearer, self._bearers.partition
        else:
            _give(request.trail, await self._bearers.bearer(), self._bearers)
        sent = request.body if isinstance(request.body, BytesBody) else KeptBody(request.body, self._replay_bytes)
        answer = await self._next.send(request if sent is request.body else replace(request, body=sent))
        return answer if answer.head.status != 401 else await self._again(request, sent, answer)

    async def _again(self, request: Request, sent: BytesBody | KeptBody, answer: Response) -> Response:
        trail = request.trail
        path = sha256(request.head.path.encode()).hexdigest()  # it goes to other processes, and may be long
        try:
            # Read before anything is waited for, since what is read holds no place at the origin.
            body = await gathered(answer.body, _REFUSAL_BYTES)
        except BodyBroken:
            await answer.body.aclose()
            body = None  # a 401 that broke off has told what it had to tell
        except BaseException:
            await answer.body.aclose()
            raise
        try:
            newer = await self._bearers.renewed(cast(Bearer, trail.bearer), path)
        except BaseException:
            await answer.body.aclose()
            raise
        if isinstance(sent, KeptBody):
            again = sent.replayed()
        else:
            again = BytesBody(sent.data) if len(sent.data) <= self._replay_bytes else None
        if newer is None or again is None:
            if body is None:
                raise OriginUnreachable("the origin's 401 broke off; try again")
            return Response(answer.head, body, answer.content_id)
        await answer.body.aclose()
        _give(trail, newer, self._bearers)
        answer = await self._next.send(replace(request, body=again))
        if answer.head.status == 401:
            try:
                await self._bearers.renewed(cast(Bearer, trail.bearer), path, True)
            except BaseException:
                await answer.body.aclose()
                raise
        return answer


def _give(trail: Trail, bearer: Bearer, bearers: BearerSource) -> None:
    now, trail.bearer = bearers.current(), bearer
    # After a wait for a bearer there may have been yet another login: then the identity of the moment is not that of the bearer.
    trail.authorized_as = bearers.partition if now is not None and now.token == bearer.token else ""


def token_to_send(trail: Trail, bearers: BearerSource) -> str:
    """What goes out as the bearer of a request that is written now; '' if it carries none of ours. A bearer that was replaced while its request
    waited for a place gives way to the one of the moment, unless another account has logged in meanwhile.
    """
    if trail.bearer is None:
        return ""
    now = bearers.current()
    if now is not None and now.generation != trail.bearer.generation and trail.authorized_as == bearers.partition:
        trail.bearer = now
    return trail.bearer.token


class KeptBody:
    """A request's body that streams through and is kept meanwhile, up to `max_bytes`."""

    __slots__ = ("_body", "_kept", "_size", "length")

    def __init__(self, body: Body, max_bytes: int) -> None:
        self.length = body.length
        self._body = body
        self._size = max_bytes
        self._kept: list[bytes] | None = [] if (body.length or 0) <= max_bytes else None

    def __aiter__(self) -> KeptBody:
        return self

    async def __anext__(self) -> bytes:
        part = await self._body.__anext__()
        if self._kept is not None:
            self._size -= len(part)
            if self._size < 0:
                self._kept = None
            else:
                self._kept.append(part)
        return part

    async def aclose(self) -> None:
        await self._body.aclose()

    def replayed(self) -> Body | None:
        """The same body from its start: what was kept, then what has not been read yet; None if too much went by."""
        return None if self._kept is None else BegunBody(BytesBody(b"".join(self._kept)), self._body)

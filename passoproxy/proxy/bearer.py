"""Puts the bearer into a request, and sends it once more with a newer one if the origin refused it (contract §4).

Stands before the limiter: a request that waits for a bearer, or for the refresh after a 401, holds no place at the origin. Behind the limiter
`Current` sees to it that no bearer is sent which was replaced while its request waited for a place. Which bearer is usable, and whether a refresh
is due, is decided by the keeper behind BearerSource.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from passoproxy.core.http.messages import changed
from passoproxy.core.oauth.pair import Bearer
from passoproxy.errors import BodyBroken, OriginUnreachable
from passoproxy.ports import BearerSource, Body, BytesBody, Hop, Request, Response
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
        bearer = self._bearers.current() or await self._bearers.bearer()
        sent = request.body if isinstance(request.body, BytesBody) else KeptBody(request.body, self._replay_bytes)
        answer = await self._next.send(authorized(request, bearer, self._bearers, sent))
        return answer if answer.head.status != 401 else await self._again(request, _sent(request, bearer), sent, answer)

    async def _again(self, request: Request, refused: Bearer, sent: BytesBody | KeptBody, answer: Response) -> Response:
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
            newer = await self._bearers.renewed(refused, path)
        except BaseException:
            await answer.body.aclose()
            raise
        again = sent.replayed() if isinstance(sent, KeptBody) else BytesBody(sent.data)
        if isinstance(sent, BytesBody) and len(sent.data) > self._replay_bytes:
            again = None
        if newer is None or again is None:
            if body is None:
                raise OriginUnreachable("the origin's 401 broke off; try again")
            return Response(answer.head, body, answer.content_id)
        await answer.body.aclose()
        answer = await self._next.send(authorized(request, newer, self._bearers, again))
        if answer.head.status == 401:
            try:
                await self._bearers.renewed(_sent(request, newer), path, True)
            except BaseException:
                await answer.body.aclose()
                raise
        return answer


class Current:
    """The hop behind the limiter: a bearer that was replaced while its request waited gives way to the one of the moment, unless another account
    has logged in meanwhile."""

    def __init__(self, next: Hop, bearers: BearerSource) -> None:
        self._next = next
        self._bearers = bearers

    async def send(self, request: Request) -> Response:
        """The origin's answer. A request that carries no bearer of ours is left alone."""
        trail, now = request.trail, self._bearers.current()
        replaced = now is not None and trail.authorized_with not in (None, now.generation)
        if now is not None and replaced and trail.authorized_as == self._bearers.partition:
            request = authorized(request, now, self._bearers, request.body)
        return await self._next.send(request)


def authorized(request: Request, bearer: Bearer, bearers: BearerSource, body: Body) -> Request:
    """The request with `bearer` and `body`; its trail tells of it."""
    fields = changed(request.head.fields, having=(("Authorization", f"Bearer {bearer.token}"),))
    now, trail = bearers.current(), request.trail
    trail.authorized_with = bearer.generation
    # After a wait for a bearer there may have been yet another login: then the identity of the moment is not that of the bearer.
    trail.authorized_as = bearers.partition if now is not None and now.token == bearer.token else ""
    return replace(request, head=request.head.with_fields(fields), body=body)


def _sent(request: Request, given: Bearer) -> Bearer:
    """The bearer that the origin saw, where `given` went in."""
    generation = request.trail.authorized_with
    return given if generation in (None, given.generation) else Bearer("", generation or 0)


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

"""Puts the bearer into a request, and sends it once more with a newer one where the origin refused it (contract §4).

Which bearer is usable, and whether a refresh is due, is decided by the keeper behind BearerSource.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from passoproxy.core.http.messages import changed
from passoproxy.core.oauth.pair import Bearer
from passoproxy.errors import PassoproxyError
from passoproxy.ports import BearerSource, Body, BytesBody, Hop, Request, Response, read_whole

REPLAY_BYTES = 1024 * 1024
"""How much of a request's body is kept for being sent once more."""

_REFUSAL_BYTES = 64 * 1024
"""A 401 up to this size is read to its end, so that its connection can be used again."""


class Authorizing:
    """Authorizes what passes. A request with an `Authorization` of its own, on a route that passes it, is left alone."""

    def __init__(self, next: Hop, bearers: BearerSource, *, replay_bytes: int = REPLAY_BYTES) -> None:
        self._next = next
        self._bearers = bearers
        self._replay_bytes = replay_bytes

    async def send(self, request: Request) -> Response:
        """The origin's answer; a 401 only where no newer bearer could be had, the body could not be sent again, or it came twice.

        Raises AuthorizationRequired or TokenUnavailable where there is no bearer, the former also for a 401 while the chain is dead.
        """
        policy = request.policy
        if policy is not None and policy.pass_client_authorization and "Authorization" in request.head.fields:
            return await self._next.send(request)
        bearer = self._bearers.current() or await self._bearers.bearer()
        sent = request.body
        if not isinstance(sent, BytesBody):
            sent = KeptBody(sent, self._replay_bytes)
        answer = await self._next.send(self._authorized(request, bearer, sent))
        if answer.head.status != 401:
            return answer
        return await self._again(request, bearer, sent, answer)

    async def _again(self, request: Request, refused: Bearer, sent: BytesBody | KeptBody, answer: Response) -> Response:
        path = sha256(request.head.path.encode()).hexdigest()  # it goes to other processes, and may be long
        newer = await self._renewed(answer, refused, path)
        body = self._replayed(sent)
        if newer is None or body is None:
            return answer
        await _discard(answer)
        answer = await self._next.send(self._authorized(request, newer, body))
        if answer.head.status == 401:
            await self._renewed(answer, newer, path, again=True)
        return answer

    async def _renewed(self, answer: Response, refused: Bearer, path: str, again: bool = False) -> Bearer | None:
        try:
            return await self._bearers.renewed(refused, path, again)
        except BaseException:
            await answer.body.aclose()
            raise

    def _replayed(self, sent: BytesBody | KeptBody) -> Body | None:
        if isinstance(sent, KeptBody):
            return sent.replayed()
        return BytesBody(sent.data) if len(sent.data) <= self._replay_bytes else None

    def _authorized(self, request: Request, bearer: Bearer, body: Body) -> Request:
        fields = changed(request.head.fields, having=(("Authorization", f"Bearer {bearer.token}"),))
        now, trail = self._bearers.current(), request.trail
        trail.authorized_with = bearer.generation
        # Whoever waited for a bearer may come here after yet another login: then the identity of the moment is not that of the bearer.
        trail.authorized_as = self._bearers.partition if now is not None and now.token == bearer.token else ""
        return replace(request, head=request.head.with_fields(fields), body=body)


async def _discard(answer: Response) -> None:
    try:
        await read_whole(answer.body, _REFUSAL_BYTES)
    except PassoproxyError:
        pass  # a 401 that broke off has told what it had to tell
    finally:
        await answer.body.aclose()


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
        """The same body from its start: what was kept, then what has not been read yet; None where too much went by."""
        return None if self._kept is None else _Replayed(self._kept, self._body, self.length)


class _Replayed:
    """What was kept, then the rest."""

    __slots__ = ("_body", "_parts", "length")

    def __init__(self, kept: list[bytes], body: Body, length: int | None) -> None:
        self.length = length
        self._parts = kept[::-1]
        self._body = body

    def __aiter__(self) -> _Replayed:
        return self

    async def __anext__(self) -> bytes:
        return self._parts.pop() if self._parts else await self._body.__anext__()

    async def aclose(self) -> None:
        self._parts.clear()
        await self._body.aclose()

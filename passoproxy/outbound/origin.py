"""The last hop of the pipeline: speaks HTTP/1.1 to the origin, and turns what can go wrong there into refusals and events.

Connections are in `pool`; what may cross the proxy is listed in `core.http.forwarding`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from passoproxy.core.cache.key import side_effects
from passoproxy.core.events import OriginAnswered, OriginFailed
from passoproxy.core.http.forwarding import from_origin, toward_origin
from passoproxy.core.routes import UNLISTED
from passoproxy.errors import BadRequest, ConnectionDropped, Refusal
from passoproxy.outbound.connection import encoded
from passoproxy.outbound.pool import Pool
from passoproxy.ports import BearerSource, BytesBody, Clock, Observer, Request, Response, nobody
from passoproxy.proxy.bearer import token_to_send

_SENT_TWICE = frozenset({"GET", "HEAD", "OPTIONS"})


class Origin:
    """Sends requests to the pool's endpoint, each with `path` before its own path. `headers` gives the fields that are added to each, in the
    place of the client's. Without `bearers` no request carries a bearer of ours.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        clock: Clock,
        bearers: BearerSource | None = None,
        observer: Observer = nobody,
        headers: Callable[[], Mapping[str, str]] = dict,
        path: str = "",
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._bearers = bearers
        self._observer = observer
        self.headers = headers
        self._path = path
        self.on_sent: Callable[[], None] = lambda: None
        """Called for each request that goes out on a connection."""

    async def send(self, request: Request) -> Response:
        """The origin's answer, its body still arriving. Raises OriginUnreachable, OriginTimeout, OriginInvalid or Overloaded.

        A request is sent once; again, once, only if a kept connection ended before a byte of the answer and it can do no harm.
        """
        head, trail = request.head, request.trail
        own = self.headers()
        began = self._clock.monotonic()
        try:
            try:
                answer = await self._once(request, own, fresh=False)
            except ConnectionDropped:
                if not _harmless_twice(request):
                    raise
                answer = await self._once(request, own, fresh=True)
        except Refusal as refusal:
            self._observer(OriginFailed(head.method, head.target, refusal.code, refusal.detail, trail.request_id))
            raise
        finally:
            took = self._clock.monotonic() - began
            trail.origin_seconds += took
        self._observer(OriginAnswered(head.method, head.target, answer.head.status, took, trail.request_id))
        cookies = request.policy is not None and request.policy.pass_cookies
        return Response(from_origin(answer.head, pass_cookies=cookies), answer.body)

    async def _once(self, request: Request, own: Mapping[str, str], *, fresh: bool) -> Response:
        connection = (None if fresh else self._pool.kept()) or await self._pool.acquire(fresh=fresh)
        head, trail, told = request.head, request.trail, request.on_interim
        # Now, and not before the connection: its bearer may have been replaced while that was made.
        token = "" if self._bearers is None else token_to_send(trail, self._bearers)
        lines = toward_origin(head, authority=self._pool.authority, own=own, path=self._path, token=token)
        try:
            message = encoded(lines, head.method, request.body)
        except BadRequest:
            connection.close()
            raise
        trail.origin_requests += 1
        self.on_sent()
        passed_on = None if told is None else lambda head: told(from_origin(head, pass_cookies=False))
        return await connection.exchange(head.method, message, request.body, passed_on, trail)


def _harmless_twice(request: Request) -> bool:
    """Whether sending it again can change nothing: a safe method, no body, and no query name that stands for a side effect."""
    if request.head.method not in _SENT_TWICE:
        return False
    if not isinstance(request.body, BytesBody) or request.body.data:
        return False
    return not side_effects(request.head.target, (request.policy or UNLISTED).bypass_when)

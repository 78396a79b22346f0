"""Safe requests that can have no answer without a person wait for the login that is under way (contract §4).

Stands outside the cache: what is stored answers first, and a request that waits holds neither a fetch nor a place at the origin. When the pair
is there it begins anew, so that it is judged under the identity that logged in. Logins are the keeper's business.
"""

from __future__ import annotations

from dataclasses import replace

from passoproxy.core.cache.invalidation import SAFE_METHODS
from passoproxy.core.cache.key import Unreadable, content_of, side_effects
from passoproxy.core.routes import UNLISTED
from passoproxy.errors import AuthorizationRequired, TokenUnavailable
from passoproxy.ports import BearerSource, BytesBody, Clock, Hop, Request, Response
from passoproxy.proxy.cache import LARGEST_KEYED_BODY
from passoproxy.proxy.spool import gathered

PATIENCE = 20.0
"""Seconds that a request waits at most: shorter than what HTTP clients usually wait."""

MOST_WAITING = 256
"""So many requests may wait at once; the next one is refused as if there were no login."""

_NO_ANSWER = (AuthorizationRequired, TokenUnavailable)


class LoginWait:
    """The hop. `release` ends all waits, and lets none begin from then on."""

    def __init__(
        self,
        next: Hop,
        keeper: BearerSource,
        clock: Clock,
        *,
        patience: float = PATIENCE,
        most: int = MOST_WAITING,
    ) -> None:
        self._next = next
        self._keeper = keeper
        self._clock = clock
        self._patience = patience
        self._most = most
        self._released = False
        self.waiting = 0
        """Requests that wait now."""

    def release(self) -> None:
        """For the end of the daemon: requests that wait are answered at once, and none waits any more."""
        self._released = True

    async def send(self, request: Request) -> Response:
        """The answer of the hop behind. Raises what it raises, for want of a bearer only after waiting where that may help."""
        policy = request.policy
        if request.head.method == "POST" and policy is not None and "POST" in policy.methods:
            # read here, because it may have to be sent again; the cache reads no more of it than this either
            request = replace(request, body=await gathered(request.body, LARGEST_KEYED_BODY))
        try:
            return await self._next.send(request)
        except _NO_ANSWER as fault:
            # the login may have ended well in this very moment
            hopeful = self._login_open() or (isinstance(fault, TokenUnavailable) and self._keeper.current() is not None)
            if not hopeful or self.waiting >= self._most or not _may_wait(request):
                raise
        self.waiting += 1
        try:
            return await self._wait(request)
        finally:
            self.waiting -= 1

    async def _wait(self, request: Request) -> Response:
        """Sends again with each bearer that is newer than the one that failed, and once more when the waiting is over."""
        end = self._clock.monotonic() + self._patience
        failed = request.trail.bearer.generation if request.trail.bearer else 0
        while self._login_open() and (left := end - self._clock.monotonic()) > 0:
            bearer = self._keeper.current()
            if bearer is None or bearer.generation <= failed:
                await self._keeper.news(min(left, 1.0))
                continue
            failed = bearer.generation
            try:
                return await self._next.send(_again(request))
            except _NO_ANSWER:
                failed = max(failed, request.trail.bearer.generation if request.trail.bearer else 0)
        return await self._next.send(_again(request))

    def _login_open(self) -> bool:
        return not self._released and self._keeper.snapshot().login_until is not None


def _may_wait(request: Request) -> bool:
    """Whether the request reads and nothing else, and can be sent again: then a client loses nothing by waiting."""
    head, policy, body = request.head, request.policy or UNLISTED, request.body
    if request.background or not isinstance(body, BytesBody):
        return False
    if head.method in SAFE_METHODS:
        return not side_effects(head.target, policy.bypass_when)
    if head.method != "POST" or "POST" not in policy.methods or len(body.data) > LARGEST_KEYED_BODY:
        return False
    try:
        content = content_of(head.fields, body.data, policy.key)
    except Unreadable:
        return False
    return not side_effects(head.target, policy.bypass_when, content)


def _again(request: Request) -> Request:
    body = request.body
    return replace(request, body=BytesBody(body.data)) if isinstance(body, BytesBody) else request

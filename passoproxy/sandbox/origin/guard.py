"""Who may ask the origin, and how it breaks: bearer, plan, quota, concurrency, and every fault of the origin."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from passoproxy.sandbox.faults import FaultSet, cut_off
from passoproxy.sandbox.journal import Entry, entry_of
from passoproxy.sandbox.origin.call import Bare, Call, Origin, Reply
from passoproxy.sandbox.origin.fields import Forbidden, Invalid, Missing, read
from passoproxy.sandbox.origin.responses import FRAMEWORK, response
from passoproxy.sandbox.provider.grants import Grants, Token

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint: `free` needs no token, `feature` must be part of the plan."""

    methods: str
    path: str
    answer: Callable[[Call], Reply]
    free: bool = False
    feature: str | None = None


class Guard:
    """Stands before every endpoint of the origin."""

    def __init__(
        self, origin: Origin, grants: Grants, faults: FaultSet, sleep: Callable[[float], Awaitable[object]]
    ) -> None:
        self._origin, self._options, self._grants, self._faults = origin, origin.options, grants, faults
        self._sleep = sleep
        self._under_way = 0
        self._used, self._period_ends = 0, 0.0

    def routes(self, endpoint: Endpoint) -> list[web.RouteDef]:
        """The endpoint behind this guard."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            return await self._handle(request, endpoint)

        made = {"GET": web.get, "POST": web.post, "DELETE": web.delete}
        return [made[method](f"/api/v2{endpoint.path}", guarded) for method in endpoint.methods.split()]

    async def _handle(self, request: web.Request, endpoint: Endpoint) -> web.StreamResponse:
        entry, options = entry_of(request), self._options
        token = self._token(request, entry)
        if self._faults.strikes("origin_5xx", entry):
            page = "<!DOCTYPE html><html><head><title>Server Error</title></head><body><h1>500 | Server Error</h1></body></html>"
            return web.Response(status=500, text=page, content_type="text/html", headers=FRAMEWORK)
        if self._faults.strikes("origin_429", entry):
            return self._too_many(request, options.retry_after)
        if options.concurrency and self._under_way >= options.concurrency:
            entry.outcome = "refused: concurrency"
            return self._too_many(request, options.retry_after if options.concurrency_retry_after else None)
        self._under_way += 1
        try:
            # Here, so that a bearer is judged as it arrived and waiting counts as being under way.
            if options.latency:
                await self._sleep(options.latency)
            answer = None if endpoint.free else self._refused(request, entry, token, endpoint.feature)
            if answer is None:
                reply = await self._answered(request, endpoint, token)
                answer = response(request, reply, validators=options.validators)
            if self._faults.strikes("origin_slow", entry):
                await self._sleep(options.slow_seconds)
            if request.method != "HEAD" and answer.body:
                for fault, outcome in (("origin_reset_midbody", "reset"), ("origin_truncated", "truncated")):
                    if self._faults.strikes(fault, entry):
                        entry.outcome = outcome
                        return await cut_off(request, answer, reset=outcome == "reset", sleep=self._sleep)
            return answer
        finally:
            self._under_way -= 1

    def _token(self, request: web.Request, entry: Entry) -> Token | None:
        """The bearer if it is valid; the owner may withdraw the grant at this moment."""
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = self._grants.bearer(text.strip())
        if token is not None and self._faults.strikes("revoked", entry):
            self._grants.withdraw(token.chain)
            token = None
        entry.token_valid = token is not None
        return token

    def _refused(
        self, request: web.Request, entry: Entry, token: Token | None, feature: str | None
    ) -> web.Response | None:
        if token is None or self._faults.strikes("origin_401", entry):
            answer = response(request, Bare({"message": "Unauthenticated."}, 401))
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        quota, now = self._options.quota, self._origin.clock()
        if not now < self._period_ends <= now + DAY:
            self._used, self._period_ends = 0, now + DAY
        self._used += 1
        if quota is not None and self._used > quota:
            entry.outcome = "refused: quota"
            wait = int(self._period_ends - now) + 1
            return self._too_many(request, wait if self._options.quota_retry_after else None)
        if feature is not None and feature not in self._options.features:
            return response(request, Bare({"message": "Forbidden."}, 403))
        return None

    def _too_many(self, request: web.Request, wait: int | None) -> web.Response:
        answer = response(request, Bare({"message": "Too many requests."}, 429))
        if wait is not None:
            answer.headers["Retry-After"] = str(wait)
        return answer

    async def _answered(self, request: web.Request, endpoint: Endpoint, token: Token | None) -> Reply:
        try:
            subject = token.chain.subject if token is not None else ""
            return endpoint.answer(Call(self._origin, request, await read(request), subject))
        except Invalid as refused:
            first = next(iter(refused.errors.values()))
            return Bare({"message": first, "errors": {name: [text] for name, text in refused.errors.items()}}, 422)
        except Missing:
            return Bare({"message": "Not found."}, 404)
        except Forbidden:
            return Bare({"message": "Forbidden."}, 403)

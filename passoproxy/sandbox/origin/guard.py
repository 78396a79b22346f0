"""Who may ask the origin, and how it breaks: bearer, plan, quota, concurrency, and every fault of the origin."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from passoproxy.sandbox.faults import FaultSet, cut_off
from passoproxy.sandbox.journal import Entry, entry_of
from passoproxy.sandbox.options import SandboxOptions
from passoproxy.sandbox.origin.fields import Invalid
from passoproxy.sandbox.origin.responses import FRAMEWORK, Answers
from passoproxy.sandbox.provider.grants import Grants, Token

DAY = 86_400.0
TOKEN = web.RequestKey("token", Token)

Handler = Callable[[web.Request], Awaitable[web.Response]]


class Missing(Exception):
    """There is no such record: 404."""


class Forbidden(Exception):
    """The account's plan does not hold what is asked: 403."""


class Guard:
    """Stands before every endpoint of the origin."""

    def __init__(
        self,
        options: SandboxOptions,
        grants: Grants,
        faults: FaultSet,
        answers: Answers,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[object]],
    ) -> None:
        self._options, self._grants, self._faults, self._answers = options, grants, faults, answers
        self._clock, self._sleep = clock, sleep
        self._under_way = 0
        self._used, self._period_ends = 0, 0.0

    def __call__(
        self, handler: Handler, *, free: bool = False, feature: str | None = None
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """The handler behind this guard; `free` needs no token, `feature` must be part of the plan."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            entry = entry_of(request)
            token = self._token(request, entry)
            refused = self._broken(request, entry) or self._busy(request, entry)
            if refused is not None:
                return refused
            self._under_way += 1
            try:
                # Here, so that a bearer is judged as it arrived and waiting counts as being under way.
                if self._options.latency:
                    await self._sleep(self._options.latency)
                refused = None if free else self._refused(request, entry, token, feature)
                answer = refused or await self._answered(handler, request)
                if self._strikes(entry, "origin_slow"):
                    await self._sleep(self._options.slow_seconds)
                return await self._cut(request, entry, answer)
            finally:
                self._under_way -= 1

        return guarded

    def needs(self, feature: str) -> None:
        """For what only a part of the request asks: raises Forbidden where the plan does not hold the feature."""
        if feature not in self._options.features:
            raise Forbidden

    def _token(self, request: web.Request, entry: Entry) -> Token | None:
        """The bearer if it is valid; the owner may withdraw the grant at this moment."""
        scheme, _, text = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = self._grants.bearer(text.strip())
        if token is not None and self._strikes(entry, "revoked"):
            self._grants.withdraw(token.chain)
            token = None
        entry.token_valid = token is not None
        if token is not None:
            request[TOKEN] = token
        return token

    def _broken(self, request: web.Request, entry: Entry) -> web.Response | None:
        if self._strikes(entry, "origin_5xx"):
            page = "<!DOCTYPE html><html><head><title>Server Error</title></head><body><h1>500 | Server Error</h1></body></html>"
            return web.Response(status=500, text=page, content_type="text/html", headers=FRAMEWORK)
        if self._strikes(entry, "origin_429"):
            return self._too_many(request, entry, self._options.retry_after)
        return None

    def _busy(self, request: web.Request, entry: Entry) -> web.Response | None:
        limit = self._options.concurrency
        if not limit or self._under_way < limit:
            return None
        entry.outcome = "refused: concurrency"
        return self._too_many(
            request, entry, self._options.retry_after if self._options.concurrency_retry_after else None
        )

    def _refused(
        self, request: web.Request, entry: Entry, token: Token | None, feature: str | None
    ) -> web.Response | None:
        if token is None or self._strikes(entry, "origin_401"):
            answer = self._answers.bare(request, {"message": "Unauthenticated."}, 401)
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        if not self._within_quota():
            entry.outcome = "refused: quota"
            wait = int(self._period_ends - self._clock()) + 1
            return self._too_many(request, entry, wait if self._options.quota_retry_after else None)
        if feature is not None and feature not in self._options.features:
            return self._answers.bare(request, {"message": "Forbidden."}, 403)
        return None

    def _within_quota(self) -> bool:
        quota, now = self._options.quota, self._clock()
        if not now < self._period_ends <= now + DAY:
            self._used, self._period_ends = 0, now + DAY
        self._used += 1
        return quota is None or self._used <= quota

    def _too_many(self, request: web.Request, entry: Entry, wait: int | None) -> web.Response:
        answer = self._answers.bare(request, {"message": "Too many requests."}, 429)
        if wait is not None:
            answer.headers["Retry-After"] = str(wait)
        return answer

    async def _answered(self, handler: Handler, request: web.Request) -> web.Response:
        try:
            return await handler(request)
        except Invalid as refused:
            first = next(iter(refused.errors.values()))
            errors = {name: [text] for name, text in refused.errors.items()}
            return self._answers.bare(request, {"message": first, "errors": errors}, 422)
        except Missing:
            return self._answers.bare(request, {"message": "Not found."}, 404)
        except Forbidden:
            return self._answers.bare(request, {"message": "Forbidden."}, 403)

    async def _cut(self, request: web.Request, entry: Entry, answer: web.Response) -> web.StreamResponse:
        if request.method == "HEAD" or not answer.body:
            return answer
        for fault, outcome in (("origin_reset_midbody", "reset"), ("origin_truncated", "truncated")):
            if self._strikes(entry, fault):
                entry.outcome = outcome
                return await cut_off(request, answer, reset=outcome == "reset", sleep=self._sleep)
        return answer

    def _strikes(self, entry: Entry, fault: str) -> bool:
        if not self._faults.strikes(fault):
            return False
        entry.struck(fault)
        return True

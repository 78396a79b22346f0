"""The outermost ring of the sandbox: notes each request in the journal, adds latency, and turns refusals into answers."""

import json
from collections.abc import Awaitable, Callable

from aiohttp import web

from passoproxy.sandbox.journal import Entry, Journal

ENTRY = web.RequestKey("entry", Entry)
CONTROL = "/__sandbox/"
ORIGIN = "/api/"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def entry_of(request: web.Request) -> Entry:
    """The journal's entry of a request that is being answered."""
    return request[ENTRY]


class Recording:
    """The middleware; `sleep` waits for `latency` seconds before every answer, but for the origin's: its guard waits."""

    def __init__(self, journal: Journal, latency: float, sleep: Callable[[float], Awaitable[object]]) -> None:
        self._journal, self._latency, self._sleep = journal, latency, sleep

    @web.middleware
    async def around(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(CONTROL):
            return await _answer(request, handler)
        entry = self._journal.arrived(request.method, request.raw_path, request.headers)
        request[ENTRY] = entry
        if self._latency and not request.path.startswith(ORIGIN):
            await self._sleep(self._latency)
        try:
            answer = await _answer(request, handler)
        except Exception:
            entry.status, entry.outcome = 500, "failed"
            raise
        if entry.outcome is None:
            entry.outcome = "answered"
        if entry.outcome != "dropped":
            entry.status = answer.status
        return answer


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPRequestEntityTooLarge:
        answer = _plain(request, 413, "The body is larger than the sandbox takes (1 MiB).")
        answer.force_close()
        return answer
    except web.HTTPMethodNotAllowed as refused:
        return _wrong_method(request, refused)
    except web.HTTPNotFound:
        return _plain(request, 404, f"The route {request.path.lstrip('/')} could not be found.")


def _wrong_method(request: web.Request, refused: web.HTTPMethodNotAllowed) -> web.Response:
    allowed = ", ".join(sorted(refused.allowed_methods))
    text = f"The {request.method} method is not supported for route {request.path.lstrip('/')}. Supported: {allowed}."
    # The data service documents 404 as "method not allowed"; the provider is an ordinary server.
    answer = _plain(request, 404 if request.path.startswith(ORIGIN) else 405, text)
    answer.headers["Allow"] = allowed
    return answer


def _plain(request: web.Request, status: int, text: str) -> web.Response:
    body = json.dumps({"message": text}).replace("/", "\\/")
    headers = {"Cache-Control": "no-cache, private"} if request.path.startswith(ORIGIN) else None
    return web.Response(status=status, text=body, content_type="application/json", headers=headers)

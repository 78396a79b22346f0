"""The applications of the admin listener, of `control.sock` and of the probes' listener: their paths, and the status page's forms.

They are handed back ready to be served; limits on the wire are in `runner`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import asdict
from inspect import isawaitable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from passoproxy.control import Control
from passoproxy.core.oauth.settings import CALLBACK_PATH
from passoproxy.errors import PassoproxyError, PersonNeeded
from passoproxy.ports import Observer, nobody
from passoproxy.server.admin import page
from passoproxy.server.admin.api import API, MASK, Call, Guarded, Streams, answer, followed, form_of, server_sent
from passoproxy.server.admin.audit import OUTCOME, TARGET, WHO, audits, socket_user
from passoproxy.server.admin.auth import PAGE_FIELD, AdminAccess, Guard, html
from passoproxy.server.admin.errors import CrossSite, NotFound, SessionRequired, TokenRequired, problems
from passoproxy.server.admin.html import ASSETS, Html, asset
from passoproxy.server.admin.login import Callback
from passoproxy.server.admin.sessions import SESSION_PATH, PageSessions

Exposition = Callable[[str], Awaitable[tuple[bytes, str]]]
"""From an Accept field to the metrics' text and its Content-Type."""

Watch = Callable[[Mapping[str, str]], AsyncGenerator[str, None]]
"""From what a watcher wishes to see to the lines that fit, as they come. Raises BadRequest."""

MAX_BODY_BYTES: Final = 1024 * 1024
MOST_PAGES: Final = 16
"""Pages that are told of requests as they come, at once."""
KEPT: Final[web.RequestKey[bool]] = web.RequestKey("kept", bool)
"""Whether a browser may keep the answer of a request."""
_POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_FIELDS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Not `no-referrer`: under that a browser's own forms would say `Origin: null`.
    "Referrer-Policy": "same-origin",
    "Server": "passoproxy",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_NO_HOST_NEEDED: Final = frozenset(("/healthz", "/readyz"))


def admin_application(
    daemon: Control,
    access: AdminAccess,
    sessions: PageSessions,
    metrics: Exposition,
    watch: Watch,
    observer: Observer = nobody,
    wall: Callable[[], float] = time.time,
    mask: Callable[[str], str] = str,
) -> web.Application:
    """The admin listener (contract §8). `mask` is applied to URLs in answers for clients that may change nothing."""
    guard = Guard(access, sessions, wall)
    callback, site, streams = Callback(daemon, guard), Site(daemon, guard, wall, mask), Streams(MOST_PAGES)

    async def live(request: web.Request) -> web.StreamResponse:
        guard.check_same_site(request)  # a page of another site cannot read it, but it would be sent
        told = server_sent(watch({}), lambda: guard.is_open_to(request))  # the admin token may be changed meanwhile
        return await streams.send(request, told, "text/event-stream")

    def read(request: web.Request) -> None:
        guard.check_token(request)
        if not guard.may_change(request):
            request[MASK] = mask

    def change(request: web.Request) -> None:
        guard.check_change(request, request.headers.get(PAGE_FIELD, ""))

    guards = {Guarded.READ: read, Guarded.CHANGE: change}
    app = _application(
        observer,
        [
            *_probes(daemon),
            web.get("/metrics", _guarded(read, _metrics(metrics))),
            *(_route(call, daemon, guards[call.guarded]) for call in API if call.guarded in guards),
            web.get("/", site.status),
            web.get("/assets/{name}", _asset),
            web.get("/oauth/start", callback.start, allow_head=False),
            web.get(CALLBACK_PATH, callback.callback, allow_head=False),
            web.post("/oauth/paste", _guarded_form(guard, callback.paste)),
            web.get(SESSION_PATH, site.begin_session, allow_head=False),
            web.post("/page/token", site.take_token),
            web.get("/page/live", _guarded(read, live), allow_head=False),
            web.get("/page/why", site.why),
            web.get("/page/refresh", site.status),
            web.post("/page/refresh", _guarded_form(guard, site.refresh)),
            web.get("/page/purge", site.ask_purge),
            web.post("/page/purge", _guarded_form(guard, site.purge)),
            web.get("/page/logout", site.ask_logout),
            web.post("/page/logout", _guarded_form(guard, site.logout)),
        ],
        audits(observer, guard.who),
        _checking_host(guard),
    )
    app.on_shutdown.append(streams.end)
    return app


def control_application(
    daemon: Control, sessions: PageSessions, metrics: Exposition, watch: Watch, observer: Observer = nobody
) -> web.Application:
    """What commands ask over `control.sock`: nothing is checked here, because the kernel has said who connects."""
    streams = Streams()

    async def follow(request: web.Request) -> web.StreamResponse:
        return await streams.send(request, followed(daemon))

    async def tail(request: web.Request) -> web.StreamResponse:
        return await streams.send(request, watch(request.query))

    async def link(request: web.Request) -> web.Response:
        return answer(asdict(sessions.link()))

    app = _application(
        observer,
        [
            *_probes(daemon),
            web.get("/metrics", _metrics(metrics)),
            *(_route(call, daemon) for call in API),
            web.get("/api/token/follow", follow, allow_head=False),
            web.get("/api/tail", tail, allow_head=False),
            web.post("/api/page", link),
        ],
        audits(observer, socket_user),
    )
    app.on_shutdown.append(streams.end)
    return app


def probe_application(daemon: Control, metrics: Exposition, observer: Observer = nobody) -> web.Application:
    """`admin.probe_listen`: /healthz, /readyz and /metrics, without Host check or token."""
    return _application(observer, [*_probes(daemon), web.get("/metrics", _metrics(metrics))])


def _application(observer: Observer, routes: list[web.RouteDef], *further: Middleware) -> web.Application:
    app = web.Application(middlewares=[problems(observer), *further], client_max_size=MAX_BODY_BYTES)
    app.on_response_prepare.append(_secured)
    app.add_routes(routes)
    return app


async def _secured(request: web.Request, answer: web.StreamResponse) -> None:
    answer.headers.update(_FIELDS)
    if request.get(KEPT):
        answer.headers["Cache-Control"] = "max-age=3600"


def _route(call: Call, daemon: Control, check: Callable[[web.Request], None] | None = None) -> web.RouteDef:
    async def handle(request: web.Request) -> web.StreamResponse:
        if check is not None:
            check(request)
        found = call.answer(daemon, request)
        if isawaitable(found):
            found = await found
        return found if isinstance(found, web.StreamResponse) else answer(found)

    return web.get(call.path, handle) if call.method == "GET" else web.post(call.path, handle)


# ---- guards ----------------------------------------------------------------------------------------------------------


def _checking_host(guard: Guard) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in _NO_HOST_NEEDED:
            guard.check_host(request)
        return await handler(request)

    return check


def _guarded(check: Callable[[web.Request], None], handler: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        check(request)
        return await handler(request)

    return guarded


def _guarded_form(guard: Guard, handler: Handler) -> Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        try:
            guard.check_change(request, (await form_of(request)).get("page_token", ""))
        except (SessionRequired, TokenRequired):
            return guard.way_in()  # the session of a person at the page has ended
        return await handler(request)

    return guarded


# ---- probes, metrics, assets -----------------------------------------------------------------------------------------


def _probes(daemon: Control) -> list[web.RouteDef]:
    async def alive(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(request: web.Request) -> web.Response:
        is_ready, word, reason = daemon.readiness(request.query.get("strict", "0") not in ("", "0", "false"))
        lines = (f"{word}: {reason}" if reason else word, daemon.outlook())
        answer = web.Response(text="".join(f"{line}\n" for line in lines if line), status=200 if is_ready else 503)
        if not is_ready:
            answer.headers["Retry-After"] = "5"
        return answer

    return [web.get("/healthz", alive), web.get("/readyz", ready)]


def _metrics(metrics: Exposition) -> Handler:
    async def expose(request: web.Request) -> web.Response:
        text, content_type = await metrics(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    return expose


async def _asset(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name not in ASSETS:
        raise NotFound("there is no such asset")
    answer = web.Response(body=asset(name), content_type=ASSETS[name], charset="utf-8")
    if name.endswith(".svg"):
        request[KEPT] = True  # the page shows one of them when nobody is here to give it
    return answer


# ---- the status page and its forms -----------------------------------------------------------------------------------

_NOTICES = {
    "refreshed": "The pair was refreshed.",
    "softened": "All that is stored is stale now.",
    "purged": "The cache was emptied.",
    "logged-out": "The pair was erased.",
}

_LOGINS = ("/oauth/start", "/oauth/start?elsewhere=1")
"""Where the browser may have been going when it was asked for the admin token, apart from the status page."""


class Site:
    """The status page and its forms."""

    def __init__(
        self, daemon: Control, guard: Guard, wall: Callable[[], float], mask: Callable[[str], str] = str
    ) -> None:
        self._daemon, self._guard, self._wall, self._mask = daemon, guard, wall, mask

    async def status(self, request: web.Request) -> web.Response:
        if not self._guard.is_open_to(request):
            return html(page.token_page("/"))
        notice = _NOTICES.get(request.query.get("done", ""), "")
        token = self._guard.page_token(request)
        way_in = "" if token else self._guard.sessions.command()
        if request.path != "/":
            return self._guard.way_in() if way_in else web.Response(status=303, headers={"Location": "/"})
        await self._daemon.look_at_store()
        await self._daemon.look_at_routes()
        status = self._daemon.status()
        await asyncio.sleep(0)  # with hundreds of routes both take some milliseconds
        return html(page.status_page(status, token, self._wall(), notice, way_in))

    async def begin_session(self, request: web.Request) -> web.Response:
        """Lets the browser in that opens a link of `passoproxy page`."""
        if "prefetch" in request.headers.get("Sec-Purpose", ""):
            return web.Response(status=503)  # a browser that only looks ahead would use the link up
        # The page is led to by a navigation of its own: after a redirect from another site a browser would keep the new cookie back.
        answer = html(page.going_on_page("Status page", "This browser may change things here now.", "/"))
        answer.headers["Refresh"] = "0; url=/"
        if not self._guard.begin_session(request, answer):
            return self._guard.way_in(spent=True)
        request[WHO] = "a link of 'passoproxy page'"
        return answer

    async def take_token(self, request: web.Request) -> web.Response:
        """Takes the admin token from the page's form. The token itself vouches for who sends it; a browser has to come from here."""
        self._guard.check_same_site(request)
        if not self._guard.is_same_origin(request):
            raise CrossSite("the admin token is entered on the status page; elsewhere send it as Authorization: Bearer")
        form = await form_of(request)
        then = form.get("then", "") if form.get("then") in _LOGINS else "/"
        if not self._guard.is_token(form.get("token", "")):
            return html(page.token_page(then, wrong=True), 401)
        if then == "/":
            answer = web.Response(status=303, headers={"Location": then})
        else:
            # A browser would judge the redirects of a form's answer by our form-action, and block the one to the provider.
            answer = html(page.going_on_page("Admin token", "That is the token.", then))
            answer.headers["Refresh"] = f"0; url={then}"
        self._guard.remember(request, answer)
        request[WHO] = self._guard.token_name
        return answer

    async def refresh(self, request: web.Request) -> web.Response:
        return await self._done(self._daemon.refresh(), "refreshed", "Not refreshed")

    async def why(self, request: web.Request) -> web.Response:
        """Why a request was answered as it was: needs a session, as every explanation does."""
        if not self._guard.page_token(request):
            return self._guard.way_in()
        found = await self._daemon.why(request.query.get("request", ""))
        return html(page.why_page(found and {**found, "target": self._mask(str(found["target"]))}))

    async def ask_purge(self, request: web.Request) -> web.Response:
        """Asks what is meant, and says what it means now."""
        return self._ask(request, page.purge_page)

    async def ask_logout(self, request: web.Request) -> web.Response:
        """The same."""
        return self._ask(request, page.logout_page)

    def _ask(self, request: web.Request, question: Callable[[Mapping[str, object], str], Html]) -> web.Response:
        token = self._guard.page_token(request)
        return html(question(self._daemon.status(), token)) if token else self._guard.way_in()

    async def logout(self, request: web.Request) -> web.Response:
        return await self._done(self._daemon.logout(), "logged-out", "Not logged out")

    async def purge(self, request: web.Request) -> web.Response:
        """Does what the person chose there."""
        match (await form_of(request)).get("what"):
            case "stale":
                request[TARGET] = "all, soft"
                return await self._done(self._daemon.purge({"all": True, "soft": True}), "softened", "Not done")
            case "all":
                request[TARGET] = "all"
                return await self._done(self._daemon.purge({"all": True}), "purged", "Not emptied")
            case _:
                request[OUTCOME] = ""
                return await self.ask_purge(request)

    async def _done(self, work: Awaitable[object], word: str, failed: str) -> web.Response:
        try:
            await work
        except PassoproxyError as fault:
            login = "Authorise" if isinstance(fault, PersonNeeded) else ""
            return html(page.message_page(failed, str(fault), good=False, login=login), 502)
        return web.Response(status=303, headers={"Location": f"/?done={word}"})

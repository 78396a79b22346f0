"""The applications of the admin listener, of `control.sock` and of the probes' listener: which path there is, and who may ask it.

They are handed back ready to be served; sockets and runners are the daemon's business (see `admin_runner` for the limits on the wire).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from passoproxy.ports import Observer, nobody
from passoproxy.server.admin_api import Api, answer, form_of
from passoproxy.server.admin_guard import PAGE_FIELD, AdminAccess, Guard
from passoproxy.server.admin_problems import NotFound, SessionRequired, TokenRequired, problems
from passoproxy.server.cache_api import CacheApi
from passoproxy.server.callback import CALLBACK_PATH, Callback
from passoproxy.server.follow_stream import FollowStream
from passoproxy.server.markup import ASSETS, asset
from passoproxy.server.page_sessions import SESSION_PATH, PageSessions
from passoproxy.server.site import Site
from passoproxy.server.steering import Steering

Exposition = Callable[[str], Awaitable[tuple[bytes, str]]]
"""From an Accept field to the metrics' text and its Content-Type."""

MAX_BODY_BYTES: Final = 1024 * 1024
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
    daemon: Steering,
    access: AdminAccess,
    sessions: PageSessions,
    metrics: Exposition,
    observer: Observer = nobody,
    wall: Callable[[], float] = time.time,
) -> web.Application:
    """The admin listener (contract §8)."""
    guard = Guard(access, sessions, wall)
    app = _application(observer, _checking_host(guard))
    api, cache, callback, site = Api(daemon), CacheApi(daemon), Callback(daemon, guard), Site(daemon, guard, wall)
    _add_probes(app, daemon)
    app.router.add_get("/metrics", _guarded(guard.check_token, _metrics(metrics)))
    app.router.add_get("/", site.status)
    app.router.add_get("/assets/{name}", _asset)
    for path, read in (("/api/status", api.status), ("/api/cache/entries", cache.entries)):
        app.router.add_get(path, _guarded(guard.check_token, read))
    for path, change in _changes(api, cache):
        app.router.add_post(path, _guarded(_by_field(guard), change))
    app.router.add_get("/oauth/start", callback.start, allow_head=False)
    app.router.add_get(CALLBACK_PATH, callback.callback, allow_head=False)
    app.router.add_get(SESSION_PATH, site.begin_session, allow_head=False)
    app.router.add_get("/page/purge", site.ask_purge)
    app.router.add_post("/page/token", site.take_token)
    for path, handle in (
        ("/oauth/paste", callback.paste),
        ("/page/refresh", site.refresh),
        ("/page/purge", site.purge),
    ):
        app.router.add_post(path, _guarded_form(guard, handle))
    return app


def control_application(
    daemon: Steering, sessions: PageSessions, metrics: Exposition, observer: Observer = nobody
) -> web.Application:
    """What commands ask over `control.sock`: nothing is checked here, because the kernel has said who connects."""
    app, api, cache, stream = _application(observer), Api(daemon), CacheApi(daemon), FollowStream(daemon)

    async def link(request: web.Request) -> web.Response:
        return answer(asdict(sessions.link()))

    app.on_shutdown.append(stream.end)
    _add_probes(app, daemon)
    app.router.add_get("/api/token/follow", stream.handle, allow_head=False)
    for path, read in (
        ("/metrics", _metrics(metrics)),
        ("/api/status", api.status),
        ("/api/cache/entries", cache.entries),
        ("/api/daemon", api.daemon),
        ("/api/cache/stats", api.cache_stats),
        ("/api/token/export", api.export_pair),
        ("/api/login/{state}", api.await_login),
    ):
        app.router.add_get(path, read)
    for path, change in (
        *_changes(api, cache),
        ("/api/token/refused", api.refused),
        ("/api/token/orders/{what}", api.obey),
        ("/api/cache/show", api.show),
        ("/api/login/start", api.begin_login),
        ("/api/login/complete", api.complete_login),
        ("/api/logout", api.logout),
        ("/api/page", link),
        ("/api/reload", api.reload),
        ("/api/alert/test", api.test_alerts),
    ):
        app.router.add_post(path, change)
    return app


def probe_application(daemon: Steering, metrics: Exposition, observer: Observer = nobody) -> web.Application:
    """`admin.probe_listen`: /healthz, /readyz and /metrics, without Host check or token."""
    app = _application(observer)
    _add_probes(app, daemon)
    app.router.add_get("/metrics", _metrics(metrics))
    return app


def _changes(api: Api, cache: CacheApi) -> tuple[tuple[str, Handler], ...]:
    return (
        ("/api/token/refresh", api.refresh),
        ("/api/token/import", api.import_pair),
        ("/api/cache/purge", api.purge),
        ("/api/cache/warm", cache.warm),
        ("/api/explain", cache.explain),
    )


def _application(observer: Observer, *further: Middleware) -> web.Application:
    app = web.Application(middlewares=[problems(observer), *further], client_max_size=MAX_BODY_BYTES)
    app.on_response_prepare.append(_secured)
    return app


async def _secured(request: web.Request, answer: web.StreamResponse) -> None:
    answer.headers.update(_FIELDS)


# ---- guards ----------------------------------------------------------------------------------------------------------


def _checking_host(guard: Guard) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in _NO_HOST_NEEDED:
            guard.check_host(request)
        return await handler(request)

    return check


def _by_field(guard: Guard) -> Callable[[web.Request], None]:
    def check(request: web.Request) -> None:
        guard.check_change(request, request.headers.get(PAGE_FIELD, ""))

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
            return guard.way_in()  # a person looks at it, whose session has ended
        return await handler(request)

    return guarded


# ---- probes, metrics, assets -----------------------------------------------------------------------------------------


def _add_probes(app: web.Application, daemon: Steering) -> None:
    async def alive(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(request: web.Request) -> web.Response:
        is_ready, word, reason = daemon.readiness(request.query.get("strict", "0") not in ("", "0", "false"))
        said = (f"{word}: {reason}" if reason else word, daemon.outlook())
        answer = web.Response(text="".join(f"{line}\n" for line in said if line), status=200 if is_ready else 503)
        if not is_ready:
            answer.headers["Retry-After"] = "5"
        return answer

    app.router.add_get("/healthz", alive)
    app.router.add_get("/readyz", ready)


def _metrics(metrics: Exposition) -> Handler:
    async def expose(request: web.Request) -> web.Response:
        text, content_type = await metrics(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    return expose


async def _asset(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name not in ASSETS:
        raise NotFound("there is no such asset")
    return web.Response(body=asset(name), content_type=ASSETS[name], charset="utf-8")

"""Authorisation in the browser (contract §8): `/oauth/start`, `/oauth/callback`, and the field for a redirected URL.

The exchange itself is in `tokens.login`, behind the daemon's handle; here is what guards it against other sites. `lone_listener` takes one
login's redirect for a command that logs in without a daemon: it serves nothing but the path of `oauth.redirect_url`.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from passoproxy.control import Control
from passoproxy.core.access import is_loopback
from passoproxy.core.http.request_line import parse_authority
from passoproxy.core.oauth.settings import CALLBACK_PATH
from passoproxy.errors import CommandFailure, PassoproxyError
from passoproxy.server.admin import page
from passoproxy.server.admin.api import form_of, query_of
from passoproxy.server.admin.audit import OUTCOME, WHO
from passoproxy.server.admin.auth import Guard, html
from passoproxy.server.listeners import open_tcp
from passoproxy.tokens.login import LoginTicket

_COOKIE_SECONDS = 600
_PORTS = {"http": 80, "https": 443}


class Callback:
    """Handlers over a daemon's handle. `chance` makes the cookies' values."""

    def __init__(
        self, daemon: Control, guard: Guard, chance: Callable[[], str] = lambda: secrets.token_urlsafe(32)
    ) -> None:
        self._daemon, self._guard, self._chance = daemon, guard, chance

    async def start(self, request: web.Request) -> web.Response:
        """Sends the browser to the provider; asks first if another site sent it here."""
        elsewhere = "elsewhere" in request.query
        if not self._guard.is_ticket(request.query.get("hop", "")):
            then = "/oauth/start?elsewhere=1" if elsewhere else "/oauth/start"
            if self._guard.came_from_elsewhere(request):
                request[OUTCOME] = ""  # nothing yet: a person is asked
                return html(page.confirmation_page(then))
            if not self._guard.may_change(request):
                return self._guard.way_in(then)
        here = self._leads_here(request)
        if here and not elsewhere and not self._is_at_redirect(request):
            target = urlsplit(self._guard.access.redirect_url)
            raise web.HTTPSeeOther(f"{target.scheme}://{target.netloc}/oauth/start?hop={self._guard.ticket()}")
        return await self._begin(request, show=elsewhere or not here)

    async def _begin(self, request: web.Request, *, show: bool) -> web.Response:
        cookie = self._chance()
        try:
            ticket = await self._daemon.begin_login(cookie)
        except PassoproxyError as fault:
            return self._failed(fault)
        if show:
            answer = html(page.elsewhere_page(ticket.url, self._guard.page_token(request)))
        else:
            answer = web.Response(status=303, headers={"Location": ticket.url})
        self._bind(request, answer, ticket, cookie)
        return answer

    async def callback(self, request: web.Request) -> web.Response:
        """Takes the provider's redirect. Guarded by `state` alone, and by the cookie if `start` set one."""
        return await self._complete(request, request.rel_url.raw_query_string)

    async def paste(self, request: web.Request) -> web.Response:
        """Takes the redirected URL from the page's field; that the page sent it was checked before."""
        form = await form_of(request)
        try:
            query = query_of(form.get("url", ""))
        except PassoproxyError as fault:
            return self._failed(fault)
        return await self._complete(request, query)

    async def _complete(self, request: web.Request, query: str) -> web.Response:
        cookie = _cookie_name(_state_in(query))
        try:
            await self._daemon.complete_login(query, request.cookies.get(cookie))
        except PassoproxyError as fault:
            answer = self._failed(fault)
        else:
            request[WHO] = "the browser of a login"
            answer = html(
                page.message_page(
                    "Authorised",
                    "passoproxy has its pair and renews it by itself. You can close this window.",
                    good=True,
                )
            )
        if cookie in request.cookies:
            answer.del_cookie(cookie, path="/oauth")
        return answer

    def _failed(self, fault: PassoproxyError) -> web.Response:
        return html(page.message_page("Not authorised", str(fault), good=False), fault.status)

    def _bind(self, request: web.Request, answer: web.Response, ticket: LoginTicket, cookie: str) -> None:
        # Lax and not Strict: the provider's redirect is a navigation from another site, and the cookie has to come with it.
        answer.set_cookie(
            _cookie_name(ticket.state),
            cookie,
            max_age=_COOKIE_SECONDS,
            httponly=True,
            samesite="Lax",
            path="/oauth",
            secure=self._guard.is_secure(request),
        )

    # ---- where the redirect will arrive ------------------------------------------------------------------------------

    def _leads_here(self, request: web.Request) -> bool:
        """Whether `oauth.redirect_url` is this listener: its path, a host it answers to, and the port by which it was reached."""
        target = urlsplit(self._guard.access.redirect_url)
        if target.path != CALLBACK_PATH:
            return False
        if target.netloc == urlsplit(self._guard.access.public_url).netloc:
            return True
        wanted, reached = parse_authority(target.netloc), parse_authority(request.headers.get("Host", ""))
        if wanted is None or reached is None:
            return False
        allowed = {listed.host for entry in self._guard.access.allowed_hosts if (listed := parse_authority(entry))}
        return wanted.host in allowed and (wanted.port or _PORTS.get(target.scheme)) == (
            reached.port or _PORTS.get(request.scheme)
        )

    def _is_at_redirect(self, request: web.Request) -> bool:
        return urlsplit(self._guard.access.redirect_url).netloc.lower() == request.headers.get("Host", "").lower()


def _state_in(query: str) -> str:
    return parse_qs(query, max_num_fields=64, errors="replace").get("state", [""])[0] if query.count("&") < 64 else ""


def _cookie_name(state: str) -> str:
    # One for each login, so that two windows do not disturb each other and an old cookie none.
    return f"passoproxy_login_{hashlib.sha256(state.encode()).hexdigest()[:16]}"


_FIELDS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}


@contextlib.asynccontextmanager
async def lone_listener(complete_login: Callable[[str], Awaitable[object]], redirect_url: str) -> AsyncIterator[None]:
    """Gives the redirect's query to `complete_login` while the context lasts.

    Raises CommandFailure if the address is not of this machine, ServiceUnreachable if it is taken.
    """
    parts = urlsplit(redirect_url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80)
    if parts.scheme != "http" or not is_loopback(host):
        raise CommandFailure(
            f"oauth.redirect_url ({redirect_url}) does not lead to this machine's loopback address; use 'passoproxy login --paste'"
        )
    try:
        listener = open_tcp(host, port)
    except PassoproxyError as error:
        raise type(error)(
            f"{str(error).partition(';')[0]}; end what listens there, or use 'passoproxy login --paste'"
        ) from error

    async def take(request: web.Request) -> web.Response:
        try:
            await complete_login(request.rel_url.raw_query_string)
        except PassoproxyError as fault:
            return web.Response(text=f"Not authorised: {fault}\n", status=fault.status, headers=_FIELDS)
        return web.Response(text="Authorised: passoproxy has its pair. You can close this window.\n", headers=_FIELDS)

    app = web.Application()
    app.router.add_get(parts.path or "/", take, allow_head=False)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()

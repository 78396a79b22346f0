"""The status page's handlers: showing it, letting a browser in, and its buttons. Guards on the buttons stand in `admin`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from passoproxy.errors import PassoproxyError, PersonNeeded
from passoproxy.server import small_pages
from passoproxy.server.admin_api import form_of
from passoproxy.server.admin_guard import Guard
from passoproxy.server.admin_problems import CrossSite
from passoproxy.server.markup import html
from passoproxy.server.page import status_page
from passoproxy.server.steering import Steering

_NOTICES = {
    "refreshed": "The pair was refreshed.",
    "softened": "All that is stored is stale now.",
    "purged": "The cache was emptied.",
}

_LOGINS = ("/oauth/start", "/oauth/start?elsewhere=1")
"""Where somebody may have been going who was asked for the admin token, apart from the status page."""


class Site:
    """The status page and its forms."""

    def __init__(self, daemon: Steering, guard: Guard, wall: Callable[[], float]) -> None:
        self._daemon, self._guard, self._wall = daemon, guard, wall

    async def status(self, request: web.Request) -> web.Response:
        if not self._guard.is_open_to(request):
            return html(small_pages.token_page("/"))
        notice = _NOTICES.get(request.query.get("done", ""), "")
        token = self._guard.page_token(request)
        way_in = "" if token else self._guard.sessions.command()
        return html(status_page(self._daemon.status(), token, self._wall(), notice, way_in))

    async def begin_session(self, request: web.Request) -> web.Response:
        """Lets the browser in that opens a link of `passoproxy page`."""
        if "prefetch" in request.headers.get("Sec-Purpose", ""):
            return web.Response(status=503)  # a browser that only looks ahead would use the link up
        # The page is led to by a navigation of its own: after a redirect from another site a browser would keep the new cookie back.
        answer = html(small_pages.going_on_page("Status page", "This browser may change things here now.", "/"))
        answer.headers["Refresh"] = "0; url=/"
        if not self._guard.begin_session(request, answer):
            return self._guard.way_in(spent=True)
        return answer

    async def take_token(self, request: web.Request) -> web.Response:
        """Takes the admin token from the page's form. The token itself vouches for who sends it; a browser has to come from here."""
        self._guard.check_same_site(request)
        if not self._guard.is_same_origin(request):
            raise CrossSite("the admin token is entered on the status page; elsewhere send it as Authorization: Bearer")
        form = await form_of(request)
        then = form.get("then", "") if form.get("then") in _LOGINS else "/"
        if not self._guard.is_token(form.get("token", "")):
            return html(small_pages.token_page(then, wrong=True), 401)
        if then == "/":
            answer = web.Response(status=303, headers={"Location": then})
        else:
            # A browser would judge the redirects of a form's answer by our form-action, and block the one to the provider.
            answer = html(small_pages.going_on_page("Admin token", "That is the token.", then))
            answer.headers["Refresh"] = f"0; url={then}"
        self._guard.remember(request, answer)
        return answer

    async def refresh(self, request: web.Request) -> web.Response:
        return await self._done(self._daemon.refresh(), "refreshed", "Not refreshed")

    async def ask_purge(self, request: web.Request) -> web.Response:
        """Asks what is meant, and says what it means now."""
        token = self._guard.page_token(request)
        if not token:
            return self._guard.way_in()
        return html(small_pages.purge_page(self._daemon.status(), token))

    async def purge(self, request: web.Request) -> web.Response:
        """Does what the person chose there."""
        match (await form_of(request)).get("what"):
            case "stale":
                return await self._done(self._daemon.purge({"all": True, "soft": True}), "softened", "Not done")
            case "all":
                return await self._done(self._daemon.purge({"all": True}), "purged", "Not emptied")
            case _:
                return await self.ask_purge(request)

    async def _done(self, work: Awaitable[object], word: str, failed: str) -> web.Response:
        try:
            await work
        except PassoproxyError as fault:
            login = "Authorise" if isinstance(fault, PersonNeeded) else ""
            return html(small_pages.message_page(failed, str(fault), good=False, login=login), 502)
        return web.Response(status=303, headers={"Location": f"/?done={word}"})

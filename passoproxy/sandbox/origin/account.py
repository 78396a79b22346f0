"""Health, version, the account's plan, and links that log somebody in once."""

import secrets
from collections import OrderedDict
from collections.abc import Callable
from html import escape
from urllib.parse import quote

from aiohttp import web

from passoproxy.sandbox.look import page
from passoproxy.sandbox.options import FEATURES, SandboxOptions
from passoproxy.sandbox.origin.answering import Answers
from passoproxy.sandbox.origin.asking import Invalid
from passoproxy.sandbox.origin.guard import TOKEN, Guard
from passoproxy.sandbox.origin.reading import read

LINK_SECONDS = 30.0


class Account:
    """The endpoints about the account and the service itself."""

    def __init__(self, options: SandboxOptions, answers: Answers, clock: Callable[[], float]) -> None:
        self._features, self._answers, self._clock = options.features, answers, clock
        self._links: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def routes(self, guard: Guard) -> list[web.RouteDef]:
        return [
            web.get("/api/v2/health", guard(self.health, free=True)),
            web.get("/api/v2/version", guard(self.version, free=True)),
            web.get("/api/v2/account/subscription", guard(self.subscription)),
            web.get("/api/v2/auth/login/generate_link", guard(self.login_link)),
            web.get("/auth/login/{token}", self.log_in, allow_head=False),
        ]

    async def health(self, request: web.Request) -> web.Response:
        return self._answers.json(request, {"error": False, "status": "healthy"})

    async def version(self, request: web.Request) -> web.Response:
        return self._answers.json(request, {"error": False, "version": "V2.9", "commit_hash": "5a9db0c1"})

    async def subscription(self, request: web.Request) -> web.Response:
        """The plan: premium where it holds every feature."""
        kind = "premium" if set(self._features) >= set(FEATURES) else "standard"
        return self._answers.bare(request, {"type": kind, "features": list(self._features)})

    async def login_link(self, request: web.Request) -> web.Response:
        """A link that is good once, for `LINK_SECONDS`."""
        asked = await read(request)
        user = asked.text("username") or request[TOKEN].chain.subject
        target = asked.text("page") or "/"
        if not target.startswith("/"):
            raise Invalid({"page": "The page field must start with a slash."})
        token = secrets.token_hex(24)
        while len(self._links) >= 1000:
            self._links.popitem(last=False)
        self._links[token] = user, self._clock() + LINK_SECONDS
        place = (
            f"{request.scheme}://{request.host}/auth/login/{token}?user={quote(user, safe='@')}&page={quote(target)}"
        )
        return self._answers.json(request, {"username": user, "link": {"url": place, "token": token}})

    async def log_in(self, request: web.Request) -> web.StreamResponse:
        """What the link opens in a browser."""
        user, ends_at = self._links.pop(request.match_info["token"], ("", 0.0))
        if ends_at <= self._clock():
            text, status = "<p>This link was used already, or its 30 seconds are over.</p>", 410
        else:
            text, status = f"<p>You are logged in as <strong>{escape(user)}</strong>.</p>", 200
        body = f'<div class="card"><h1>Sandbox login</h1>{text}</div>'
        headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
        document = page("Sandbox login", body, narrow=True)
        return web.Response(status=status, text=document, content_type="text/html", headers=headers)

"""Who may ask the admin listener for what (contract §8): Host, the admin token, page sessions, and the rule for calls that change something.

It checks and makes tokens; which path needs what is in `app`. A page session (`sessions`) lets a browser change things without the admin token.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

from aiohttp import web

from passoproxy.core.access import Admission, AdmissionPolicy
from passoproxy.core.http.messages import RequestHead
from passoproxy.core.http.request_line import parse_authority
from passoproxy.errors import BadRequest, HostNotAllowed
from passoproxy.peer_credentials import tcp_owner
from passoproxy.server.admin import page
from passoproxy.server.admin.audit import socket_user
from passoproxy.server.admin.errors import CrossSite, SessionRequired, TokenRequired
from passoproxy.server.admin.html import Html
from passoproxy.server.admin.sessions import SESSION_SECONDS, PageSessions
from passoproxy.values import dataclass

PAGE_FIELD = "X-Passoproxy-Page"
"""The request field in which the status page's scripts bring the page token; forms bring it as `page_token`."""
_FROM_HERE = frozenset(("same-origin", "none"))
_TICKET_SECONDS = 600.0
_COOKIE_SECONDS = 30 * 86_400


# ---- the guard -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AdminAccess:
    """What the configuration says. `token` reads `admin.token_file` anew, or gives None if there is none.

    `token_name` tells whose token that is, for audit lines. `page_secret` makes page tokens and tickets, and is new at every start.
    """

    page_secret: bytes
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    token: Callable[[], str | None] = lambda: None
    token_name: str = ""
    public_url: str = ""
    redirect_url: str = ""


class Guard:
    """Judges requests by an AdminAccess and the page sessions. `wall` gives epoch seconds."""

    def __init__(self, access: AdminAccess, sessions: PageSessions, wall: Callable[[], float] = time.time) -> None:
        self.access, self.sessions = access, sessions
        self._wall = wall
        self._admission = Admission(AdmissionPolicy(allowed_hosts=access.allowed_hosts))

    # ---- Host --------------------------------------------------------------------------------------------------------

    def check_host(self, request: web.Request) -> None:
        """Raises BadRequest or HostNotAllowed, with the line of YAML that would allow it."""
        self._authority(request)

    def _authority(self, request: web.Request) -> str:
        named = request.headers.getall("Host", [])
        if len(named) > 1:
            raise BadRequest("one Host field is expected")
        version = (request.version.major, request.version.minor)
        authority = named[0] if named else ""
        try:
            return self._admission.authority(
                RequestHead(request.method, "/", request.headers, authority, request.scheme, version)
            )
        except HostNotAllowed as refused:
            raise HostNotAllowed(refused.detail.replace("server:", "admin:", 1)) from None

    # ---- the admin token ---------------------------------------------------------------------------------------------

    def is_open_to(self, request: web.Request) -> bool:
        """Whether `request` may read: it brings the admin token or a cookie of the page, or no token is asked for."""
        token = self.access.token()
        return token is None or _brings_bearer(request, token) or bool(self._voucher(request))

    def check_token(self, request: web.Request) -> None:
        """Raises TokenRequired."""
        if not self.is_open_to(request):
            raise TokenRequired

    def is_token(self, given: str) -> bool:
        """Whether `given` is the admin token, as the page's form sends it."""
        token = self.access.token()
        return token is not None and _same(given.strip(), token)

    def remember(self, request: web.Request, answer: web.StreamResponse) -> None:
        """Sets the page's cookie. It holds a digest of the admin token, so that it survives restarts, ends when the token is changed,
        and is of no use as a bearer to other listeners of the same host, which browsers send it to as well."""
        self._set_cookie(request, answer, "admin", _cookie(self.access.token() or ""), _COOKIE_SECONDS)

    def _set_cookie(
        self, request: web.Request, answer: web.StreamResponse, kind: str, value: str, seconds: float
    ) -> None:
        answer.set_cookie(
            _cookie_name(request, kind),
            value,
            max_age=int(seconds),
            httponly=True,
            samesite="Strict",
            secure=self.is_secure(request),
        )

    def is_secure(self, request: web.Request) -> bool:
        """Whether the browser came by https."""
        return request.scheme == "https" or self.access.public_url.startswith("https:")

    # ---- page sessions -----------------------------------------------------------------------------------------------

    def begin_session(self, request: web.Request, answer: web.StreamResponse) -> bool:
        """Sets the cookie of a new page session for the browser that opens a link; whether the link was good."""
        cookie = self.sessions.begin(request.query.get("link", ""), _user(request))
        if cookie is not None:
            self._set_cookie(request, answer, "page", cookie, SESSION_SECONDS)
        return cookie is not None

    def way_in(self, then: str = "/", *, spent: bool = False) -> web.Response:
        """The page for a browser that may change nothing: it asks for the admin token, and goes on to `then`, or says how to get a session.

        `spent`: it opened a link that is good no more.
        """
        if self.access.token() is not None and not spent:
            return html(page.token_page(then), 401)
        return html(page.session_page(self.sessions.command(), spent=spent), 403)

    def page_token(self, request: web.Request) -> str:
        """What the page's forms have to bring, another one for each session; '' for a browser that may change nothing."""
        voucher = self._voucher(request)
        return self._sealed(f"page {voucher}") if voucher else ""

    def _voucher(self, request: web.Request) -> str:
        """The cookie by which a browser may change things: its page session's, or the admin token's; '' if it has none."""
        session = request.cookies.get(_cookie_name(request, "page"), "")
        if self.sessions.of(session) is not None:
            return session
        token, kept = self.access.token(), request.cookies.get(_cookie_name(request, "admin"), "")
        return kept if token is not None and _same(kept, _cookie(token)) else ""

    def _is_vouched_for(self, request: web.Request) -> bool:
        """Whether a browser has a cookie, and a session's is in the hands of the user whose browser began it: browsers send a host's cookies
        to every port of it, also to one on which another user listens."""
        voucher = self._voucher(request)
        session = self.sessions.of(voucher)
        return bool(voucher) and (session is None or session.user is None or session.user == _user(request))

    def who(self, request: web.Request) -> str:
        """The sender of a request, for the audit line: what gives it the right to change something."""
        token, voucher = self.access.token(), self._voucher(request)
        if token is not None and _brings_bearer(request, token):
            return self.token_name
        session = self.sessions.of(voucher)
        if session is not None:
            return "page session" if session.user is None else f"page session of uid {session.user}"
        if voucher:
            return f"page session by {self.token_name}"
        return socket_user(request) or "no credentials"

    @property
    def token_name(self) -> str:
        """The admin token for the audit line."""
        return f"admin token {self.access.token_name}".rstrip()

    # ---- changes -----------------------------------------------------------------------------------------------------

    def may_change(self, request: web.Request) -> bool:
        """Whether `request` brings what a change needs, wherever it comes from: the admin token, or a cookie of the page."""
        token = self.access.token()
        return (token is not None and _brings_bearer(request, token)) or self._is_vouched_for(request)

    def check_change(self, request: web.Request, page_token: str) -> None:
        """Lets a change pass that brings the admin token, or comes from the status page of the same origin, in a browser with a cookie of it.

        Raises CrossSite, TokenRequired, SessionRequired.
        """
        self.check_same_site(request)
        token = self.access.token()
        if token is not None and _brings_bearer(request, token):
            return
        if not self._is_vouched_for(request):
            raise SessionRequired(self.sessions.command()) if token is None else TokenRequired
        if not (self.is_same_origin(request) and _same(page_token, self.page_token(request))):
            raise CrossSite(
                "a change needs the admin token (admin.token_file) or has to come from the status page; commands use control.sock"
            )

    def check_same_site(self, request: web.Request) -> None:
        """Raises CrossSite for what a page of another origin asks."""
        sites = request.headers.getall("Sec-Fetch-Site", [])
        origins = request.headers.getall("Origin", [])
        if not (_FROM_HERE.issuperset(sites) and all(self._is_own(origin, request) for origin in origins)):
            raise CrossSite("a page of another origin asked; only the status page and holders of the admin token may")

    def is_same_origin(self, request: web.Request) -> bool:
        """Whether the browser itself says that a page of ours asks."""
        sites = request.headers.getall("Sec-Fetch-Site", [])
        origins = request.headers.getall("Origin", [])
        return sites == ["same-origin"] or (len(origins) == 1 and self._is_own(origins[0], request))

    def came_from_elsewhere(self, request: web.Request) -> bool:
        """Whether a navigation was begun by another site. Browsers say so on loopback and https; elsewhere the Referer is all there is."""
        sites = request.headers.getall("Sec-Fetch-Site", [])
        if sites:
            return not _FROM_HERE.issuperset(sites)
        referer = request.headers.get("Referer", "")
        return bool(referer) and not self._is_own("/".join(referer.split("/", 3)[:3]), request)

    def _is_own(self, origin: str, request: web.Request) -> bool:
        scheme, separator, authority = origin.lower().partition("://")
        # Behind a TLS terminator the page's scheme is not the connection's, so both count.
        return bool(separator) and scheme in ("http", "https") and authority == request.headers.get("Host", "").lower()

    # ---- tickets -----------------------------------------------------------------------------------------------------

    def ticket(self) -> str:
        """A word that vouches, for ten minutes, that this listener sent the browser on: to another name of its own, where no cookie is known."""
        until = str(int(self._wall() + _TICKET_SECONDS))
        return f"{until}.{self._sealed(f'ticket {until}')}"

    def is_ticket(self, given: str) -> bool:
        """Whether `given` is a ticket that is still good."""
        until, _, seal = given.partition(".")
        return _same(seal, self._sealed(f"ticket {until}")) and until.isdecimal() and int(until) >= self._wall()

    def _sealed(self, text: str) -> str:
        return hmac.new(self.access.page_secret, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def html(text: Html, status: int = 200) -> web.Response:
    """A page as an answer."""
    return web.Response(text=text, status=status, content_type="text/html", charset="utf-8")


def _user(request: web.Request) -> int | None:
    """The user of this machine who asks, None if that is not known."""
    if request.transport is None:
        return None
    return tcp_owner(request.transport.get_extra_info("peername"), request.transport.get_extra_info("sockname"))


def _cookie_name(request: web.Request, kind: str) -> str:
    """A name of its own for each port: cookies know no ports, and two daemons may live on one host."""
    authority = parse_authority(request.headers.get("Host", ""))
    return f"passoproxy_{kind}_{(authority and authority.port) or 0}"


def _brings_bearer(request: web.Request, token: str) -> bool:
    given = request.headers.getall("Authorization", [])
    scheme, _, value = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    return scheme.lower() == "bearer" and _same(value.strip(), token)


def _cookie(token: str) -> str:
    return hmac.new(token.encode(), b"passoproxy status page", hashlib.sha256).hexdigest()


def _same(given: str, expected: str) -> bool:
    # Compared as digests: in constant time, and whatever bytes a client sent.
    digests = (hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest() for text in (given, expected))
    return bool(expected) and hmac.compare_digest(*digests)

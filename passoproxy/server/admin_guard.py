"""Who may ask the admin listener for what (contract §8): Host, the admin token, and the rule for calls that change something.

It judges and makes tokens; which call needs which is said where the paths are, in `admin`.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from passoproxy.core.admission import Admission, AdmissionPolicy
from passoproxy.core.http.messages import RequestHead
from passoproxy.core.http.targets import parse_authority
from passoproxy.errors import BadRequest, HostNotAllowed
from passoproxy.server.admin_problems import CrossSite, TokenRequired

PAGE_FIELD = "X-Passoproxy-Page"
"""The request field in which the status page's scripts bring the page token; forms bring it as `page_token`."""
_FROM_HERE = frozenset(("same-origin", "none"))
_TICKET_SECONDS = 600.0
_COOKIE_SECONDS = 30 * 86_400


@dataclass(frozen=True, slots=True)
class AdminAccess:
    """What the configuration says. `token` reads `admin.token_file` anew, or gives None where there is none.

    `page_secret` makes page tokens: equal in all processes that share the listener, new at every start.
    """

    page_secret: bytes
    allowed_hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
    token: Callable[[], str | None] = lambda: None
    public_url: str = ""
    redirect_url: str = ""


class Guard:
    """Judges requests by an AdminAccess. `wall` gives epoch seconds."""

    def __init__(self, access: AdminAccess, wall: Callable[[], float] = time.time) -> None:
        self.access = access
        self._wall = wall
        self._admission = Admission(AdmissionPolicy(allowed_hosts=access.allowed_hosts))
        self.page_token = self._sealed("page")

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
        """Whether `request` brings the admin token or the page's cookie, or none is asked for."""
        token = self.access.token()
        if token is None:
            return True
        return _brings_bearer(request, token) or _same(
            request.cookies.get(self.cookie_name(request), ""), _cookie(token)
        )

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
        answer.set_cookie(
            self.cookie_name(request),
            _cookie(self.access.token() or ""),
            max_age=_COOKIE_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=self.is_secure(request),
        )

    def cookie_name(self, request: web.Request) -> str:
        """A name of its own for each port: cookies know no ports, and two daemons may live on one host."""
        authority = parse_authority(request.headers.get("Host", ""))
        return f"passoproxy_admin_{(authority and authority.port) or 0}"

    def is_secure(self, request: web.Request) -> bool:
        """Whether the browser came by https."""
        return request.scheme == "https" or self.access.public_url.startswith("https:")

    # ---- changes -----------------------------------------------------------------------------------------------------

    def check_change(self, request: web.Request, page_token: str) -> None:
        """Lets a change pass that brings the admin token, or comes from the status page of the same origin. Raises CrossSite, TokenRequired."""
        self.check_same_site(request)
        token = self.access.token()
        if token is not None and _brings_bearer(request, token):
            return
        if token is not None:
            self.check_token(request)
        if not (self.is_same_origin(request) and _same(page_token, self.page_token)):
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

    def ticket(self, purpose: str) -> str:
        """A word that vouches, for ten minutes, that this listener sent the browser on for `purpose`."""
        until = str(int(self._wall() + _TICKET_SECONDS))
        return f"{until}.{self._sealed(purpose + until)}"

    def is_ticket(self, purpose: str, given: str) -> bool:
        """Whether `given` is a ticket for `purpose` that is still good."""
        until, _, seal = given.partition(".")
        return _same(seal, self._sealed(purpose + until)) and until.isdecimal() and int(until) >= self._wall()

    def _sealed(self, text: str) -> str:
        return hmac.new(self.access.page_secret, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


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

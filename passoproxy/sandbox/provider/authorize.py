"""The authorization endpoint (RFC 6749 §4.1.1): checks what is asked, shows the approval page, and sends the person back."""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape
from ipaddress import ip_address
from urllib.parse import urlencode, urlsplit

from aiohttp import web
from multidict import MultiMapping

from passoproxy.sandbox import html
from passoproxy.sandbox.data.catalogue import read
from passoproxy.sandbox.journal import entry_of
from passoproxy.sandbox.options import SandboxOptions
from passoproxy.sandbox.provider.grants import Approval, Grants

_TEXTS: dict[str, dict[str, str]] = read("approval.json")


def allowed(address: str, registered: tuple[str, ...]) -> bool:
    """Whether the address may be redirected to: a registered one, or without any registration one on the loopback.

    A registered loopback address matches with any port, as RFC 8252 §7.3 asks.
    """
    try:
        asked = urlsplit(address)
        _ = asked.port
    except ValueError:
        return False
    if asked.scheme not in ("http", "https") or not asked.hostname or "#" in address or asked.username is not None:
        return False
    if not registered:
        return asked.scheme == "http" and is_loopback(asked.hostname)
    here = asked.scheme, asked.hostname, asked.path, asked.query
    for known in registered:
        there = urlsplit(known)
        same = here == (there.scheme, there.hostname, there.path, there.query)
        if address == known or (same and is_loopback(asked.hostname)):
            return True
    return False


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def extended(address: str, parameters: dict[str, str | None]) -> str:
    """The address with parameters added to its query; those that are None are left out."""
    added = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{address}{'&' if '?' in address else '?'}{added}"


TRANSACTION_SECONDS = 600.0
MAX_OPEN_PAGES = 1000
ACCOUNTS = ("agent@sandbox.example", "office@sandbox.example", "partner@sandbox.example")
"""Whom one can log in as; the first is the default. Each is another subject of tokens."""

_ASKED = ("client_id", "redirect_uri", "response_type", "scope", "state", "code_challenge", "code_challenge_method")
_CHALLENGE = re.compile(r"[A-Za-z0-9\-._~]{43,128}")
_SCOPE = re.compile(r"(\*|[A-Za-z][A-Za-z0-9._:\-]*)?( (\*|[A-Za-z][A-Za-z0-9._:\-]*))*")


@dataclass(frozen=True, slots=True)
class _Transaction:
    """One opened page, until its form comes back or its time is up."""

    approval: Approval
    state: str | None
    ends_at: float


@dataclass(slots=True)
class _NotToBeRedirected(Exception):
    """The client or its redirect address is wrong: the person sees a page (RFC 6749 §4.1.2.1)."""

    reason: str


@dataclass(slots=True)
class _Redirected(Exception):
    """The client asked wrongly and is told so at its redirect address."""

    address: str


class AuthorizationEndpoint:
    """Shows the approval page and takes its form."""

    def __init__(self, options: SandboxOptions, grants: Grants, clock: Callable[[], float]) -> None:
        self._options, self._grants, self._clock = options, grants, clock
        self._open: OrderedDict[str, _Transaction] = OrderedDict()

    async def show(self, request: web.Request) -> web.StreamResponse:
        """GET: the page, or the refusal."""
        try:
            transaction = self._check(request.query)
        except _NotToBeRedirected as refused:
            return _refused(request, refused.reason)
        except _Redirected as refused:
            entry_of(request).outcome = "refused: redirect"
            return _redirect(refused.address)
        name = secrets.token_urlsafe(24)
        while len(self._open) >= MAX_OPEN_PAGES:
            self._open.popitem(last=False)
        self._open[name] = transaction
        return _html(self._page(request, name, transaction))

    def _page(self, request: web.Request, name: str, transaction: _Transaction) -> str:
        """The page that asks; its form posts `decision` (approve or deny), `account` and the hidden fields back to its own path."""
        language = "de" if request.path.startswith("/de/") else "en"
        said, scope, client = _TEXTS[language], transaction.approval.scope, self._options.client_id
        wide = "*" in scope.split()
        abilities = [said["all"] if wide else said["read"], said["renew"]]
        if not wide:
            abilities[1:1] = [said["scope"].format(scope=word) for word in scope.split()]
        hidden = {"transaction": name, "client_id": client, "state": transaction.state or ""}
        place = urlsplit(transaction.approval.redirect_uri)
        body = html.fill(
            "approve.html",
            action=escape(request.path),
            hidden="\n".join(
                f'<input type="hidden" name="{field}" value="{escape(value)}">' for field, value in hidden.items()
            ),
            initial=escape(client[:1].upper()),
            head=escape(said["head"].format(client=client)),
            abilities="".join(f"<li>{escape(text)}</li>" for text in abilities),
            choices="".join(f"<option>{escape(account)}</option>" for account in ACCOUNTS),
            place=escape(place.netloc + place.path),
            **{part: said[part] for part in ("may", "account", "back", "deny", "approve", "note")},
        )
        return html.page(said["title"].format(client=client), body, language=language, narrow=True)

    async def decide(self, request: web.Request) -> web.StreamResponse:
        """POST: the form; a transaction is good for one decision."""
        form = await request.post()
        transaction = self._open.get(str(form.get("transaction", "")))
        if transaction is None or transaction.ends_at <= self._clock():
            text = "This approval page was used already or is too old. Start again at the application."
            return _refused(request, text)
        decision, account = form.get("decision"), form.get("account", ACCOUNTS[0])
        if decision not in ("approve", "deny") or account not in ACCOUNTS:
            return _refused(request, "The form came back without a decision that can be understood.")
        del self._open[str(form["transaction"])]
        asked, state = transaction.approval, transaction.state
        if decision == "deny":
            entry_of(request).outcome = "denied"
            text = "The resource owner or authorization server denied the request."
            return _redirect(_error(asked.redirect_uri, "access_denied", text, state))
        entry_of(request).outcome = "approved"
        code = self._grants.code(replace(asked, subject=str(account)))
        return _redirect(extended(asked.redirect_uri, {"code": code, "state": state}))

    def _check(self, query: MultiMapping[str]) -> _Transaction:
        if query.get("client_id") != self._options.client_id or len(query.getall("client_id")) > 1:
            raise _NotToBeRedirected(
                f"No application with the client id {query.get('client_id', '')!r} is registered here."
            )
        address = self._redirect_uri(query)
        state = query.get("state")

        def wrong(error: str, text: str) -> _Redirected:
            return _Redirected(_error(address, error, text, state))

        for name in _ASKED:
            if len(query.getall(name, [])) > 1:
                raise wrong("invalid_request", f"The parameter {name} is repeated.")
        if "response_type" not in query:
            raise wrong("invalid_request", "The parameter response_type is missing.")
        if query["response_type"] != "code":
            raise wrong("unsupported_response_type", "Only response_type=code is supported.")
        scope = query.get("scope", "")
        if not _SCOPE.fullmatch(scope):
            raise wrong("invalid_scope", "The requested scope is invalid, unknown, or malformed.")
        challenge, method = query.get("code_challenge"), query.get("code_challenge_method", "plain")
        if method not in ("S256", "plain"):
            raise wrong("invalid_request", "Code challenge method must be one of `S256`, `plain`.")
        if challenge is None and "code_challenge_method" in query:
            raise wrong("invalid_request", "The parameter code_challenge is missing.")
        if challenge is not None and not _CHALLENGE.fullmatch(challenge):
            raise wrong("invalid_request", "Code challenge must follow the specifications of RFC-7636.")
        approval = Approval("", scope, address, challenge, method)
        return _Transaction(approval, state, self._clock() + TRANSACTION_SECONDS)

    def _redirect_uri(self, query: MultiMapping[str]) -> str:
        registered, given = self._options.redirect_uris, query.getall("redirect_uri", [])
        if not given and len(registered) == 1:
            return registered[0]
        if len(given) != 1 or not allowed(given[0], registered):
            wanted = " or ".join(registered) or "any http address on the loopback interface"
            said = repr(given[0]) if given else "missing"
            raise _NotToBeRedirected(f"The redirect address is {said}; allowed is {wanted}.")
        return given[0]


def _error(address: str, error: str, text: str, state: str | None) -> str:
    return extended(address, {"error": error, "error_description": text, "state": state})


def _redirect(address: str) -> web.Response:
    return web.Response(status=302, headers={"Location": address, "Cache-Control": "no-store"})


def _refused(request: web.Request, reason: str) -> web.Response:
    """The page for what must not redirect."""
    entry_of(request).outcome = "refused: page"
    body = html.fill("refused.html", reason=escape(reason))
    return _html(html.page("Authorization failed", body, narrow=True), 400)


def _html(document: str, status: int = 200) -> web.Response:
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
    return html.answer(
        document,
        status,
        Cache_Control="no-store",
        X_Frame_Options="DENY",
        Referrer_Policy="no-referrer",
        Content_Security_Policy=policy,
    )

"""The authorization endpoint (RFC 6749 §4.1.1): checks what is asked, shows the page, and sends the person back."""

import re
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from multidict import MultiMapping

from passoproxy.sandbox.options import SandboxOptions
from passoproxy.sandbox.provider.grants import Approval, Grants
from passoproxy.sandbox.provider.page import approval_page, error_page
from passoproxy.sandbox.provider.redirects import allowed, extended
from passoproxy.sandbox.recording import entry_of

TRANSACTION_SECONDS = 600.0
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
            entry_of(request).outcome = "refused: page"
            return _html(error_page(refused.reason), 400)
        except _Redirected as refused:
            entry_of(request).outcome = "refused: redirect"
            return _redirect(refused.address)
        name = secrets.token_urlsafe(24)
        while len(self._open) >= 1000:
            self._open.popitem(last=False)
        self._open[name] = transaction
        return _html(
            approval_page(
                language="de" if request.path.startswith("/de/") else "en",
                action=request.path,
                client_id=self._options.client_id,
                accounts=ACCOUNTS,
                scope=transaction.approval.scope,
                redirect_uri=transaction.approval.redirect_uri,
                hidden={"transaction": name, "client_id": self._options.client_id, "state": transaction.state or ""},
            )
        )

    async def decide(self, request: web.Request) -> web.StreamResponse:
        """POST: the form; a transaction is good for one decision."""
        form = await request.post()
        transaction = self._open.get(str(form.get("transaction", "")))
        if transaction is None or transaction.ends_at <= self._clock():
            entry_of(request).outcome = "refused: page"
            return _html(
                error_page("This approval page was used already or is too old. Start again at the application."), 400
            )
        decision = form.get("decision")
        account = form.get("account", ACCOUNTS[0])
        if decision not in ("approve", "deny") or account not in ACCOUNTS:
            entry_of(request).outcome = "refused: page"
            return _html(error_page("The form came back without a decision that can be understood."), 400)
        del self._open[str(form["transaction"])]
        entry_of(request).outcome = "approved" if decision == "approve" else "denied"
        return _redirect(self._back(transaction, str(account), approved=decision == "approve"))

    def _back(self, transaction: _Transaction, account: str, *, approved: bool) -> str:
        asked = transaction.approval
        if not approved:
            text = "The resource owner or authorization server denied the request."
            return _error(asked.redirect_uri, "access_denied", text, transaction.state)
        approval = Approval(account, asked.scope, asked.redirect_uri, asked.challenge, asked.challenge_method)
        return extended(asked.redirect_uri, {"code": self._grants.code(approval), "state": transaction.state})

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


def _html(page: str, status: int = 200) -> web.Response:
    headers = {
        "Cache-Control": "no-store",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
    }
    return web.Response(status=status, text=page, content_type="text/html", headers=headers)

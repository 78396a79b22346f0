"""What a person sees at the authorization endpoint, in English and German.

Which redirect addresses a client may name (RFC 6749 §3.1.2, RFC 8252 §7.3), and what a refusal sends there.

The authorization endpoint (RFC 6749 §4.1.1): checks what is asked, shows the page, and sends the person back.
"""

from __future__ import annotations

import re
import secrets
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from ipaddress import ip_address
from urllib.parse import SplitResult, urlencode, urlsplit

from aiohttp import web
from multidict import MultiMapping

from passoproxy.sandbox.html import page
from passoproxy.sandbox.journal import entry_of
from passoproxy.sandbox.options import SandboxOptions
from passoproxy.sandbox.provider.grants import Approval, Grants

_TEXTS: dict[str, dict[str, str]] = {
    "en": {
        "title": "Authorize {client}",
        "head": "{client} asks for access to your account",
        "account": "Signed in as",
        "back": "Sends you back to",
        "may": "The application will be able to",
        "all": "read and change everything that your account can (scope *)",
        "read": "read entry, visa and health requirements, and travel details",
        "renew": "renew this access by itself until you withdraw it",
        "scope": "use the scope {scope}",
        "approve": "Approve",
        "deny": "Deny",
        "note": "This is a sandbox: nobody's real account is touched, and the data are invented.",
    },
    "de": {
        "title": "{client} freigeben",
        "head": "{client} möchte auf Ihr Konto zugreifen",
        "account": "Angemeldet als",
        "back": "Danach weiter zu",
        "may": "Die Anwendung kann dann",
        "all": "alles lesen und ändern, was Ihr Konto darf (Scope *)",
        "read": "Einreise-, Visa- und Gesundheitsbestimmungen und Reisedetails lesen",
        "renew": "diesen Zugriff selbst erneuern, bis Sie ihn zurückziehen",
        "scope": "den Scope {scope} nutzen",
        "approve": "Zustimmen",
        "deny": "Ablehnen",
        "note": "Dies ist eine Sandbox: kein echtes Konto ist betroffen, und die Daten sind erfunden.",
    },
}


def approval_page(
    *,
    language: str,
    action: str,
    client_id: str,
    accounts: Sequence[str],
    scope: str,
    redirect_uri: str,
    hidden: Mapping[str, str],
) -> str:
    """The page that asks; its form posts `decision` (approve or deny), `account` and the hidden fields to `action`."""
    said = _TEXTS[language]
    fields = "\n".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">' for name, value in hidden.items()
    )
    choices = "".join(f"<option>{escape(account)}</option>" for account in accounts)
    abilities = "".join(f"<li>{escape(text)}</li>" for text in _abilities(said, scope))
    body = f"""<form class="card" method="post" action="{escape(action)}">
{fields}
<div class="head"><div class="badge">{escape(client_id[:1].upper())}</div>
<h1>{escape(said["head"].format(client=client_id))}</h1></div>
<p>{said["may"]}</p>
<ul>{abilities}</ul>
<dl><dt><label for="account">{said["account"]}</label></dt><dd><select id="account" name="account">{choices}</select></dd>
<dt>{said["back"]}</dt><dd><code>{escape(_place(redirect_uri))}</code></dd></dl>
<div class="actions"><button type="submit" name="decision" value="deny">{said["deny"]}</button>
<button class="main" type="submit" name="decision" value="approve">{said["approve"]}</button></div>
<p class="note">{said["note"]}</p>
</form>"""
    return page(said["title"].format(client=client_id), body, language=language, narrow=True)


def error_page(reason: str) -> str:
    """What is shown where nobody may be redirected."""
    body = f"""<div class="card"><div class="head"><div class="badge warn">!</div><h1>This request cannot be authorized</h1></div>
<p>{escape(reason)}</p>
<p class="soft small">You were not sent back to the application, because its address cannot be trusted.</p></div>"""
    return page("Authorization failed", body, narrow=True)


def _abilities(said: Mapping[str, str], scope: str) -> list[str]:
    wide = not scope or "*" in scope.split()
    named = [] if wide else [said["scope"].format(scope=word) for word in scope.split()]
    return [said["all"] if scope and wide else said["read"], *named, said["renew"]]


def _place(redirect_uri: str) -> str:
    parts = urlsplit(redirect_uri)
    return parts.netloc + parts.path


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
    return any(address == known or _differ_in_port_only(asked, urlsplit(known)) for known in registered)


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _differ_in_port_only(asked: SplitResult, known: SplitResult) -> bool:
    return is_loopback(asked.hostname or "") and (asked.scheme, asked.hostname, asked.path, asked.query) == (
        known.scheme,
        known.hostname,
        known.path,
        known.query,
    )


def extended(address: str, parameters: dict[str, str | None]) -> str:
    """The address with parameters added to its query; those that are None are left out."""
    added = urlencode({name: value for name, value in parameters.items() if value is not None})
    return f"{address}{'&' if '?' in address else '?'}{added}"


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

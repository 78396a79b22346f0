"""What each grant gives and what using it costs: tokens and their chains, codes, single-use rotation, replays, revocation. No HTTP here.

A chain is what one approval began: its code and every access and refresh token that followed. Tokens are kept under their
fingerprint, never in clear. Refusals (RFC 6749 §5.2) speak in the words of the PHP library that the real service resembles.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from passoproxy.sandbox.journal import Journal, fingerprint
from passoproxy.sandbox.options import SandboxOptions

_MALFORMED = (
    "The request is missing a required parameter, includes an invalid parameter value, includes a parameter more "
    "than once, or is otherwise malformed."
)


@dataclass(eq=False)
class Refusal(Exception):
    """An error answer of the token or revocation endpoint."""

    status: int
    error: str
    description: str
    hint: str | None = None

    def body(self) -> dict[str, str]:
        """The JSON members: `error`, `error_description`, `hint` where there is one, `message`."""
        members = {"error": self.error, "error_description": self.description}
        if self.hint is not None:
            members["hint"] = self.hint
        return members | {"message": self.description}


def malformed(hint: str) -> Refusal:
    return Refusal(400, "invalid_request", _MALFORMED, hint)


def missing(parameter: str) -> Refusal:
    return malformed(f"Check the `{parameter}` parameter")


def wrong_client() -> Refusal:
    return Refusal(401, "invalid_client", "Client authentication failed")


def unsupported_grant() -> Refusal:
    return Refusal(
        400,
        "unsupported_grant_type",
        "The authorization grant type is not supported by the authorization server.",
        "Check that all required parameters have been provided",
    )


def invalid_code(hint: str) -> Refusal:
    return Refusal(
        400,
        "invalid_grant",
        "The provided authorization grant (e.g., authorization code, resource owner credentials) or refresh token is "
        "invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was "
        "issued to another client.",
        hint,
    )


def invalid_refresh_token(hint: str, *, legacy: bool) -> Refusal:
    """A refresh token that is dead; `legacy` answers as library version 8 did."""
    status, error = (401, "invalid_request") if legacy else (400, "invalid_grant")
    return Refusal(status, error, "The refresh token is invalid.", hint)


def opaque() -> str:
    """A refresh token or code: a long hexadecimal string that begins with `def`."""
    return "def" + secrets.token_hex(160)


def _part(value: dict[str, object]) -> str:
    return _encode(json.dumps(value, separators=(",", ":")).encode())


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def challenge_of(verifier: str, method: str) -> str:
    """The code challenge that belongs to a verifier (RFC 7636 §4.2)."""
    if method == "plain":
        return verifier
    return _encode(hashlib.sha256(verifier.encode()).digest())


Kind = Literal["code", "access", "refresh"]


@dataclass(slots=True, eq=False)
class Chain:
    """One approval and all that followed from it."""

    id: str
    subject: str
    client_id: str
    scope: str
    public: bool = False
    """Begun by a client without a secret, by proof of possession: it may refresh without a secret too."""
    revoked_at: float | None = None


@dataclass(slots=True, eq=False)
class Token:
    """One code, access or refresh token. `expires_at` None: it never ends."""

    kind: Kind
    hash: str
    chain: Chain
    issued_at: float
    expires_at: float | None
    spent_at: float | None = None
    revoked_at: float | None = None
    presented: int = 0
    last_presented_at: float | None = None
    replays: int = 0
    access: Token | None = None
    """For a refresh token: the access token issued with it."""
    successor: Token | None = None
    """For a spent refresh token: the one that took its place."""

    @property
    def ended_at(self) -> float | None:
        """When it was revoked, by itself or with its chain."""
        return self.revoked_at if self.revoked_at is not None else self.chain.revoked_at

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def usable(self, now: float) -> bool:
        return self.ended_at is None and self.spent_at is None and not self.expired(now)

    def present(self, now: float) -> None:
        """Notes one presentation."""
        self.presented += 1
        self.last_presented_at = now

    def revoke(self, now: float) -> None:
        """Ends it, unless it was revoked before."""
        if self.revoked_at is None:
            self.revoked_at = now

    def untouched(self) -> bool:
        """Whether what a refresh gave is unused: neither this refresh token nor its access token was presented."""
        return not self.presented and (self.access is None or not self.access.presented)

    def describe(self) -> dict[str, object]:
        """The journal's view."""
        return {
            "kind": self.kind,
            "hash": self.hash,
            "issued_at": self.issued_at,
            "expires_at": self.expires_at,
            "chain": self.chain.id,
            "subject": self.chain.subject,
            "spent_at": self.spent_at,
            "revoked_at": self.ended_at,
            "presented": self.presented,
            "last_presented_at": self.last_presented_at,
            "replays": self.replays,
        }


MAX_TOKENS = 100_000
MAX_CODES = 1000
CODE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Approval:
    """What a person has agreed to, bound to a code until it is exchanged."""

    subject: str
    scope: str
    redirect_uri: str
    challenge: str | None
    challenge_method: str


@dataclass(frozen=True, slots=True, repr=False)
class Issued:
    """What a grant gave, in clear: the only place where tokens are, and only until the answer is written."""

    access_token: str
    refresh_token: str | None
    lifetime: float
    outcome: str


class Grants:
    """The provider's state. Every method that refuses raises `Refusal`."""

    def __init__(self, options: SandboxOptions, clock: Callable[[], float], journal: Journal) -> None:
        self._options, self._clock, self._journal = options, clock, journal
        self._tokens: OrderedDict[str, Token] = OrderedDict()
        self._signing_key = secrets.token_bytes(32)
        self._approvals: OrderedDict[str, Approval] = OrderedDict()
        self._numbers = itertools.count(1)
        if options.static_token is not None:
            self._put("access", options.static_token, self._chain("static", "*"), None)

    def code(self, approval: Approval) -> str:
        """A single-use code for what was approved; it lives `CODE_SECONDS`."""
        text = opaque()
        chain = self._chain(approval.subject, approval.scope)
        token = self._put("code", text, chain, self._clock() + CODE_SECONDS)
        while len(self._approvals) >= MAX_CODES:
            self._approvals.popitem(last=False)
        self._approvals[token.hash] = approval
        return text

    def exchange(
        self, code: str, *, issuer: str, redirect_uri: str | None, verifier: str | None, public: bool
    ) -> Issued:
        """Tokens for a code (RFC 6749 §4.1.3, RFC 7636 §4.6). `public`: the client has sent no secret."""
        now, token = self._clock(), self._find("code", code)
        if token is None or token.hash not in self._approvals:
            raise invalid_code("Cannot decrypt the authorization code")
        token.present(now)
        if token.spent_at is not None:
            self._punish(token)
            raise invalid_code("Authorization code has been revoked")
        if not token.usable(now):
            raise invalid_code("Authorization code has expired")
        approval = self._approvals[token.hash]
        if redirect_uri != approval.redirect_uri:
            raise missing("redirect_uri") if redirect_uri is None else invalid_code("Invalid redirect URI")
        if approval.challenge is None and verifier is not None:
            raise invalid_code("code_verifier sent without a code_challenge in the authorization request")
        if approval.challenge is not None:
            if verifier is None:
                raise missing("code_verifier")
            made = challenge_of(verifier, approval.challenge_method)
            if not hmac.compare_digest(made.encode(), approval.challenge.encode()):
                raise invalid_code("Failed to verify `code_verifier`.")
        token.spent_at, token.chain.public = self._clock(), public
        return self._pair(token.chain, issuer, "issued")[0]

    def has_challenge(self, code: str) -> bool:
        """Whether the code was asked for with a challenge, so that a client without a secret may exchange it."""
        approval = self._approvals.get(fingerprint(code))
        return approval is not None and approval.challenge is not None

    def is_public(self, refresh_token: str) -> bool:
        """Whether the refresh token belongs to a chain that was begun without a secret."""
        token = self._find("refresh", refresh_token)
        return token is not None and token.chain.public

    def chain_of(self, refresh_token: str) -> Chain | None:
        """The chain of a refresh token that still counts."""
        token = self._find("refresh", refresh_token)
        return token.chain if token is not None and token.usable(self._clock()) else None

    def refresh(self, refresh_token: str, *, issuer: str, keep: bool = False) -> Issued:
        """A new pair for a refresh token, which is spent by it; with `keep` only a new access token, and it lives on."""
        now, token = self._clock(), self._find("refresh", refresh_token)
        if token is None:
            raise self._dead("Cannot decrypt the refresh token")
        token.present(now)
        if token.ended_at is None and token.spent_at is not None and not token.expired(now):
            return self._replay(token, issuer)
        if not token.usable(now):
            raise self._dead("Token has expired" if token.expired(now) else "Token has been revoked")
        return self._keep(token, issuer) if keep else self._rotate(token, issuer, "rotated")

    def _rotate(self, token: Token, issuer: str, outcome: str) -> Issued:
        token.spent_at = self._clock()
        if self._options.revoke_old and token.access is not None:
            token.access.revoke(token.spent_at)
        issued, token.successor = self._pair(token.chain, issuer, outcome)
        return issued

    def _replay(self, token: Token, issuer: str) -> Issued:
        """A spent token is shown again: an answer was lost, or the token was stolen."""
        lost = token.successor
        if lost is None or token.replays >= self._options.allow_replays or not lost.untouched():
            self._punish(token)
            raise self._dead("Token has been revoked")
        token.replays += 1
        for unseen in (lost, lost.access):
            if unseen is not None:
                unseen.revoke(self._clock())
        return self._rotate(token, issuer, "replayed")

    def _keep(self, token: Token, issuer: str) -> Issued:
        token.expires_at = self._clock() + self._options.lifetime
        text, token.access = self._access(token.chain, issuer)
        return Issued(text, None, self._options.lifetime, "kept")

    def client_credentials(self, scope: str, *, issuer: str) -> Issued:
        """An access token for the client's own account; there is no refresh token."""
        text, _ = self._access(self._chain(self._options.client_id, scope), issuer)
        return Issued(text, None, self._options.lifetime, "issued")

    def approve(self, subject: str, scope: str, *, issuer: str) -> Issued:
        """A pair as if a person had just approved it."""
        return self._pair(self._chain(subject, scope), issuer, "issued")[0]

    def bearer(self, access_token: str) -> Token | None:
        """The access token if it counts now; notes that it was shown either way."""
        now, token = self._clock(), self._find("access", access_token)
        if token is None:
            return None
        token.present(now)
        return token if token.usable(now) else None

    def withdraw(self, chain: Chain) -> None:
        """The owner takes the approval back: every token of the chain ends."""
        if chain.revoked_at is None:
            chain.revoked_at = self._clock()

    def revoke(self, text: str) -> None:
        """RFC 7009: a refresh token takes its chain with it, an access token only itself; what is unknown or counts no more is ignored."""
        token = self._tokens.get(fingerprint(text))
        if token is None or not token.usable(self._clock()):
            return
        if token.kind == "refresh":
            self.withdraw(token.chain)
        else:
            token.revoke(self._clock())

    def _punish(self, token: Token) -> None:
        if self._options.punish_reuse:
            self.withdraw(token.chain)

    def _dead(self, hint: str) -> Exception:
        return invalid_refresh_token(hint, legacy=self._options.legacy_errors)

    def _chain(self, subject: str, scope: str) -> Chain:
        return Chain(f"chain-{next(self._numbers)}-{secrets.token_hex(3)}", subject, self._options.client_id, scope)

    def _pair(self, chain: Chain, issuer: str, outcome: str) -> tuple[Issued, Token]:
        access_text, access = self._access(chain, issuer)
        refresh_text = opaque()
        refresh = self._put("refresh", refresh_text, chain, access.expires_at)
        refresh.access = access
        return Issued(access_text, refresh_text, self._options.lifetime, outcome), refresh

    def _access(self, chain: Chain, issuer: str) -> tuple[str, Token]:
        """A JWT (HS256) whose times are seconds with a fraction, as RFC 7519 §2 allows and the real service's kin do."""
        now = self._clock()
        ends = now + self._options.lifetime
        claims = {
            "iss": issuer,
            "aud": self._options.client_id,
            "sub": chain.subject,
            "jti": secrets.token_hex(40),
            "iat": round(now, 6),
            "nbf": round(now, 6),
            "exp": round(ends, 6),
            "scopes": chain.scope.split(),
        }
        signed = f"{_part({'typ': 'JWT', 'alg': 'HS256'})}.{_part(claims)}"
        text = f"{signed}.{_encode(hmac.new(self._signing_key, signed.encode(), hashlib.sha256).digest())}"
        return text, self._put("access", text, chain, ends)

    def _find(self, kind: Kind, text: str) -> Token | None:
        """The token if it is known and of that kind, whatever its state."""
        token = self._tokens.get(fingerprint(text))
        return token if token is not None and token.kind == kind else None

    def _put(self, kind: Kind, text: str, chain: Chain, expires_at: float | None) -> Token:
        """A new token; beyond MAX_TOKENS the oldest are forgotten."""
        token = Token(kind, fingerprint(text), chain, self._clock(), expires_at)
        if len(self._tokens) >= MAX_TOKENS:
            self._tokens.popitem(last=False)
        self._tokens[token.hash] = token
        self._journal.issued(token)
        return token

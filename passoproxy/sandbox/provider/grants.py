"""What each grant gives and what using it costs: codes, single-use rotation, replays, revocation. No HTTP here."""

import hmac
import itertools
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from passoproxy.sandbox.journal import Journal, fingerprint
from passoproxy.sandbox.options import SandboxOptions
from passoproxy.sandbox.provider.refusals import invalid_code, invalid_refresh_token, missing
from passoproxy.sandbox.provider.shapes import Signer, challenge_of, opaque
from passoproxy.sandbox.provider.tokens import Chain, Kind, Token, TokenShelf

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
        self._options, self._clock = options, clock
        self._shelf = TokenShelf(clock, journal.issued)
        self._signer = Signer(options.client_id)
        self._approvals: OrderedDict[str, Approval] = OrderedDict()
        self._numbers = itertools.count(1)
        if options.static_token is not None:
            self._put("access", options.static_token, self._chain("static", "*"), None)

    def code(self, approval: Approval) -> str:
        """A single-use code for what was approved; it lives `CODE_SECONDS`."""
        text = opaque()
        chain = self._chain(approval.subject, approval.scope)
        token = self._put("code", text, chain, self._clock() + CODE_SECONDS)
        while len(self._approvals) >= 1000:
            self._approvals.popitem(last=False)
        self._approvals[token.hash] = approval
        return text

    def exchange(
        self, code: str, *, issuer: str, redirect_uri: str | None, verifier: str | None, public: bool
    ) -> Issued:
        """Tokens for a code (RFC 6749 §4.1.3, RFC 7636 §4.6). `public`: the client has sent no secret."""
        token, approval = self._approved(code)
        if redirect_uri != approval.redirect_uri:
            raise missing("redirect_uri") if redirect_uri is None else invalid_code("Invalid redirect URI")
        self._check_verifier(approval, verifier)
        token.spent_at, token.chain.public = self._clock(), public
        return self._pair(token.chain, issuer, "issued")[0]

    def _approved(self, code: str) -> tuple[Token, Approval]:
        now, token = self._clock(), self._shelf.find("code", fingerprint(code))
        if token is None or token.hash not in self._approvals:
            raise invalid_code("Cannot decrypt the authorization code")
        token.present(now)
        if token.spent_at is not None:
            self._punish(token)
            raise invalid_code("Authorization code has been revoked")
        if not token.usable(now):
            raise invalid_code("Authorization code has expired")
        return token, self._approvals[token.hash]

    def _check_verifier(self, approval: Approval, verifier: str | None) -> None:
        if approval.challenge is None:
            if verifier is not None:
                raise invalid_code("code_verifier sent without a code_challenge in the authorization request")
            return
        if verifier is None:
            raise missing("code_verifier")
        made = challenge_of(verifier, approval.challenge_method)
        if not hmac.compare_digest(made.encode(), approval.challenge.encode()):
            raise invalid_code("Failed to verify `code_verifier`.")

    def has_challenge(self, code: str) -> bool:
        """Whether the code was asked for with a challenge, so that a client without a secret may exchange it."""
        approval = self._approvals.get(fingerprint(code))
        return approval is not None and approval.challenge is not None

    def is_public(self, refresh_token: str) -> bool:
        """Whether the refresh token belongs to a chain that was begun without a secret."""
        token = self._shelf.find("refresh", fingerprint(refresh_token))
        return token is not None and token.chain.public

    def chain_of(self, refresh_token: str) -> Chain | None:
        """The chain of a refresh token that still counts."""
        token = self._shelf.find("refresh", fingerprint(refresh_token))
        return token.chain if token is not None and token.usable(self._clock()) else None

    def refresh(self, refresh_token: str, *, issuer: str, keep: bool = False) -> Issued:
        """A new pair for a refresh token, which is spent by it; with `keep` only a new access token, and it lives on."""
        now, token = self._clock(), self._shelf.find("refresh", fingerprint(refresh_token))
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
        """A spent token is shown again: someone lost an answer, or has stolen it."""
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
        now, token = self._clock(), self._shelf.find("access", fingerprint(access_token))
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
        token = self._shelf.of_any_kind(fingerprint(text))
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
        now = self._clock()
        ends = now + self._options.lifetime
        text = self._signer.access_token(
            issuer=issuer, subject=chain.subject, scope=chain.scope, issued_at=now, expires_at=ends
        )
        return text, self._put("access", text, chain, ends)

    def _put(self, kind: Kind, text: str, chain: Chain, expires_at: float | None) -> Token:
        return self._shelf.put(Token(kind, fingerprint(text), chain, self._clock(), expires_at))

"""Tokens and chains: what was issued, what still counts, and what using it changes. No HTTP here.

A chain is what one approval began: its code and every access and refresh token that followed. Tokens are kept under
their fingerprint, never in clear.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

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
    access: "Token | None" = None
    """For a refresh token: the access token issued with it."""
    successor: "Token | None" = None
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
        """Notes that somebody showed it."""
        self.presented += 1
        self.last_presented_at = now

    def revoke(self, now: float) -> None:
        """Ends it, unless it was revoked before."""
        if self.revoked_at is None:
            self.revoked_at = now

    def untouched(self) -> bool:
        """Whether nobody has used what a refresh gave: neither this refresh token nor its access token."""
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


@dataclass(slots=True)
class TokenShelf:
    """Tokens by their fingerprint; beyond `size` the oldest are forgotten."""

    clock: Callable[[], float]
    noted: Callable[[Token], None]
    """Told of every token that is put here."""
    size: int = 100_000
    _tokens: OrderedDict[str, Token] = field(default_factory=OrderedDict)

    def put(self, token: Token) -> Token:
        if len(self._tokens) >= self.size:
            self._tokens.popitem(last=False)
        self._tokens[token.hash] = token
        self.noted(token)
        return token

    def find(self, kind: Kind, hash_: str) -> Token | None:
        """The token if it is known and of that kind, whatever its state."""
        token = self._tokens.get(hash_)
        return token if token is not None and token.kind == kind else None

    def of_any_kind(self, hash_: str) -> Token | None:
        return self._tokens.get(hash_)

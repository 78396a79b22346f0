"""Whose answers these are: the cache's partition, from who issued the pair, to whom, for whom and for what (contract §7).

It survives rotation, because nothing of a token goes into it.
"""

from __future__ import annotations

import hashlib
import json
from urllib.parse import urlsplit, urlunsplit

from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.settings import Provider
from passoproxy.core.oauth.token_response import claims_of
from passoproxy.core.oauth.transaction import digest


def partition_of(provider: Provider, client_id: str, pair: Pair | None) -> str:
    """The partition of `pair`'s identity as a digest (hex); without a pair, one that no pair ever has."""
    if pair is None:
        return _digest("nobody", provider.token_url, client_id)
    scope = pair.scope if pair.scope is not None else provider.scope
    return _digest("pair", provider.token_url, client_id, scope, pair.subject or "", pair.salt)


def static_partition(provider_url: str, token: str) -> str:
    """The partition of a static token: its `sub` if it is a JWT with one, else the token itself."""
    subject = claims_of(token).get("sub")
    return _digest("static", provider_url, str(subject) if subject else f"token {digest(token)}")


def client_of(provider: Provider, client_id: str, grant: str) -> str:
    """Which client of which token endpoint a pair belongs to, as people are told of it.

    A client's own pair (client credentials) is another one than a person's.
    """
    own = " for itself" if grant == "client_credentials" else ""
    return f"client {client_id}{own} at {shown_url(provider.token_url)}"


def shown_url(url: str) -> str:
    """A URL as people are told of it: what may be secret in it is a digest."""
    parts = urlsplit(url)
    plain = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return plain if plain == url else f"{plain} ({digest(url)[:8]})"


def fleet_of(provider: Provider, client_id: str, grant: str) -> str:
    """The name under which instances with the same provider, client and grant find each other in a shared store."""
    return _digest("client", provider.token_url, client_id)[:20] + grant[:4]


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

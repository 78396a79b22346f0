"""A query as names and values, as far as keys and bypasses need it: split, never re-encoded, never re-joined for the origin."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import unquote_plus

from passoproxy.core.cache.policy import KeyPolicy
from passoproxy.core.http.php_names import variable

_LONGEST_REMEMBERED = 1024
_MOST_REMEMBERED = 2048


def pieces(query: str) -> list[str]:
    """The `name=value` pieces in their order, still encoded."""
    return query.split("&")


def name_of(piece: str) -> str:
    """The decoded name of a piece."""
    name = piece.partition("=")[0]
    return unquote_plus(name) if "%" in name or "+" in name else name


def normalised(query: str, policy: KeyPolicy) -> str:
    """The query as it stands in a key: without ignored names, sorted by name where the policy says so. Names that PHP reads as equal count
    as equal: they keep their order, since the last of them may be the one that counts.
    """
    if not policy.ignore_query and (not policy.sort_query or "&" not in query):
        return query
    judge = _remembered_normal if len(query) <= _LONGEST_REMEMBERED else _normal
    return judge(query, policy.ignore_query, policy.sort_query)


def _normal(query: str, ignored: tuple[str, ...], sorts: bool) -> str:
    named = [(variable(name_of(piece)), piece) for piece in pieces(query)]
    if ignored:
        gone = {variable(name) for name in ignored}
        named = [pair for pair in named if pair[0] not in gone]
    if sorts:
        # By the variable alone: `a[]=1&a[0]=2` and its reverse are different lists.
        named.sort(key=lambda pair: pair[0][0])
    return "&".join([piece for _, piece in named])


def field_names(query: str) -> frozenset[str]:
    """The names in a query, as `form_names` has them."""
    return (_remembered_names if len(query) <= _LONGEST_REMEMBERED else form_names)(query)


def form_names(encoded: str) -> frozenset[str]:
    """The names in a form as frameworks see them: decoded, without `[…]`, and as PHP reads them."""
    return frozenset(alias for piece in pieces(encoded) for alias in aliases(name_of(piece)))


def aliases(name: str) -> tuple[str, ...]:
    """What a decoded name may be read as: itself without its index, and PHP's variable."""
    base = name.lstrip(" ").partition("\0")[0].partition("[")[0]
    return base, variable(base)[0], variable(name)[0]


# Pure functions of short texts, and hits ask for the same few targets: remembering them spares a hit most of its key.
_remembered_normal = lru_cache(maxsize=_MOST_REMEMBERED)(_normal)
_remembered_names = lru_cache(maxsize=_MOST_REMEMBERED)(form_names)

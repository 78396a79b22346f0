"""A query as names and values, as far as keys and bypasses need it: split, never re-encoded, never re-joined for the origin."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote_plus

from passoproxy.core.cache.policy import KeyPolicy

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
    """The query as it stands in a key: without ignored names, sorted by name where the policy says so, values in their order."""
    if not policy.ignore_query and (not policy.sort_query or "&" not in query):
        return query
    judge = _remembered_normal if len(query) <= _LONGEST_REMEMBERED else _normal
    return judge(query, policy.ignore_query, policy.sort_query)


def _normal(query: str, ignored: tuple[str, ...], sorts: bool) -> str:
    named = [(name_of(piece), piece) for piece in pieces(query)]
    kept = [pair for pair in named if pair[0] not in ignored] if ignored else named
    if sorts:
        # Sorted by the name before `[`: `a[]=1&a[0]=2` and its reverse are different lists to many frameworks.
        kept.sort(key=lambda pair: pair[0].partition("[")[0])
    return "&".join([piece for _, piece in kept])


def field_names(query: str) -> frozenset[str]:
    """The names in a query, as `form_names` has them."""
    return (_remembered_names if len(query) <= _LONGEST_REMEMBERED else form_names)(query)


def form_names(encoded: str) -> frozenset[str]:
    """The names in a form as frameworks see them: decoded, without `[…]`, and `.`, blank or a lone `[` read as `_` (PHP)."""
    return frozenset(alias for piece in pieces(encoded) for alias in _aliases(name_of(piece)))


def _aliases(name: str) -> Iterable[str]:
    name = name.lstrip(" ").partition("\0")[0]
    base, bracket, rest = name.partition("[")
    plain = base.replace(".", "_").replace(" ", "_")
    if bracket and "]" not in rest:
        return base, plain, f"{plain}_{rest.replace('.', '_').replace(' ', '_')}"
    return base, plain


# Pure functions of short texts, and hits ask for the same few targets: remembering them spares a hit most of its key.
_remembered_normal = lru_cache(maxsize=_MOST_REMEMBERED)(_normal)
_remembered_names = lru_cache(maxsize=_MOST_REMEMBERED)(form_names)

"""What a route wants of the cache (contract §3 `routes`), as a value. `core.routes` finds the one a request lives under."""

from __future__ import annotations

from dataclasses import field, replace
from functools import lru_cache

from passoproxy.values import dataclass

_UNDERSCORED = str.maketrans(" .[", "___")


def variable(name: str) -> tuple[str, str]:
    """The variable that PHP makes of the decoded name of a query or form field, and the index behind it (`[…]`, or ''); of the names that it reads
    alike the last value counts.

    Spaces before it and all from a NUL on are no part of it; `.`, space and a `[` that is never closed are read as `_`.
    """
    name = name.lstrip(" ").partition("\0")[0]
    base, bracket, rest = name.partition("[")
    if bracket and "]" not in rest:
        return name.translate(_UNDERSCORED), ""
    return base.translate(_UNDERSCORED), bracket + rest


@dataclass(frozen=True, slots=True)
class KeyPolicy:
    """How a request becomes a key. `ignore_body_fields` are dotted paths into a JSON body."""

    ignore_query: tuple[str, ...] = ()
    sort_query: bool = True
    ignore_body_fields: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BypassPolicy:
    """Names whose presence makes a request a pass, in query, JSON member or form field, whichever list holds them."""

    query_has: tuple[str, ...] = ()
    body_has: tuple[str, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """Every name of both lists, and as PHP reads it."""
        return _as_read(self.query_has, self.body_has)


@lru_cache(maxsize=1024)
def _as_read(*lists: tuple[str, ...]) -> frozenset[str]:
    return frozenset(read for names in lists for name in names for read in (name, variable(name)[0]))


@dataclass(frozen=True, slots=True)
class RoutePolicy:
    """One route. Windows and `ttl` are seconds; `ttl` None leaves freshness to the origin (mode `http`) or stores nothing.

    `stores` is False for a request that no route matched in mode `routes`: it is forwarded and never stored. `origin_decides` is set for a
    request with a cookie that is passed on, and for what is stored of its answer: the route's word on freshness does not count.
    """

    name: str = ""
    match: str = "/**"
    methods: tuple[str, ...] = ("GET", "HEAD")
    ttl: float | None = None
    override: bool = False
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    stale_if_unauthorized: float = 0.0
    refresh_ahead: float = 0.0
    key: KeyPolicy = field(default_factory=KeyPolicy)
    volatile_fields: tuple[str, ...] = ()
    bypass_when: BypassPolicy = field(default_factory=BypassPolicy)
    pass_cookies: bool = False
    pass_client_authorization: bool = False
    private: bool = False
    tags: tuple[str, ...] = ()
    purges: tuple[str, ...] = ()
    stores: bool = True
    origin_decides: bool = False


@lru_cache(maxsize=256)
def for_cookies(policy: RoutePolicy) -> RoutePolicy:
    """The same route for a request with a cookie that it passes on (contract §7)."""
    return replace(policy, origin_decides=True)


@dataclass(frozen=True, slots=True)
class CacheMode:
    """How the whole cache behaves. `http` judges everything by RFC 9111, else only routes are stored."""

    http: bool = False
    shared: bool = True
    offline: bool = False
    max_entry_bytes: int = 16 * 1024 * 1024

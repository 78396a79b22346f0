"""What an unsafe request makes of stored answers (RFC 9111 §4.4), and what it purges by a route's word; cache groups (RFC 9875).

A cache group ties answers together, so that a write can throw out all of them at once. It is a tag in a namespace of its own: stores, purges
and listings treat it as any tag. All that is stored is of one origin, so the names need none.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urljoin, urlsplit

import http_sf

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.http.messages import Fields, RequestHead, ResponseHead

PREFIX = "cache-group:"
"""What the tag of a group begins with."""

MOST_GROUPS = 128
"""Of one answer; the RFC asks for 32 at least."""


def tagged(tags: tuple[str, ...], fields: Fields) -> tuple[str, ...]:
    """The tags of an answer: those of its route, and its groups (RFC 9875 §2)."""
    return (*tags, *_groups(fields, "Cache-Groups")) if "Cache-Groups" in fields else tags


def invalidated_groups(fields: Fields) -> tuple[str, ...]:
    """The tags of the groups that the answer to an unsafe request invalidates (RFC 9875 §3)."""
    return _groups(fields, "Cache-Group-Invalidation") if "Cache-Group-Invalidation" in fields else ()


def _groups(fields: Fields, name: str) -> tuple[str, ...]:
    # Members must be Strings; a field that is no such list is ignored whole, as Structured Fields ask for.
    try:
        parsed = http_sf.parse(", ".join(fields.getall(name)).encode("utf-8", "surrogateescape"), tltype="list")
    except ValueError:
        return ()
    members = parsed if isinstance(parsed, list) else []
    names = [item[0] for item in members if isinstance(item, tuple) and type(item[0]) is str]
    if len(names) < len(members):
        return ()
    return tuple(f"{PREFIX}{each}" for each in dict.fromkeys(names[:MOST_GROUPS]))


SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY", "PRI"})
"""Methods registered as safe; whatever is unknown counts as unsafe (RFC 9111 §4.4)."""


def invalidated(
    head: RequestHead, key_of: Callable[[str], str], answer: ResponseHead, origin: str, policy: RoutePolicy
) -> tuple[Selector, ...]:
    """What to purge after `answer` to the unsafe request `head`: nothing unless it is a success (2xx or 3xx).

    `key_of` gives the primary key of a GET of a target, for spellings of its query that mean the same. `origin` is the origin's scheme, authority
    and path, which is no part of targets.
    """
    if not 200 <= answer.status < 400:
        return ()
    targets = dict.fromkeys((head.target, *_named_targets(head, answer, origin)))
    return (
        *(selector for target in targets for selector in (Selector(target=target), Selector(key=key_of(target)))),
        *(Selector(tag=tag) for tag in policy.purges),
        *(Selector(tag=tag) for tag in invalidated_groups(answer.fields)),
    )


def _named_targets(head: RequestHead, answer: ResponseHead, origin: str) -> list[str]:
    # Only what lies on the same origin: else one site could throw out another's answers (RFC 9111 §4.4).
    named = (answer.fields.get(name) for name in ("Location", "Content-Location"))
    return [target for value in named if value is not None and (target := _same_origin(head, value, origin))]


def _same_origin(head: RequestHead, value: str, origin: str) -> str:
    base = origin or f"{head.scheme}://{head.authority}"
    try:
        url = urlsplit(urljoin(base + head.target, value.strip()))
        here = urlsplit(base)
        same = (url.scheme, url.hostname, _port(url.scheme, url.port)) == (
            here.scheme,
            here.hostname,
            _port(here.scheme, here.port),
        )
    except ValueError:  # an address that is none
        return ""
    path = url.path.removeprefix(here.path)
    if not same or (here.path and (path == url.path or path[:1] not in ("", "/"))):
        return ""
    return f"{path or '/'}{'?' if url.query else ''}{url.query}"


def _port(scheme: str, port: int | None) -> int:
    return port if port is not None else 443 if scheme == "https" else 80

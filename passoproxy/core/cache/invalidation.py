"""What an unsafe request makes of stored answers (RFC 9111 §4.4, RFC 9875 §3), and what it purges by a route's word."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from passoproxy.core.cache.entry import Selector
from passoproxy.core.cache.groups import invalidated_groups
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.http.messages import RequestHead, ResponseHead

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "REPORT", "SEARCH", "QUERY", "PRI"})
"""Methods registered as safe; whatever is unknown counts as unsafe (RFC 9111 §4.4)."""


def invalidated(
    head: RequestHead, key: str, answer: ResponseHead, origin: str, policy: RoutePolicy
) -> tuple[Selector, ...]:
    """What to purge after `answer` to the unsafe request `head`: nothing unless it is a success (2xx or 3xx).

    `key` is the primary key that a GET of the same target has, for spellings of the query that mean the same. `origin` is the
    origin's `scheme://authority`.
    """
    if not 200 <= answer.status < 400:
        return ()
    targets = [head.target, *_named_targets(head, answer, origin)]
    return (
        *(Selector(target=target) for target in dict.fromkeys(targets)),
        Selector(key=key),
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
    return f"{url.path or '/'}{'?' if url.query else ''}{url.query}" if same else ""


def _port(scheme: str, port: int | None) -> int:
    return port if port is not None else 443 if scheme == "https" else 80

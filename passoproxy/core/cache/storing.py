"""Whether an answer may be stored (RFC 9111 §3), and with which fields (§3.1). The bytes are the business of the stores.

`Authorization` (§3.5) plays no part: the proxy's own is added after the judgement, a client's is removed or makes the request a bypass.
"""

from __future__ import annotations

from http import HTTPStatus

from passoproxy.core.cache.cache_control import Asked, Said
from passoproxy.core.cache.etag import is_json
from passoproxy.core.cache.freshness import HEURISTIC_STATUSES, lifetime
from passoproxy.core.cache.vary import nominated
from passoproxy.core.http.messages import Fields, ResponseHead, changed
from passoproxy.core.http.syntax import print_date
from passoproxy.values import value

_PARTS = frozenset({206, 304, 412, 416})
"""Answers that only a request with a range or a condition gets."""

UNDERSTOOD_STATUSES = frozenset(status.value for status in HTTPStatus if status >= 200) - _PARTS
"""Final status codes whose caching requirements are implemented (RFC 9111 §5.2.2.3)."""

_COOKIES = frozenset({"set-cookie", "set-cookie2"})


@value
class Leave:
    """The answer must not or need not be stored. `permanent` tells that the next one of this resource will fare the same."""

    why: str
    permanent: bool = True


def judge(
    asked: Asked, head: ResponseHead, said: Said, *, response_time: float, http_mode: bool, max_bytes: int
) -> Fields | Leave:
    """The fields with which the answer to a GET, or to a POST that counts as a read, may be stored, or why it is not. `said` is what counts after the
    route had its word."""
    if asked.no_store:
        return Leave("the request says no-store (RFC 9111 §5.2.1.5)", permanent=False)
    if why := objection(said):
        return Leave(why, permanent=said.status < 400 and said.status not in _PARTS)
    if nominated(head.fields) is None:
        return Leave("Vary: * matches no later request (RFC 9111 §4.1)")
    if too_large(head.fields, max_bytes):
        return Leave("larger than cache.max_entry_size")
    if why := _nothing_gained(said, http_mode):
        return Leave(why, permanent=said.status < 400)
    return storable_fields(head.fields, said, response_time)


def objection(said: Said) -> str:
    """Why an answer must not be stored, and what is stored not be used any more; '' where nothing speaks against it."""
    directives = said.directives
    if said.status < 200 or said.status in _PARTS:
        return f"a {said.status} is not a whole answer (RFC 9111 §3)"
    if "must-understand" in directives and said.status not in UNDERSTOOD_STATUSES:
        return f"must-understand, and {said.status} is not understood (RFC 9111 §5.2.2.3)"
    if "no-store" in directives and "must-understand" not in directives:
        return "the answer says no-store (RFC 9111 §5.2.2.5)"
    if said.is_private:
        return "the answer says private, and the cache is shared (RFC 9111 §5.2.2.7)"
    if not _allowed_at_all(said):
        return f"nothing says that a {said.status} may be stored (RFC 9111 §3)"
    return ""


def storable_fields(fields: Fields, said: Said, response_time: float) -> Fields:
    """The fields to keep: without those of a qualified `no-cache` or `private`, with a Date (RFC 9110 §6.6.1), and with `Accept-Ranges`
    where ranges are served from what is stored: not from JSON, whose links are rewritten.

    A cookie is kept where the origin itself lets the answer be reused (RFC 9111 §7.3), not where a route does. Hop-by-hop fields are gone
    already, since the hop at the origin removed them.
    """
    gone = _COOKIES if said.ttl_of_route is not None else frozenset()
    if directives := said.directives:
        gone |= directives.fields_named("no-cache")
        if said.shared:
            gone |= directives.fields_named("private")
    having = [] if "Date" in fields else [("Date", print_date(response_time))]
    if is_json(fields):
        gone |= {"accept-ranges"}
    elif said.status == 200 and "Accept-Ranges" not in fields:
        having.append(("Accept-Ranges", "bytes"))
    is_changed = having or not gone.isdisjoint(map(str.lower, fields))
    return changed(fields, without=gone, having=having) if is_changed else fields


def _allowed_at_all(said: Said) -> bool:
    directives = said.directives
    return (
        said.status in HEURISTIC_STATUSES
        or said.expires is not None
        or said.ttl_of_route is not None
        or "public" in directives
        or "max-age" in directives
        or (said.shared and "s-maxage" in directives)
        or (not said.shared and "private" in directives)
    )


def _nothing_gained(said: Said, http_mode: bool) -> str:
    # Allowed, but neither fresh for a moment, nor to be asked for cheaply, nor good for a stale window: only a burden.
    if not said.is_failure and (said.has_validator or (said.has_windows and not said.never_stale)):
        return ""
    if said.must_validate or lifetime(said, heuristics=http_mode).seconds <= 0.0:
        return "it would be stale at once, and has no validator"
    return ""


def too_large(fields: Fields, max_bytes: int) -> bool:
    """Whether an answer says of itself that it is longer than `max_bytes`."""
    length = fields.get("Content-Length", "")
    return length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > max_bytes)

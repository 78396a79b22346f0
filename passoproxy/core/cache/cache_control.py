"""Cache directives (RFC 9111 §5.2, RFC 9213), and what an answer says of its own reuse.

`Said` is read from the fields here and rewritten by a route's policy in `freshness`; `storing` and `expiry` judge it without telling the two
apart. `Asked` is what a request wants, weighed in `reuse`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from functools import lru_cache

import http_sf

from passoproxy.core.http.messages import Fields
from passoproxy.core.http.syntax import is_token, parse_date, split_list, unquoted
from passoproxy.values import value

LONGEST_SECONDS = 2**31
"""What a delta-seconds beyond it counts as (RFC 9111 §1.2.2)."""

_TARGETS_SHARED = ("Passoproxy-Cache-Control", "CDN-Cache-Control")
_TARGETS_PRIVATE = ("Passoproxy-Cache-Control",)
_SECONDS_NAMED = frozenset({"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"})


class Directives(dict[str, str | None]):
    """Directives by lower-case name, not to be changed; the argument is unquoted text, None without one.

    Of a repeated directive the first one counts (RFC 9111 §4.2.1); `targeted` is the field's name if RFC 9213 gave them.
    """

    __slots__ = ("targeted",)

    def __init__(
        self, members: Mapping[str, str | None] | Iterable[tuple[str, str | None]] = (), targeted: str = ""
    ) -> None:
        super().__init__(members)
        self.targeted = targeted

    def seconds(self, name: str) -> float | None:
        """The argument as seconds; None without the directive, 0 if its argument is no delta-seconds.

        Invalid freshness information counts as stale (RFC 9111 §4.2.1).
        """
        return (read_seconds(self[name]) or 0.0) if name in self else None

    def fields_named(self, name: str) -> frozenset[str]:
        """The lower-case field names of a qualified `no-cache` or `private`; none if the list is empty or not of names."""
        if not (argument := self.get(name)):
            return frozenset()
        names = split_list(argument)
        return frozenset(each.lower() for each in names) if all(map(is_token, names)) else frozenset()


NONE_SAID = Directives()
"""No directive at all."""


def read_seconds(text: str | None) -> float | None:
    """A delta-seconds (RFC 9111 §1.2.2), clamped to LONGEST_SECONDS; None where `text` is none."""
    if not text or not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0")
    return float(LONGEST_SECONDS if len(digits) > 10 else min(int(digits or "0"), LONGEST_SECONDS))


def parse(lines: Iterable[str]) -> Directives:
    """The directives of `Cache-Control`, over all its lines (RFC 9111 §5.2)."""
    text = ",".join(lines)
    return _remembered(text) if len(text) <= 256 else _parsed(text)


def of_response(fields: Fields, *, shared: bool) -> Directives:
    """What a response says: the first usable targeted field (RFC 9213 §2.2), else `Cache-Control`."""
    for name in _TARGETS_SHARED if shared else _TARGETS_PRIVATE:
        if name in fields and (found := _targeted(name, ", ".join(fields.getall(name)))):
            return found
    return parse(fields.getall("Cache-Control")) if "Cache-Control" in fields else NONE_SAID


def _parsed(text: str) -> Directives:
    members: dict[str, str | None] = {}
    for member in split_list(text):
        name, mark, argument = member.partition("=")
        stripped = name.rstrip(" \t")
        # What stands outside quotation marks keeps its white space, so that `max-age= 1` is no number. `max-age =1` is no directive
        # by the grammar; it counts as one with an unreadable argument, which is the careful reading.
        readable = unquoted(argument) if stripped == name else ""
        members.setdefault(stripped.lower(), readable if mark else None)
    return Directives(members)


# A pure function of a short text, and an origin repeats the same few texts: remembering them spares hits the parsing.
_remembered = lru_cache(maxsize=512)(_parsed)


def _targeted(name: str, value: str) -> Directives | None:
    # A field that is empty or no Dictionary counts as absent (RFC 9213 §2.1).
    try:
        parsed = http_sf.parse(value.encode("utf-8", "surrogateescape"), tltype="dictionary")
    except ValueError:
        return None
    if not isinstance(parsed, dict) or not parsed:
        return None
    values = ((key, item[0] if isinstance(item, tuple) else item) for key, item in parsed.items())
    # `no-store=?0` is a Boolean that says no.
    return Directives([(key, _argument(key, value)) for key, value in values if value is not False], name)


def _argument(key: str, value: object) -> str | None:
    if value is True:
        return None
    # An Integer and nothing else: text in its place is no delta-seconds (RFC 9213 §2.1).
    return "" if key in _SECONDS_NAMED and type(value) is not int else str(value)


@value
class Asked:
    """What a request's `Cache-Control` asks of a cache (RFC 9111 §5.2.1, RFC 5861 §4). Seconds; None where not asked.

    `max_stale` without an argument is infinite. `Pragma` is not read: RFC 9111 §5.4 deprecates it.
    """

    max_age: float | None = None
    min_fresh: float | None = None
    max_stale: float | None = None
    no_cache: bool = False
    no_store: bool = False
    only_if_cached: bool = False
    stale_if_error: float = 0.0


NOTHING_ASKED = Asked()
"""A request without cache directives: nearly all of them."""


def asked(fields: Fields) -> Asked:
    """What a request's fields ask for. An unreadable argument is the strictest reading of its directive."""
    if "Cache-Control" not in fields:
        return NOTHING_ASKED
    said = parse(fields.getall("Cache-Control"))
    min_fresh = max_stale = None
    if "min-fresh" in said:
        seconds = read_seconds(said["min-fresh"])
        min_fresh = float(LONGEST_SECONDS) if seconds is None else seconds
    if "max-stale" in said:
        argument = said["max-stale"]
        max_stale = float("inf") if argument is None else read_seconds(argument) or 0.0
    return Asked(
        max_age=said.seconds("max-age"),
        min_fresh=min_fresh,
        max_stale=max_stale,
        no_cache="no-cache" in said,
        no_store="no-store" in said,
        only_if_cached="only-if-cached" in said,
        stale_if_error=said.seconds("stale-if-error") or 0.0,
    )


FAILURE_STATUSES = frozenset({429, 500, 502, 503, 504})


@value
class Said:
    """What is said of one answer. Moments are epoch seconds, windows and ages seconds.

    `date` is the origin's, or the time of receipt (RFC 9110 §6.6.1). `expires` is None if the field is absent or outweighed, and minus
    infinity if it is no date. `counts_from_storing` and `overridden` are the route's doing: freshness begins at the moment of storing, and
    this goes against what the origin said.
    """

    status: int
    directives: Directives
    date: float
    expires: float | None = None
    last_modified: float | None = None
    has_validator: bool = False
    shared: bool = True
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    stale_if_unauthorized: float = 0.0
    counts_from_storing: bool = False
    overridden: bool = False
    ttl_of_route: float | None = None
    is_failure: bool = field(init=False)
    """A stale answer may serve in its place (RFC 5861 §4; 429: contract §5)."""
    is_private: bool = field(init=False)
    """A shared cache must not have it (RFC 9111 §5.2.2.7)."""
    must_validate: bool = field(init=False)
    """It may never be used without asking (RFC 9111 §5.2.2.4)."""
    never_stale: bool = field(init=False)
    """Stale use is prohibited (RFC 9111 §4.2.4): no-cache, must-revalidate, and for a shared cache proxy-revalidate, s-maxage."""
    has_windows: bool = field(init=False)
    """Some stale use is foreseen."""

    def __post_init__(self) -> None:
        # Derived once: each is asked for several times on the way of an answer. A qualified `no-cache` or `private` names fields (RFC 9111
        # §5.2.2.4, §5.2.2.7).
        said, derive = self.directives, object.__setattr__
        must_validate = "no-cache" in said and not (said["no-cache"] and said.fields_named("no-cache"))
        is_private = "private" in said and not (said["private"] and said.fields_named("private"))
        for_shared = self.shared and ("proxy-revalidate" in said or "s-maxage" in said)
        derive(self, "is_failure", self.status in FAILURE_STATUSES)
        derive(self, "is_private", self.shared and is_private)
        derive(self, "must_validate", must_validate)
        derive(self, "never_stale", must_validate or "must-revalidate" in said or for_shared)
        derive(
            self,
            "has_windows",
            self.stale_while_revalidate > 0.0 or self.stale_if_error > 0.0 or self.stale_if_unauthorized > 0.0,
        )


def said_by(status: int, fields: Fields, *, response_time: float, shared: bool) -> Said:
    """What the origin says by `fields`; `response_time` is when they came."""
    directives = of_response(fields, shared=shared)
    expires = last_modified = None
    if "Expires" in fields and not directives.targeted:  # RFC 9213 §2.2 outweighs it
        # Of several lines the first counts (RFC 9111 §4.2.1); no date means the past (§5.3).
        expires = parse_date(fields["Expires"], response_time)
        expires = float("-inf") if expires is None else expires
    if "Last-Modified" in fields:
        last_modified = parse_date(fields["Last-Modified"], response_time)
    return Said(
        status=status,
        directives=directives,
        date=date_of(fields, response_time),
        expires=expires,
        last_modified=last_modified,
        has_validator="ETag" in fields or "Last-Modified" in fields,
        shared=shared,
        stale_while_revalidate=(directives.seconds("stale-while-revalidate") or 0.0) if directives else 0.0,
        stale_if_error=(directives.seconds("stale-if-error") or 0.0) if directives else 0.0,
    )


def date_of(fields: Fields, response_time: float) -> float:
    """When the answer was made; the time of receipt if the origin does not say (RFC 9110 §6.6.1)."""
    date = parse_date(fields["Date"], response_time) if "Date" in fields else None
    return response_time if date is None else date


def read_age(fields: Fields) -> float:
    """`Age` in seconds: the first member of the first line counts, and 0 where it is no number (RFC 9111 §5.1)."""
    return read_seconds(fields.get("Age", "").partition(",")[0].strip(" \t")) or 0.0

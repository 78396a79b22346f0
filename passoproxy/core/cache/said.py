"""What an answer says about its own reuse, as one value: read from its fields here, rewritten by a route's policy in `overriding`, and
then judged by the RFC's rules in `storing` and `terms`, which cannot tell the two apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from passoproxy.core.cache.directives import Directives, of_response, read_seconds
from passoproxy.core.http.grammar import parse_date
from passoproxy.core.http.messages import Fields

FAILURE_STATUSES = frozenset({429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Said:
    """What is said of one answer. Moments are epoch seconds, windows and ages seconds.

    `date` is the origin's, or the time of receipt (RFC 9110 §6.6.1). `expires` is None where the field is absent or outweighed, and
    minus infinity where it is no date. `counts_from_storing` and `overridden` are the route's doing: freshness begins at the moment of
    storing, and this goes against what the origin said.
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

    @property
    def is_failure(self) -> bool:
        """Whether it is an answer in place of which a stale one may serve (RFC 5861 §4; 429: contract §5)."""
        return self.status in FAILURE_STATUSES

    @property
    def is_private(self) -> bool:
        """Whether a shared cache must not have it (RFC 9111 §5.2.2.7)."""
        return self.shared and self.directives.applies_to_all("private")

    @property
    def must_validate(self) -> bool:
        """Whether it may never be used without asking (RFC 9111 §5.2.2.4)."""
        return self.directives.applies_to_all("no-cache")

    @property
    def never_stale(self) -> bool:
        """Whether stale use is prohibited (RFC 9111 §4.2.4): no-cache, must-revalidate, and for a shared cache proxy-revalidate, s-maxage."""
        said = self.directives
        return (
            self.must_validate
            or "must-revalidate" in said
            or (self.shared and ("proxy-revalidate" in said or "s-maxage" in said))
        )

    @property
    def has_windows(self) -> bool:
        """Whether any stale use is foreseen."""
        return max(self.stale_while_revalidate, self.stale_if_error, self.stale_if_unauthorized) > 0.0


def said_by(status: int, fields: Fields, *, response_time: float, shared: bool) -> Said:
    """What the origin says by `fields`; `response_time` is when they came."""
    directives = of_response(fields, shared=shared)
    return Said(
        status=status,
        directives=directives,
        date=date_of(fields, response_time),
        expires=_expires(fields, response_time)
        if not directives.targeted
        else None,  # RFC 9213 §2.2 outweighs Expires too
        last_modified=_date(fields, "Last-Modified", response_time),
        has_validator="ETag" in fields or "Last-Modified" in fields,
        shared=shared,
        stale_while_revalidate=directives.seconds("stale-while-revalidate") or 0.0,
        stale_if_error=directives.seconds("stale-if-error") or 0.0,
    )


def date_of(fields: Fields, response_time: float) -> float:
    """When the answer was made; the time of receipt where the origin does not say (RFC 9110 §6.6.1)."""
    date = _date(fields, "Date", response_time)
    return response_time if date is None else date


def read_age(fields: Fields) -> float:
    """`Age` in seconds: the first member of the first line counts, and 0 where it is no number (RFC 9111 §5.1)."""
    return read_seconds(fields.get("Age", "").partition(",")[0].strip(" \t")) or 0.0


def _date(fields: Fields, name: str, now: float) -> float | None:
    return parse_date(fields[name], now) if name in fields else None


def _expires(fields: Fields, now: float) -> float | None:
    # Several lines: the first occurrence counts (RFC 9111 §4.2.1); no date means the past (§5.3).
    if "Expires" not in fields:
        return None
    moment = parse_date(fields["Expires"], now)
    return float("-inf") if moment is None else moment

"""What to do with a request, given what is stored (RFC 9111 §4): serve, ask whether it still holds, fetch, or refuse.

Each plan carries its why. Nothing here knows how an answer is fetched, or what another hop makes of a failure: that comes back as one
of the failures below, and is answered by `on_failure`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum

from passoproxy.core.cache import cache_status
from passoproxy.core.cache.cache_control import NOTHING_ASKED, Asked
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.expiry import Terms
from passoproxy.core.cache.partial import covers
from passoproxy.core.cache.validation import nominees
from passoproxy.core.cache.vary import selected
from passoproxy.core.http.messages import Fields
from passoproxy.values import value


class Failure(Enum):
    """Why no answer can be had."""

    ERROR = cache_status.STALE_ERROR
    UNAUTHORIZED = cache_status.STALE_UNAUTHORIZED


@value
class Serve:
    """The stored answer serves. `detail` is that of Cache-Status; `renew` asks for a renewal in the background."""

    entry: Entry
    terms: Terms
    why: str
    is_stale: bool = False
    detail: str = ""
    renew: bool = False

    def clock(self, now: float) -> tuple[int, int]:
        """What the time changes in the answer: the whole seconds of `Age` (RFC 9111 §5.1), and of `ttl` in `Cache-Status`."""
        terms = self.terms
        return int(max(0.0, now - terms.born_at)), int((terms.fresh_until - now) // 1)


@value
class Revalidate:
    """Ask the origin whether one of `named` still holds; `entry` is the selected one, None if only other variants are stored. `part` is as that
    of `Fetch`, and none."""

    entry: Entry | None
    terms: Terms | None
    named: tuple[Entry, ...]
    forward: str
    why: str
    part: Entry | None = None


@value
class Fetch:
    """Get an answer from the origin. `entry` is what is stored and may fall in if that fails."""

    forward: str
    why: str
    entry: Entry | None = None
    terms: Terms | None = None
    part: Entry | None = None
    """A stored part that is not enough for this request: the rest may be all that has to be asked for."""


@value
class Refuse:
    """The origin must not be asked, and nothing stored may serve."""

    why: str


FRESH = "fresh"
"""Why an answer serves that the request takes as it is, until its freshness ends."""

Plan = Serve | Revalidate | Fetch | Refuse
TermsOf = Callable[[Entry], Terms]


@value
class Circumstances:
    """The world at the moment of planning: `now` in epoch seconds, and whether the origin is never asked.

    `ranged` says that a `Range` of the request counts, since it is a GET: a stored part may answer it.
    """

    now: float
    offline: bool = False
    ranged: bool = False


def plan(asked: Asked, request: Fields, stored: Sequence[Entry], terms_of: TermsOf, around: Circumstances) -> Plan:
    """The plan for a GET, a HEAD, or a POST that counts as a read. `stored` are all variants of its key, the youngest first."""
    entry = (stored[0] if not stored[0].varies else selected(stored, request)) if stored else None
    part = None
    if entry is not None and entry.status == 206 and not (around.ranged and covers(entry, request)):
        entry, part = None, entry
    if entry is not None:
        terms = terms_of(entry)
        if not terms.objection:
            return _with_entry(asked, entry, terms, stored, around)
    if asked.only_if_cached or around.offline:
        return Refuse("only-if-cached, and nothing stored" if asked.only_if_cached else "offline, and nothing stored")
    if entry is not None:
        return Fetch("miss", f"what is stored may not be used: {terms.objection}")
    if part is not None:
        return Fetch("partial", "only a part is stored (RFC 9111 §3.3)", part=part)
    if stored and (named := nominees(None, stored)):
        return Revalidate(None, None, named, "vary-miss", "other variants are stored, and may be named by their tags")
    return Fetch("vary-miss", "no stored variant matches") if stored else Fetch("uri-miss", "nothing stored")


def unasked(plan: Plan, why: str, now: float, asked: Asked, *, renew: bool = False) -> Plan:
    """`plan` where the origin is to be spared, for a reason `why`: what may serve after a failure serves at once, and is renewed if asked for."""
    if isinstance(plan, Serve | Refuse):
        return plan
    serve = on_failure(plan.entry, plan.terms, Failure.ERROR, now, asked)
    return plan if serve is None else replace(serve, why=f"{why}: {serve.why}", renew=renew)


def on_failure(
    entry: Entry | None, terms: Terms | None, failure: Failure, now: float, asked: Asked = NOTHING_ASKED
) -> Serve | None:
    """The stale answer that may serve after asking has failed (RFC 9111 §4.2.4, RFC 5861 §4); None where none may.

    A request's wish for something fresher does not stand in the way: there is nothing fresher to be had.
    """
    if entry is None or terms is None or terms.objection:
        return None
    if terms.is_fresh(now) and not terms.must_validate:
        return Serve(entry, terms, "fresh, and asking anew failed", detail=_own_detail(terms))
    until = _error_until(terms, asked) if failure is Failure.ERROR else terms.unauthorized_until
    if not terms.not_before <= now < until:
        return None
    return Serve(
        entry, terms, f"stale, within the window that ends at {until:.0f}", is_stale=True, detail=failure.value
    )


def _error_until(terms: Terms, asked: Asked) -> float:
    # The request may widen the window for itself (RFC 5861 §4), never what is prohibited (RFC 9111 §4.2.4).
    return terms.error_until if terms.never_stale else max(terms.error_until, terms.fresh_until + asked.stale_if_error)


def _with_entry(asked: Asked, entry: Entry, terms: Terms, stored: Sequence[Entry], around: Circumstances) -> Plan:
    now = around.now
    fresh = terms.fresh_from <= now < terms.fresh_until  # is_fresh, in place: each hit passes here
    unwanted = "" if asked is NOTHING_ASKED else _too_old_for(asked, terms, now)
    if fresh and not terms.must_validate and not unwanted:
        detail = cache_status.OVERRIDE if terms.overridden else ""
        return Serve(entry, terms, FRESH, detail=detail, renew=now >= terms.refresh_from)
    if not unwanted and (serve := _stale_without_asking(asked, entry, terms, around)):
        return serve
    if around.offline or asked.only_if_cached:
        return _instead_of_asking(entry, terms, around)
    why = unwanted or ("must be validated before each use" if terms.must_validate else "stale")
    forward = "request" if unwanted and fresh else "stale"
    if named := nominees(entry, stored):
        return Revalidate(entry, terms, named, forward, why)
    return Fetch(forward, f"{why}, and has no validator", entry, terms)


def _too_old_for(asked: Asked, terms: Terms, now: float) -> str:
    # RFC 9111 §5.2.1.1, §5.2.1.3, §5.2.1.4
    if asked.no_cache:
        return "the request says no-cache"
    if asked.max_age is not None and (terms.age(now) > asked.max_age or not asked.max_age):
        return "older than the request's max-age"
    if asked.min_fresh is not None and terms.fresh_until - now < asked.min_fresh:
        return "not fresh for as long as the request's min-fresh"
    return ""


def _stale_without_asking(asked: Asked, entry: Entry, terms: Terms, around: Circumstances) -> Serve | None:
    now = around.now
    if terms.never_stale or now < terms.not_before:  # prohibited (RFC 9111 §4.2.4), or of unknown age
        return None
    if asked.max_stale is not None and now - terms.fresh_until <= asked.max_stale:
        why = "stale, within the request's max-stale (RFC 9111 §5.2.1.2)"
        return Serve(entry, terms, why, is_stale=True, detail=_own_detail(terms))
    if now < terms.revalidate_until:
        why = "stale, within stale-while-revalidate (RFC 5861 §3)"
        return Serve(entry, terms, why, is_stale=True, detail=cache_status.STALE_REVALIDATING, renew=True)
    return None


def _instead_of_asking(entry: Entry, terms: Terms, around: Circumstances) -> Plan:
    # Without the origin, old answers serve however old (contract §7), unless stale use is prohibited (RFC 9111 §4.2.4).
    if not around.offline:
        return Refuse("only-if-cached, and what is stored may not serve this request")
    fresh = terms.is_fresh(around.now)
    if terms.never_stale and not (fresh and not terms.must_validate):
        return Refuse("offline, and what is stored must be validated")
    return Serve(entry, terms, "offline", is_stale=not fresh, detail=_own_detail(terms))


def _own_detail(terms: Terms) -> str:
    return cache_status.OVERRIDE if terms.overridden else ""


def renewal(served: Serve, stored: Sequence[Entry]) -> Revalidate | Fetch:
    """The question that renews an answer which was served without asking."""
    if named := nominees(served.entry, stored):
        return Revalidate(served.entry, served.terms, named, "stale", "renewed in the background")
    return Fetch("stale", "renewed in the background", served.entry, served.terms)

"""RFC 9111 §4: plans."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.cache.cache_control import NOTHING_ASKED, asked
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.expiry import terms
from passoproxy.core.cache.partial import Holding, as_part
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.cache.reuse import (
    Circumstances,
    Failure,
    Fetch,
    Refuse,
    Revalidate,
    Serve,
    on_failure,
    plan,
    renewal,
    unasked,
)
from passoproxy.core.http.messages import fields_of
from passoproxy.core.http.ranges import Span
from passoproxy.core.http.syntax import print_date

NOW = 1_700_000_000.0
HTTP = CacheMode(http=True)
ETAG = ("ETag", '"a"')


def entry(line="max-age=60", *fields, identifier="1", varies=()):
    all_fields = fields_of([("Date", print_date(NOW)), ("Cache-Control", line), *fields])
    return Entry(
        "k", identifier, "p", "GET", "/", 200, all_fields, varies, request_time=NOW, response_time=NOW, stored_at=NOW
    )


def planned(*stored, after=0.0, cc="", policy=None, offline=False, spared=False, mode=HTTP, request=()):
    fields = fields_of([*request, *([("Cache-Control", cc)] if cc else [])])
    policy = policy or RoutePolicy()
    found = plan(
        asked(fields), fields, stored, lambda each: terms(each, policy, mode), Circumstances(NOW + after, offline)
    )
    return unasked(found, "the origin is away", NOW + after, asked(fields), renew=True) if spared else found


WINDOWS = RoutePolicy(stale_while_revalidate=10.0, stale_if_error=20.0, stale_if_unauthorized=30.0)
OVERRIDE = RoutePolicy(ttl=60.0, override=True)


def test_nothing_stored():
    assert planned() == Fetch("uri-miss", "nothing stored")


def test_another_variant_is_stored():
    found = planned(entry(varies=(("foo", "1"),)))
    assert isinstance(found, Fetch)
    assert found.forward == "vary-miss"


def test_another_variant_with_a_strong_tag_is_asked_about_4_3_1():
    other = entry("max-age=60", ETAG, varies=(("foo", "1"),))
    found = planned(other)
    assert isinstance(found, Revalidate)
    assert (found.forward, found.entry, found.named) == ("vary-miss", None, (other,))


def test_a_stored_part_answers_what_it_covers_and_nothing_else_3_3():
    stored = as_part(replace(entry("max-age=60", ETAG), status=206), Holding((Span(0, 4),), 10))
    for wanted, ranged, serves in (("bytes=0-4", True, True), ("bytes=0-5", True, False), ("bytes=0-4", False, False)):
        found = plan(
            NOTHING_ASKED,
            fields_of([("Range", wanted)]),
            [stored],
            lambda each: terms(each, RoutePolicy(), HTTP),
            Circumstances(NOW, ranged=ranged),
        )
        assert isinstance(found, Serve) is serves
        if isinstance(found, Fetch):
            assert (found.forward, found.entry, found.part) == ("partial", None, stored)


def test_what_may_not_be_used_any_more_is_fetched_without_a_fallback():
    found = planned(entry("no-store"))
    assert isinstance(found, Fetch)
    assert (found.forward, found.entry) == ("miss", None)


@pytest.mark.parametrize(("cc", "offline"), [("only-if-cached", False), ("", True)])
def test_the_origin_must_not_be_asked(cc, offline):
    assert isinstance(planned(cc=cc, offline=offline), Refuse)
    assert isinstance(planned(entry("no-store"), cc=cc, offline=offline), Refuse)


@pytest.mark.parametrize(
    ("line", "after", "cc", "kind", "forward"),
    [
        ("max-age=60", 0, "", Serve, None),
        ("max-age=60", 59, "", Serve, None),
        ("max-age=60", 60, "", Fetch, "stale"),
        ("max-age=60", 60, "only-if-cached", Refuse, None),
        ("max-age=60", 5, "only-if-cached", Serve, None),
        ("max-age=60, no-cache", 0, "", Fetch, "stale"),
        ("max-age=60, must-revalidate", 5, "", Serve, None),
        ("max-age=60", 5, "no-cache", Fetch, "request"),
        ("max-age=60", 5, "no-cache, only-if-cached", Refuse, None),
        ("max-age=60", 0, "max-age=0", Fetch, "request"),
        ("max-age=60", 5, "max-age=5", Serve, None),
        ("max-age=60", 5, "max-age=4", Fetch, "request"),
        ("max-age=60", 5, "min-fresh=55", Serve, None),
        ("max-age=60", 5, "min-fresh=56", Fetch, "request"),
        ("max-age=60", 65, "min-fresh=1", Fetch, "stale"),
        ("max-age=60", 65, "max-stale=5", Serve, None),
        ("max-age=60", 65, "max-stale=4", Fetch, "stale"),
        ("max-age=60", 9999, "max-stale", Serve, None),
        ("max-age=60, must-revalidate", 65, "max-stale", Fetch, "stale"),
        ("max-age=60, no-cache", 5, "max-stale", Fetch, "stale"),
        ("s-maxage=60", 65, "max-stale", Fetch, "stale"),
        ("max-age=60", 65, "max-stale, max-age=5", Fetch, "stale"),
        ("max-age=60", -100, "", Fetch, "stale"),
    ],
)
def test_one_stored_answer(line, after, cc, kind, forward):
    found = planned(entry(line), after=after, cc=cc)
    assert type(found) is kind
    if forward is not None:
        assert found.forward == forward
        validated = planned(entry(line, ETAG), after=after, cc=cc)
        assert isinstance(validated, Revalidate)
        assert validated.forward == forward
        assert validated.entry is not None


def test_stale_while_revalidate_5861_3():
    found = planned(entry(), after=65, policy=WINDOWS)
    assert isinstance(found, Serve)
    assert (found.is_stale, found.detail, found.renew) == (True, "STALE_REVALIDATING", True)
    assert isinstance(planned(entry(), after=70, policy=WINDOWS), Fetch)
    assert isinstance(planned(entry(), after=65, policy=WINDOWS, cc="max-age=30"), Fetch)
    assert isinstance(planned(entry("max-age=60, must-revalidate"), after=65, policy=WINDOWS), Fetch)


def test_the_origins_own_window():
    assert isinstance(planned(entry("max-age=1, stale-while-revalidate=4"), after=4.9), Serve)
    assert isinstance(planned(entry("max-age=1, stale-while-revalidate=4"), after=5), Fetch)


def test_where_the_origin_is_spared_what_may_serve_after_an_error_serves_at_once():
    found = planned(entry(), after=75, policy=WINDOWS, spared=True)
    assert isinstance(found, Serve)
    assert (found.detail, found.renew, found.why[:20]) == ("STALE_ERROR", True, "the origin is away: ")
    assert isinstance(planned(entry(), after=75, policy=WINDOWS), Fetch)
    assert isinstance(planned(entry(), after=80, policy=WINDOWS, spared=True), Fetch)
    assert isinstance(planned(entry(), after=75, cc="stale-if-error=20", spared=True), Serve)
    reloaded = planned(entry(), after=5, cc="no-cache", policy=WINDOWS, spared=True)
    assert isinstance(reloaded, Serve)
    assert not reloaded.is_stale
    assert isinstance(planned(after=5, spared=True), Fetch)
    assert isinstance(planned(entry("max-age=60, must-revalidate"), after=75, policy=WINDOWS, spared=True), Fetch)
    fresh = planned(entry(), after=5, policy=WINDOWS, spared=True)
    assert isinstance(fresh, Serve)
    assert not fresh.renew


def test_refresh_ahead():
    policy = RoutePolicy(refresh_ahead=0.1)
    early, late = planned(entry(), after=53, policy=policy), planned(entry(), after=55, policy=policy)
    assert isinstance(early, Serve)
    assert isinstance(late, Serve)
    assert (early.renew, late.renew) == (False, True)


def test_override_is_told():
    found = planned(entry("no-cache, private"), policy=OVERRIDE, mode=CacheMode())
    assert isinstance(found, Serve)
    assert found.detail == "OVERRIDE"
    late = planned(entry("no-cache, private"), policy=OVERRIDE, mode=CacheMode(), after=999, cc="max-stale")
    assert isinstance(late, Serve)
    assert (late.detail, late.is_stale) == ("OVERRIDE", True)


@pytest.mark.parametrize(
    ("line", "after", "served"),
    [
        ("max-age=60", 10**9, True),
        ("max-age=60, must-revalidate", 5, True),
        ("max-age=60, must-revalidate", 65, False),
        ("max-age=60, no-cache", 5, False),
        ("s-maxage=60", 65, False),
    ],
)
def test_offline_serves_however_old_but_nothing_that_must_be_validated(line, after, served):
    assert isinstance(planned(entry(line, ETAG), after=after, offline=True), Serve if served else Refuse)


def test_offline_serves_what_a_request_would_have_fresher():
    assert isinstance(planned(entry(), cc="no-cache", offline=True), Serve)
    assert isinstance(planned(entry(), after=999, cc="only-if-cached", offline=True), Serve)


@pytest.mark.parametrize(
    ("line", "after", "failure", "served"),
    [
        ("max-age=60", 5, Failure.ERROR, True),  # fresh, and a request wanted it fresher
        ("max-age=60, no-cache", 5, Failure.ERROR, False),
        ("max-age=60", 79, Failure.ERROR, True),
        ("max-age=60", 80, Failure.ERROR, False),
        ("max-age=60", 85, Failure.UNAUTHORIZED, True),
        ("max-age=60", 90, Failure.UNAUTHORIZED, False),
        ("max-age=60, must-revalidate", 65, Failure.ERROR, False),
        ("max-age=60, proxy-revalidate", 65, Failure.UNAUTHORIZED, False),
        ("s-maxage=60", 65, Failure.ERROR, False),
        ("no-store", 5, Failure.ERROR, False),
        ("max-age=60", -100, Failure.ERROR, False),
        ("max-age=60, stale-if-error=100", 155, Failure.ERROR, True),
    ],
)
def test_after_a_failure(line, after, failure, served):
    stored = entry(line)
    agreed = terms(stored, WINDOWS, HTTP)
    found = on_failure(stored, agreed, failure, NOW + after)
    assert (found is not None) is served
    if found is not None and found.is_stale:
        assert found.detail == failure.value


def test_nothing_to_fall_back_on():
    assert on_failure(None, None, Failure.ERROR, NOW) is None
    assert on_failure(entry(), None, Failure.ERROR, NOW) is None


def test_renewal_asks_as_cheaply_as_it_can():
    for stored, kind in ((entry("max-age=60", ETAG), Revalidate), (entry(), Fetch)):
        served = planned(stored)
        assert isinstance(served, Serve)
        assert isinstance(renewal(served, (stored,)), kind)


@given(
    line=st.lists(
        st.sampled_from(["max-age=60", "max-age=0", "s-maxage=5", "no-cache", "no-store", "private", "must-revalidate", "public",
                         "stale-while-revalidate=30", "stale-if-error=40"]),
        max_size=4,
    ).map(", ".join),
    cc=st.lists(st.sampled_from(["max-age=10", "min-fresh=10", "max-stale=20", "max-stale", "no-cache", "only-if-cached"]), max_size=3)
    .map(", ".join),
    after=st.floats(-200, 400),
    window=st.floats(0, 50),
    spared=st.booleans(),
)  # fmt: skip
def test_stale_is_served_only_where_something_allows_it(line, cc, after, window, spared):
    stored, policy = entry(line or "x"), RoutePolicy(stale_while_revalidate=window, stale_if_error=window)
    agreed, now = terms(stored, policy, HTTP), NOW + after
    found = planned(stored, after=after, cc=cc, policy=policy, spared=spared)
    if not isinstance(found, Serve):
        return
    wish = asked(fields_of([("Cache-Control", cc)])) if cc else NOTHING_ASKED
    assert not agreed.objection
    assert not agreed.must_validate
    assert spared or not wish.no_cache
    assert found.is_stale is not agreed.is_fresh(now)
    if found.is_stale:
        allowed = [now < agreed.revalidate_until, wish.max_stale is not None, spared and now < agreed.error_until]
        assert any(allowed)
        assert not agreed.never_stale

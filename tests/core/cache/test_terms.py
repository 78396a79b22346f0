"""The terms of a stored answer: what follows from entry and policy alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.expiry import CLOCK_TOLERANCE, terms
from passoproxy.core.cache.policy import CacheMode, RoutePolicy
from passoproxy.core.http.messages import fields_of
from passoproxy.core.http.syntax import print_date

NOW = 1_700_000_000.0
HTTP = CacheMode(http=True)


def entry(line="", *fields, status=200, date=NOW, stored_at=NOW):
    all_fields = [("Date", print_date(date)), *fields, *([("Cache-Control", line)] if line else [])]
    return Entry(
        "k",
        "1",
        "p",
        "GET",
        "/",
        status,
        fields_of(all_fields),
        request_time=NOW,
        response_time=NOW,
        stored_at=stored_at,
    )


def test_age_and_freshness():
    found = terms(entry("max-age=60", ("Age", "20")), RoutePolicy(), HTTP)
    assert found.age(NOW) == 20
    assert found.age(NOW + 5) == 25
    assert found.age(NOW - 500) == 0
    assert found.fresh_until == NOW + 40
    assert found.is_fresh(NOW + 39.9)
    assert not found.is_fresh(NOW + 40)


def test_an_answer_from_the_future_has_no_known_age():
    found = terms(entry("max-age=9999"), RoutePolicy(), HTTP)
    assert found.is_fresh(NOW - CLOCK_TOLERANCE)
    assert not found.is_fresh(NOW - CLOCK_TOLERANCE - 1)


def test_an_override_counts_from_storing_and_its_age_does_not():
    policy = RoutePolicy(ttl=3600.0, override=True)
    found = terms(entry("no-cache, private", ("Age", "500"), stored_at=NOW + 1), policy, CacheMode())
    assert found.fresh_until == NOW + 3601
    assert found.age(NOW) == 500
    assert found.overridden
    assert not found.must_validate
    assert not found.objection


def test_a_changed_ttl_and_a_dropped_override_take_effect_on_what_is_stored():
    stored = entry("no-store")
    assert terms(stored, RoutePolicy(ttl=60.0, override=True), CacheMode()).fresh_until == NOW + 60
    assert terms(stored, RoutePolicy(ttl=5.0, override=True), CacheMode()).fresh_until == NOW + 5
    assert terms(stored, RoutePolicy(ttl=60.0), CacheMode()).objection


def test_windows_count_from_the_end_of_freshness():
    policy = RoutePolicy(stale_while_revalidate=10.0, stale_if_error=20.0, stale_if_unauthorized=30.0)
    found = terms(entry("max-age=60"), policy, HTTP)
    assert (found.revalidate_until, found.error_until, found.unauthorized_until) == (NOW + 70, NOW + 80, NOW + 90)


@pytest.mark.parametrize(
    "line", ["no-cache", "max-age=60, must-revalidate", "s-maxage=60", "max-age=60, proxy-revalidate"]
)
def test_prohibited_windows_never_begin(line):
    policy = RoutePolicy(stale_while_revalidate=10.0, stale_if_error=20.0, stale_if_unauthorized=30.0)
    found = terms(entry(line), policy, HTTP)
    assert {found.revalidate_until, found.error_until, found.unauthorized_until} == {float("-inf")}


@pytest.mark.parametrize(
    ("line", "ahead", "begins"),
    [("max-age=100", 0.1, NOW + 90), ("max-age=100", 0.0, float("inf")), ("max-age=100, immutable", 0.1, float("inf"))],
)
def test_refresh_ahead(line, ahead, begins):
    assert terms(entry(line), RoutePolicy(refresh_ahead=ahead), HTTP).refresh_from == begins


def test_heuristics_belong_to_mode_http():
    stored = entry("", ("Last-Modified", print_date(NOW - 1000)))
    assert terms(stored, RoutePolicy(), HTTP).fresh_until == NOW + 100
    assert terms(stored, RoutePolicy(), CacheMode()).fresh_until == NOW


@given(
    line=st.lists(
        st.sampled_from(
            ["max-age=60", "max-age=x", "s-maxage=5", "no-cache", "no-store", "private", "must-revalidate", "public", "immutable",
             "stale-while-revalidate=30", "stale-if-error=40", "must-understand"]
        ),
        max_size=4,
    ).map(", ".join),
    age=st.integers(0, 200),
    ttl=st.none() | st.floats(0, 100),
    override=st.booleans(),
    windows=st.tuples(*[st.floats(0, 50)] * 3),
    shared=st.booleans(),
    after=st.floats(-100, 400),
)  # fmt: skip
def test_invariants(line, age, ttl, override, windows, shared, after):
    policy = RoutePolicy(
        ttl=ttl,
        override=override,
        stale_while_revalidate=windows[0],
        stale_if_error=windows[1],
        stale_if_unauthorized=windows[2],
    )
    found = terms(entry(line, ("Age", str(age))), policy, CacheMode(http=True, shared=shared))
    assert found.age(NOW + after) >= 0.0
    assert found.lifetime.seconds >= 0.0
    for until in (found.revalidate_until, found.error_until, found.unauthorized_until):
        assert until == float("-inf") if found.never_stale else until >= found.fresh_until
    longest = max(100.0, ttl or 0.0)
    assert found.fresh_until <= NOW + longest

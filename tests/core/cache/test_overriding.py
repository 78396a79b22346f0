"""Contract §3 and §7: a route's policy as a rewrite of what the origin said."""

import pytest

from passoproxy.core.cache.cache_control import said_by
from passoproxy.core.cache.freshness import lifetime, with_policy
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.cache.storing import objection
from passoproxy.core.http.messages import fields_of
from passoproxy.core.http.syntax import print_date

NOW = 1_700_000_000.0


def said(line="", status=200, *fields, policy, shared=True):
    all_fields = [*fields, *([("Cache-Control", line)] if line else [])]
    return with_policy(said_by(status, fields_of(all_fields), response_time=NOW, shared=shared), policy)


OVERRIDE = RoutePolicy(ttl=3600.0, override=True)
FILL = RoutePolicy(ttl=3600.0)


@pytest.mark.parametrize(
    ("status", "seconds"), [(200, 3600), (203, 3600), (300, 3600), (301, 3600), (204, 300), (404, 300), (410, 300)]
)
def test_override_replaces_what_the_origin_says(status, seconds):
    found = said("no-cache, private, no-store, max-age=1", status, policy=OVERRIDE)
    assert not objection(found)
    assert lifetime(found, heuristics=False).seconds == seconds
    assert found.counts_from_storing
    assert not found.never_stale


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503, 504, 599])
def test_override_never_stores_these(status):
    assert objection(said("max-age=60", status, policy=OVERRIDE))


def test_override_leaves_other_statuses_to_the_origin():
    assert lifetime(said("max-age=60", 302, policy=OVERRIDE), heuristics=False).seconds == 60
    assert objection(said("no-store", 302, policy=OVERRIDE))


@pytest.mark.parametrize(
    ("line", "fields", "shared", "against"),
    [
        ("", [], True, False),
        ("no-cache, private", [], True, True),
        ("private", [], False, False),
        ("no-store", [], True, True),
        ("must-revalidate", [], True, True),
        ("s-maxage=9999", [], True, True),
        ("max-age=60", [], True, True),
        ("max-age=7200", [], True, False),
        ("", [("Expires", print_date(NOW + 60))], True, True),
        ("", [("Expires", print_date(NOW + 9999))], True, False),
    ],
)
def test_against_the_origins_word(line, fields, shared, against):
    assert said(line, 200, *fields, policy=OVERRIDE, shared=shared).overridden is against


def test_a_ttl_of_nothing_stores_nothing_but_with_a_window_asks_each_time():
    assert objection(said(policy=RoutePolicy(ttl=0.0, override=True)))
    found = said("no-store", policy=RoutePolicy(ttl=0.0, override=True, stale_if_error=60.0))
    assert not objection(found)
    assert lifetime(found, heuristics=False).seconds == 0


@pytest.mark.parametrize(
    ("line", "fields", "filled"),
    [
        ("", [], True),
        ("must-revalidate", [], True),
        ("public", [], True),
        ("max-age=5", [], False),
        ("s-maxage=5", [], False),
        ("no-store", [], False),
        ("no-cache", [], False),
        ("private", [], False),
        ("", [("Expires", "0")], False),
    ],
)
def test_without_override_ttl_fills_in_where_the_origin_is_silent(line, fields, filled):
    found = said(line, 200, *fields, policy=FILL)
    assert (lifetime(found, heuristics=False).seconds == 3600) is filled
    assert not found.counts_from_storing
    assert not found.overridden


def test_fill_in_for_a_private_cache():
    assert lifetime(said("private", policy=FILL, shared=False), heuristics=False).seconds == 3600
    assert lifetime(said("s-maxage=5", policy=FILL, shared=False), heuristics=False).seconds == 3600


@pytest.mark.parametrize(("status", "seconds"), [(404, 300), (500, 0), (302, 0), (403, 0)])
def test_fill_in_is_brief_for_nothing_found_and_not_for_faults(status, seconds):
    assert lifetime(said(status=status, policy=FILL), heuristics=False).seconds == seconds


def test_the_longer_window_applies():
    policy = RoutePolicy(ttl=1.0, stale_while_revalidate=10.0, stale_if_error=20.0, stale_if_unauthorized=30.0)
    found = said("stale-while-revalidate=100, stale-if-error=5", policy=policy)
    assert (found.stale_while_revalidate, found.stale_if_error, found.stale_if_unauthorized) == (100, 20, 30)


def test_a_stored_failure_has_no_windows():
    policy = RoutePolicy(stale_while_revalidate=10.0, stale_if_error=20.0, stale_if_unauthorized=30.0)
    assert not said("max-age=5, stale-if-error=9", 503, policy=policy).has_windows


def test_without_override_prohibitions_stay():
    found = said("max-age=5, must-revalidate", policy=RoutePolicy(ttl=60.0, stale_if_error=20.0))
    assert found.never_stale

"""RFC 9111 §3: what may be stored, and with which fields."""

import pytest

from passoproxy.core.cache.cache_control import NOTHING_ASKED, Asked, said_by
from passoproxy.core.cache.freshness import with_policy
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.cache.storing import Leave, judge
from passoproxy.core.http.messages import ResponseHead, fields_of
from passoproxy.core.http.syntax import print_date

NOW = 1_700_000_000.0
DATE = ("Date", print_date(NOW))


def verdict(line="", status=200, *fields, shared=True, asked=NOTHING_ASKED, policy=None, http=True):
    fields = fields_of([DATE, *fields, *([("Cache-Control", line)] if line else [])])
    said = with_policy(said_by(status, fields, response_time=NOW, shared=shared), policy or RoutePolicy())
    return judge(asked, ResponseHead(status, fields), said, response_time=NOW, http_mode=http, max_bytes=1000)


@pytest.mark.parametrize(
    ("line", "status", "fields", "shared", "kept"),
    [
        ("max-age=60", 200, [], True, True),
        ("max-age=60", 299, [], True, True),
        ("max-age=60", 302, [], True, True),
        ("max-age=60", 503, [], True, True),
        ("max-age=60", 599, [], True, True),
        ("max-age=60", 206, [], True, False),
        ("max-age=60", 304, [], True, False),
        ("max-age=60", 103, [], True, False),
        ("No-StOrE, max-age=60", 200, [], True, False),
        ("private, max-age=60", 200, [], True, False),
        ("private, max-age=60", 200, [], False, True),
        ('private="a", max-age=60', 200, [], True, True),
        ("", 302, [], True, False),
        ("private", 302, [("ETag", '"a"')], False, True),
        ("s-maxage=5", 302, [], True, True),
        ("s-maxage=5", 302, [], False, False),
        ("public", 302, [("ETag", '"a"')], True, True),
        ("", 302, [("Expires", print_date(NOW + 9))], True, True),
        ("no-store, must-understand, max-age=60", 200, [], True, True),
        ("no-store, must-understand, max-age=60", 599, [], True, False),
        ("no-cache", 200, [("ETag", '"a"')], True, True),
        ("max-age=60", 200, [("Vary", "*")], True, False),
        ("max-age=60", 200, [("Vary", ", *")], True, False),
        ("max-age=60", 200, [("Content-Length", "1000")], True, True),
        ("max-age=60", 200, [("Content-Length", "1001")], True, False),
        ("max-age=60", 200, [("Content-Length", "9" * 5000)], True, False),
        ("max-age=60", 200, [("Content-Length", "many")], True, True),
        ("max-age=60", 200, [("Set-Cookie", "a=b")], True, True),  # §7.3
        ("", 200, [], True, False),
        ("", 200, [("Last-Modified", print_date(NOW - 999))], True, True),
        ("no-cache", 200, [], True, False),
        ("no-cache, stale-if-error=60", 200, [], True, False),
        ("max-age=0, stale-if-error=60", 200, [], True, True),
        ("max-age=0, stale-if-error=60", 503, [], True, False),  # a failure is kept for its freshness alone
        ("max-age=0", 503, [("ETag", '"a"')], True, False),
        ("", 503, [("Last-Modified", print_date(NOW - 999))], True, False),
    ],
)
def test_storing_3(line, status, fields, shared, kept):
    assert isinstance(verdict(line, status, *fields, shared=shared), Leave) is not kept


def test_no_store_of_the_request_5_2_1_5():
    found = verdict("max-age=60", asked=Asked(no_store=True))
    assert isinstance(found, Leave)
    assert not found.permanent


@pytest.mark.parametrize(("status", "permanent"), [(200, True), (404, False), (500, False), (206, False)])
def test_a_fault_or_a_part_says_nothing_of_the_next_answer(status, permanent):
    found = verdict("no-store", status)
    assert isinstance(found, Leave)
    assert found.permanent is permanent


def test_a_stored_answer_has_a_date_9110_6_6_1():
    head = ResponseHead(200, fields_of([("Cache-Control", "max-age=9")]))
    said = said_by(200, head.fields, response_time=NOW, shared=True)
    found = judge(NOTHING_ASKED, head, said, response_time=NOW, http_mode=True, max_bytes=9)
    assert not isinstance(found, Leave)
    assert found["Date"] == print_date(NOW)


@pytest.mark.parametrize(
    ("fields", "kept"),
    [
        ([], "bytes"),
        ([("Accept-Ranges", "none")], "none"),
        ([("Content-Type", "application/json")], None),
        ([("Content-Type", "application/json"), ("Accept-Ranges", "bytes")], None),  # links in it are rewritten
    ],
)
def test_ranges_are_offered_of_what_is_served_as_it_is_stored(fields, kept):
    found = verdict("max-age=9", 200, *fields)
    assert not isinstance(found, Leave)
    assert found.get("Accept-Ranges") == kept


@pytest.mark.parametrize(("policy", "kept"), [(RoutePolicy(), True), (RoutePolicy(ttl=5.0, override=True), False)])
def test_a_cookie_is_kept_by_the_origins_word_alone(policy, kept):
    found = verdict("max-age=9", 200, ("Set-Cookie", "a=b"), policy=policy)
    assert not isinstance(found, Leave)
    assert ("Set-Cookie" in found) is kept


@pytest.mark.parametrize(
    ("line", "shared", "left"),
    [
        ('no-cache="a, b", max-age=9', True, {"c"}),
        ('private="A", max-age=9', True, {"b", "c"}),
        ('private="A", max-age=9', False, {"a", "b", "c"}),
    ],
)
def test_named_fields_are_not_stored(line, shared, left):
    found = verdict(line, 200, ("a", "1"), ("b", "2"), ("c", "3"), shared=shared)
    assert not isinstance(found, Leave)
    assert {name for name in found if len(name) == 1} == left

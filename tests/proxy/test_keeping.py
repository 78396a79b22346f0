"""Into the store and out of it: limits, failures, and parts that are joined."""

import pytest

from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.partial import Holding, as_part
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.http.messages import fields_of
from passoproxy.core.http.ranges import Span
from passoproxy.proxy.fetch import LARGEST_TAGGED, finished, is_all, joinable
from tests.fakes import ChunkedBody, response

FIELDS = fields_of([("ETag", '"a"'), ("Cache-Control", "max-age=9")])
ENTRY = Entry("k", "1", "p", "GET", "/", 206, FIELDS)
PART = as_part(ENTRY, Holding((Span(0, 4),), 10))


@pytest.mark.parametrize(
    ("fields", "most"),
    [
        ([("ETag", '"b"'), ("Content-Range", "bytes 5-9/10")], 100),
        ([("ETag", '"a"')], 100),
        ([("ETag", '"a"'), ("Content-Range", "bytes 5-9/10")], 9),
    ],
)
async def test_what_is_not_to_be_joined_keeps_its_body(fields, most):
    body = ChunkedBody(b"56789")
    assert await joinable(response(206, fields, body), PART, most) is None
    assert not body.closed
    assert body._chunks


def test_a_part_is_stored_only_if_all_of_it_came():
    assert (is_all(PART, 5), is_all(PART, 4), is_all(Entry("k", "1", "p", "GET", "/", 200), 4)) == (True, False, True)


@pytest.mark.parametrize(
    ("entry", "body", "tagged"),
    [
        (Entry("k", "1", "p", "GET", "/", 200), b"x", True),
        (Entry("k", "1", "p", "GET", "/", 200), None, False),
        (Entry("k", "1", "p", "GET", "/", 200), b"x" * (LARGEST_TAGGED + 1), False),
        (Entry("k", "1", "p", "GET", "/", 404), b"x", False),
        (Entry("k", "1", "p", "POST", "/", 200), b"x", False),
        (Entry("k", "1", "p", "GET", "/", 200, FIELDS), b"x", False),
        (PART, b"x", False),
    ],
)
async def test_who_gets_a_made_tag(entry, body, tagged):
    assert bool((await finished(entry, RoutePolicy(), body)).made_etag) is tagged

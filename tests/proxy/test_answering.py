"""How answers are dressed: Age, Cache-Status, 304."""

import pytest

from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.expiry import Terms
from passoproxy.core.cache.freshness import Lifetime
from passoproxy.core.cache.reuse import Serve
from passoproxy.core.http.messages import RequestHead, fields_of
from passoproxy.core.http.syntax import print_date
from passoproxy.ports import BytesBody, Request
from passoproxy.proxy.cache import from_store, passed, streamed
from tests.fakes import ChunkedBody, response

NOW = 1_700_000_000.0


def entry(**more):
    return Entry(
        "k", "1", "p", "GET", "/", 200, fields_of([("Cache-Status", "far; hit"), ("X", "1"), ("Age", "9")]), **more
    )


def stored(head, found, body, age=0.0):
    """The answer from the store."""
    terms = Terms(Lifetime(60.0, ""), NOW - age, NOW - 60, NOW + 60)
    return from_store(Request(head, BytesBody()), Serve(found, terms, "fresh"), body, NOW, "m")


async def test_a_stored_answer():
    body = BytesBody(b"x")
    answer = stored(RequestHead("GET", "/"), entry(digest="d"), body, 12.9)
    assert dict(answer.head.fields) == {"Cache-Status": "far; hit, m", "X": "1", "Age": "12"}
    assert (answer.head.status, answer.body, answer.content_id) == (200, body, "d")


@pytest.mark.parametrize(("age", "told"), [(0.9, None), (1.0, "1"), (30.5, "30")])
async def test_a_streamed_answer_tells_its_age_from_one_second_on(age, told):
    stored = entry()
    answer = streamed(RequestHead("GET", "/"), stored.head, stored, BytesBody(), age, "m", NOW)
    assert answer.head.fields.get("Age") == told


@pytest.mark.parametrize(("said", "told"), [("-5", None), ("soon", None), ("1.5", None), ("", None), ("0", "0")])
async def test_an_age_that_is_none_is_not_passed_on(said, told):
    stored = entry()
    head = stored.head.with_fields(fields_of([("Age", said)]))
    answer = streamed(RequestHead("GET", "/"), head, stored, BytesBody(), 0.5, "m", NOW)
    assert answer.head.fields.get("Age") == told
    assert passed(response(200, [("Age", said)]), "m", NOW, NOW).head.fields.get("Age") == told


async def test_a_304_tells_the_outer_hop_how_long_the_content_is():
    asked = RequestHead("GET", "/", fields_of([("If-None-Match", '"a"')]))
    answer = stored(asked, entry(made_etag='W/"a"', size=5), BytesBody(b"hello"))
    assert (answer.head.status, answer.head.fields["Content-Length"]) == (304, "5")


async def test_a_made_tag_answers_conditions():
    body = ChunkedBody(b"x")
    asked = RequestHead("GET", "/", fields_of([("If-None-Match", 'W/"pp-1"')]))
    answer = stored(asked, entry(made_etag='W/"pp-1"'), body)
    assert (answer.head.status, answer.head.fields["ETag"]) == (304, 'W/"pp-1"')
    assert answer.body is not body


async def test_head_and_post():
    body = ChunkedBody(b"x")
    answer = stored(RequestHead("HEAD", "/"), entry(), body)
    assert answer.body.length == 0
    assert answer.body is not body
    asked = RequestHead("POST", "/", fields_of([("If-None-Match", "*")]))
    assert stored(asked, entry(made_etag='W/"a"'), BytesBody()).head.status == 200


@pytest.mark.parametrize(
    ("fields", "delay", "age"), [([], 0.5, None), ([], 3.0, "3"), ([("Date", print_date(NOW - 7))], 0.0, "7")]
)
def test_passed(fields, delay, age):
    answer = passed(response(201, fields), "m", NOW - delay, NOW)
    assert (answer.head.status, answer.head.fields["Cache-Status"], answer.head.fields.get("Age")) == (201, "m", age)

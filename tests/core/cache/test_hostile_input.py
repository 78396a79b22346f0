"""Input that no honest peer sends: read carefully, or as nothing; never an error, never a wrong hit."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.cache import cache_control, invalidation, key, vary
from passoproxy.core.cache.cache_control import read_age, said_by
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.expiry import terms
from passoproxy.core.cache.freshness import initial_age
from passoproxy.core.cache.key import Unreadable
from passoproxy.core.cache.policy import CacheMode, KeyPolicy, RoutePolicy
from passoproxy.core.http.messages import RequestHead, fields_of

NOW = 1_700_000_000.0
MODE = CacheMode(http=True)


def agreed(*fields, status=200):
    entry = Entry("k", "1", "p", "GET", "/", status, fields_of(fields), request_time=NOW, response_time=NOW)
    return terms(entry, RoutePolicy(), MODE)


@pytest.mark.parametrize("value", ["-1", "-99999999999999999999", "x", "1.5", "", "٣", "1 2", "0x10", "1e3"])
def test_an_age_that_is_no_number_is_none(value):
    assert read_age(fields_of([("Age", value)])) == 0.0


@pytest.mark.parametrize("value", ["2147483648", "9" * 30, "9" * 10_000])
def test_an_overflowing_age_is_the_longest_there_is(value):
    assert read_age(fields_of([("Age", value)])) == cache_control.LONGEST_SECONDS
    assert not agreed(("Cache-Control", "max-age=100"), ("Age", value)).is_fresh(NOW)


@pytest.mark.parametrize("date", ["", "yesterday", "Mon, 99 Jan 2024 00:00:00 GMT", "0", "-1", "\udcff", "x" * 10_000])
@pytest.mark.parametrize("name", ["Date", "Last-Modified", "Expires"])
def test_a_date_that_is_none(name, date):
    judged = agreed(("Cache-Control", "max-age=100"), (name, date))
    assert judged.is_fresh(NOW)
    assert judged.age(NOW) == 0.0
    assert not agreed(("Expires", date)).is_fresh(NOW)


@pytest.mark.parametrize("year", ["0001", "9999"])
def test_dates_at_the_ends_of_time(year):
    judged = agreed(("Date", f"Mon, 01 Jan {year} 00:00:00 GMT"), ("Cache-Control", "max-age=9999999999"))
    assert math.isfinite(judged.age(NOW))
    assert math.isfinite(judged.fresh_until)


@pytest.mark.parametrize(
    "text",
    [
        "max-age=" + "9" * 10_000,
        "x=" + "a" * 10_000 + ", max-age=5",
        'x="' + "a" * 10_000,
        "," * 10_000 + "max-age=5",
        ", ".join(f"x{number}" for number in range(2000)),
        '"' * 10_000,
        "\\" * 10_000,
        'private="' + ",".join(f"f{number}" for number in range(2000)) + '"',
    ],
)
def test_directives_of_ten_thousand_bytes(text):
    said = said_by(200, fields_of([("Cache-Control", text)]), response_time=NOW, shared=True)
    assert said.status == 200
    cache_control.asked(fields_of([("Cache-Control", text)]))
    for name in ("Passoproxy-Cache-Control", "CDN-Cache-Control"):
        cache_control.of_response(fields_of([(name, text)]), shared=True)


@given(st.text(max_size=60))
def test_no_text_makes_reading_fail(text):
    fields = fields_of(
        [(name, text) for name in ("Cache-Control", "CDN-Cache-Control", "Age", "Expires", "Vary", "ETag")]
    )
    said = said_by(200, fields, response_time=NOW, shared=True)
    assert said.stale_if_error >= 0.0
    assert cache_control.asked(fields).max_stale is None or cache_control.asked(fields).max_stale >= 0.0
    assert initial_age(fields, NOW, NOW) >= 0.0
    vary.nominated(fields)
    invalidation.tagged((), fields_of([("Cache-Groups", text)]))


def test_json_nested_ten_thousand_deep_is_no_key():
    for opening, closing in (("[", "]"), ('{"a":', "}")):
        body = (opening * 10_000 + "1" + closing * 10_000).encode()
        with pytest.raises(Unreadable):
            key.content_of(fields_of([("Content-Type", "application/json")]), body, KeyPolicy())
    just = b"[" * 65 + b"]" * 65
    with pytest.raises(Unreadable, match="nested deeper"):
        key.content_of(fields_of([("Content-Type", "application/json")]), just, KeyPolicy())


def test_key_strings_of_64_kib_are_digests_and_told_apart_to_the_last_byte():
    heads = [
        RequestHead("GET", "/" + "a" * 65_536 + end, fields_of([("X", "v" * 65_536)])) for end in ("b", "c", "?b", "?c")
    ]
    keys = {key.primary_key("me", head, KeyPolicy(headers=("X",))) for head in heads}
    assert len(keys) == 4
    assert {len(each) for each in keys} == {64}


def test_vary_on_thousands_of_names_is_read():
    names = vary.nominated(fields_of([("Vary", ", ".join(f"X-{number}" for number in range(3000)))]))
    assert names is not None
    assert len(names) == 3000
    assert vary.nominated(fields_of([("Vary", "a, *")])) is None

"""RFC 9111 §5.2 and RFC 9213: directives read from fields."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.cache.cache_control import (
    LONGEST_SECONDS,
    NONE_SAID,
    NOTHING_ASKED,
    Asked,
    Said,
    asked,
    of_response,
    parse,
    read_seconds,
)
from passoproxy.core.http.messages import fields_of


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("3600", 3600),
        ("003600", 3600),
        ("2147483647", 2147483647),
        ("2147483648", LONGEST_SECONDS),
        ("2147483649", LONGEST_SECONDS),
        ("99999999999", LONGEST_SECONDS),
        ("9" * 10_000, LONGEST_SECONDS),
        ("0" * 5_000 + "7", 7),
        ("", None),
        (None, None),
        ("-1", None),
        ("+1", None),
        ("1.0", None),
        ("abc", None),
        ("1 ", None),
        (" 1", None),
        ("'3600'", None),
        ("\u0663", None),  # a digit, but no ASCII one
        ("\u00b2", None),
    ],
)
def test_delta_seconds_1_2_2(text, seconds):
    assert read_seconds(text) == seconds


@pytest.mark.parametrize(
    ("lines", "max_age"),
    [
        (["max-age=1800, max-age=1"], 1800),  # the first of several counts, §4.2.1
        (["max-age=1", "max-age=1800"], 1),
        (['max-age="3600"'], 3600),  # both forms are accepted, §5.2
        (['extension="max-age=3600", max-age=1'], 1),
        (['max-age=1, extension="max-age=3600"'], 1),
        (["MaX-aGe=5"], 5),
        (["foo, max-age=7 , bar=baz"], 7),
        ([",, max-age=7,,"], 7),
        (["max-age =3600"], 0),  # invalid freshness information is stale, §4.2.1
        (["max-age= 3600"], 0),
        (["max-age='3600'"], 0),
        (["max-age=3600.0"], 0),
        (["max-age=-3600"], 0),
        (["max-age=a3600"], 0),
        (["max-age"], 0),
        (["s-maxage=3"], None),
        (['"max-age=5"'], None),
        ([""], None),
        (["x=" + "y" * 10_000 + ", max-age=9"], 9),
    ],
)
def test_max_age_5_2_2_1(lines, max_age):
    assert parse(lines).seconds("max-age") == max_age


def test_a_text_is_parsed_once():
    assert parse(["max-age=77, private"]) is parse(["max-age=77, private"])


@pytest.mark.parametrize(
    ("line", "to_all", "named"),
    [
        ("no-cache", True, set()),
        ('no-cache="a, B"', False, {"a", "b"}),
        ("no-cache=a", False, {"a"}),
        ('no-cache=""', True, set()),
        ('no-cache="a b"', True, set()),  # no list of names: the careful reading is the unqualified one
        ("max-age=1", False, set()),
    ],
)
def test_qualified_no_cache_5_2_2_4(line, to_all, named):
    said = parse([line])
    assert Said(200, said, 0.0).must_validate is to_all
    assert said.fields_named("no-cache") == named


@pytest.mark.parametrize(
    ("fields", "shared", "targeted", "members"),
    [
        ([("CDN-Cache-Control", "max-age=10"), ("Cache-Control", "no-store")], True, "CDN-Cache-Control", {"max-age": "10"}),
        ([("CDN-Cache-Control", "max-age=10"), ("Cache-Control", "no-store")], False, "", {"no-store": None}),
        (
            [("CDN-Cache-Control", "max-age=10"), ("Passoproxy-Cache-Control", "private")],
            True,
            "Passoproxy-Cache-Control",
            {"private": None},
        ),
        ([("Passoproxy-Cache-Control", "max-age=3, foo=bar")], False, "Passoproxy-Cache-Control", {"max-age": "3", "foo": "bar"}),
        ([("CDN-Cache-Control", "max-age=10, &&&&&"), ("Cache-Control", "no-store")], True, "", {"no-store": None}),
        ([("CDN-Cache-Control", "")], True, "", {}),
        ([("CDN-Cache-Control", "MaX-aGe=3600")], True, "", {}),
        ([("CDN-Cache-Control", 'max-age="10"')], True, "CDN-Cache-Control", {"max-age": ""}),
        ([("CDN-Cache-Control", "max-age=1.5")], True, "CDN-Cache-Control", {"max-age": ""}),
        ([("CDN-Cache-Control", "no-store=?0, max-age=4")], True, "CDN-Cache-Control", {"max-age": "4"}),
        ([("CDN-Cache-Control", "x=(1 2), max-age=4")], True, "CDN-Cache-Control", None),
        ([("CDN-Cache-Control", "max-age=4"), ("CDN-Cache-Control", "private")], True, "CDN-Cache-Control", {"max-age": "4", "private": None}),
        ([], True, "", {}),
    ],
)  # fmt: skip
def test_targeted_fields_9213(fields, shared, targeted, members):
    said = of_response(fields_of(fields), shared=shared)
    assert said.targeted == targeted
    if members is not None:
        assert dict(said) == members


def test_unreadable_argument_of_a_targeted_field_is_stale():
    assert of_response(fields_of([("CDN-Cache-Control", 'max-age="10"')]), shared=True).seconds("max-age") == 0


def test_nothing_said():
    assert of_response(fields_of(), shared=True) is NONE_SAID
    assert asked(fields_of([("Pragma", "no-cache")])) is NOTHING_ASKED  # §5.4


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("max-age=0", Asked(max_age=0.0)),
        ("max-age=abc", Asked(max_age=0.0)),
        ("min-fresh=20", Asked(min_fresh=20.0)),
        ("min-fresh=x", Asked(min_fresh=float(LONGEST_SECONDS))),
        ("max-stale", Asked(max_stale=float("inf"))),
        ("max-stale=5", Asked(max_stale=5.0)),
        ("max-stale=x", Asked(max_stale=0.0)),
        ("no-cache, no-store, only-if-cached", Asked(no_cache=True, no_store=True, only_if_cached=True)),
    ],
)
def test_request_directives_5_2_1(line, expected):
    assert asked(fields_of([("Cache-Control", line)])) == expected


@given(st.text(max_size=60))
def test_any_text_is_read(text):
    said = parse([text])
    assert (said.seconds("max-age") or 0.0) >= 0.0
    assert all(name == name.lower() for name in said)

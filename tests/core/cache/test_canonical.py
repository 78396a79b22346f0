"""Canonical JSON: equal meanings, equal text."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.cache.key import DEEPEST_NESTING, Unreadable, content_of, member_names, read, text, without
from passoproxy.core.cache.policy import KeyPolicy
from passoproxy.core.http.messages import fields_of


def form(data):
    value = read(data if isinstance(data, bytes) else data.encode())
    member_names(value)
    return text(value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a":1,"b":2}', ' { "b" : 2 , "a" : 1 } '),
        ('{"a":{"x":1,"y":[]}}', '{"a":{"y":[],"x":1}}'),
        ("1", "1.0"),
        ("1", "1e0"),
        ("100", "1E2"),
        ("0", "-0"),
        ("0", "0.000"),
        ("-0.0", "0"),
        ("1.5", "15e-1"),
        ("1.50", "1.5"),
        ("1" + "0" * 40, "1e40"),
        ("123456789012345678", "123456789012345678.0"),
        ("123456789012345678901234567890.5", "1234567890123456789012345678905e-1"),
        ("-12", "-1.2e1"),
        ('"\\u00e9"', '"é"'),
        ('"\\/"', '"/"'),
    ],
)
def test_equal(one, other):
    assert form(one) == form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("[1,2]", "[2,1]"),
        ("1", '"1"'),
        ("1", "true"),
        ("0", "false"),
        ("null", '""'),
        ("1", "-1"),
        ("1.5", "-1.5"),
        ("0.1", "0.1000000000000000055511151231257827"),
        ('{"a":1}', '{"a":[1]}'),
        ('"a"', '"A"'),
        ("[]", "{}"),
        ("1e400", "1e401"),
    ],
)
def test_unequal(one, other):
    assert form(one) != form(other)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"nothing",
        b'{"a":1,"a":2}',
        b"NaN",
        b"-Infinity",
        b'{"a":Infinity}',
        b"\xff",
        b'"\xc3"',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b'{"\\u0000number":"15E-1"}',
        b"[" * 10_000 + b"]" * 10_000,
        b"[" * (DEEPEST_NESTING + 1) + b"]" * (DEEPEST_NESTING + 1),
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b"1e99999999999999999999999",
    ],
)
def test_unreadable(data):
    with pytest.raises(Unreadable):
        form(data)


def test_a_number_of_any_length_is_read():
    assert form("7" * 10_000) == form("7" * 10_000 + ".0")


def test_as_deep_as_allowed():
    assert form("[" * DEEPEST_NESTING + "]" * DEEPEST_NESTING)


@pytest.mark.parametrize(
    ("body", "paths", "left"),
    [
        ('{"a":1,"b":2}', ("a",), {"b": 2}),
        ('{"a":{"x":1,"y":2}}', ("a.x",), {"a": {"y": 2}}),
        ('{"a":[{"x":1},{"x":2,"y":3},4]}', ("a.x",), {"a": [{}, {"y": 3}, 4]}),
        ('{"a":1}', ("b", "a.x", "b.c"), {"a": 1}),
        ("[1]", ("a",), [1]),
    ],
)
def test_without(body, paths, left):
    assert without(read(body.encode()), paths) == left


def test_member_names_at_any_depth():
    assert member_names(read(b'{"a":[{"b":{"c":1}}],"d":2}')) == {"a", "b", "c", "d"}


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=8,
)


def shuffled(value):
    if isinstance(value, dict):
        return {name: shuffled(value[name]) for name in reversed(list(value))}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(values)
def test_key_order_and_layout_do_not_matter(value):
    assert form(json.dumps(value)) == form(json.dumps(shuffled(value), indent=2))


@given(values, values)
def test_unequal_values_have_unequal_forms(one, other):
    assert (form(json.dumps(one)) == form(json.dumps(other))) is (repr(_sorted(one)) == repr(_sorted(other)))


def _sorted(value):
    if isinstance(value, dict):
        return {name: _sorted(value[name]) for name in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def test_a_body_of_two_types_is_no_part_of_a_key():
    two = fields_of([("Content-Type", "application/json"), ("Content-Type", "text/plain")])
    with pytest.raises(Unreadable, match="several types"):
        content_of(two, b"{}", KeyPolicy())

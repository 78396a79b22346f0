"""Tokens, values, quoted strings, lists (RFC 9110 §5) and dates (§5.6.7)."""

from __future__ import annotations

import calendar
import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.http.messages import fields_of
from passoproxy.core.http.syntax import (
    is_field_value,
    is_token,
    members_of,
    parse_date,
    print_date,
    quoted,
    split_list,
    unquoted,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET", True),
        ("!#$%&'*+-.^_`|~09azAZ", True),
        ("", False),
        ("a b", False),
        ("a:", False),
        ("é", False),
        ("a\n", False),
    ],
)
def test_tokens_9110_5_6_2(text: str, expected: bool) -> None:
    assert is_token(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", True), ("a\tb é\udcff", True), ("a\r", False), ("a\nb", False), ("\0", False), ("\x7f", False)],
)
def test_field_values_9110_5_5(text: str, expected: bool) -> None:
    assert is_field_value(text) is expected


@given(st.text())
def test_what_is_quoted_is_unquoted_again_9110_5_6_4(text: str) -> None:
    assert unquoted(quoted(text)) == text


@pytest.mark.parametrize("text", ["", '"', "a", '"a', 'a"'])
def test_what_is_no_quoted_string_stays(text: str) -> None:
    assert unquoted(text) == text


@pytest.mark.parametrize(
    ("value", "members"),
    [
        ("", []),
        (" , ,\t,", []),
        ("a", ["a"]),
        ("a,b , c", ["a", "b", "c"]),
        ('a, "b,c", d', ["a", '"b,c"', "d"]),
        ('a;x="b,\\",c", d', ['a;x="b,\\",c"', "d"]),
        ('"open, b', ['"open', "b"]),
        ('a, x"open, b', ["a", 'x"open', "b"]),
        ('a,"open', ["a", '"open']),
        ('"a" "b, c", d', ['"a" "b, c"', "d"]),
        ('"a\\', ['"a\\']),
        ('a,,"b"', ["a", '"b"']),
    ],
)
def test_lists_9110_5_6_1(value: str, members: list[str]) -> None:
    assert split_list(value) == members


@given(st.lists(st.text(st.characters(exclude_characters='",\\ \t'), min_size=1)))
def test_what_is_joined_is_split_again(members: list[str]) -> None:
    assert split_list(", ".join(members)) == members


@pytest.mark.parametrize("hostile", ['"\\' * 16000, '"a' * 16001, '\\"' * 16000, '"' * 32001, ',"' * 16000])
def test_splitting_takes_time_in_proportion(hostile: str) -> None:
    began = time.thread_time()
    split_list(hostile)
    assert time.thread_time() - began < 2


def test_members_over_several_lines_9110_5_3() -> None:
    fields = fields_of([("X", "a, b"), ("Y", "n"), ("x", "c")])
    assert members_of(fields, "X") == ["a", "b", "c"]
    assert members_of(fields, "Z") == []


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777.0),
        ("Sun Nov  6 08:49:37 1994", 784111777.0),
        ("Thu Nov 16 08:49:37 1994", 784975777.0),
        ("SUN, 06 nov 1994 08:49:37 gmt", 784111777.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228800.0),
        ("Thu, 29 Feb 2024 00:00:00 GMT", 1709164800.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253402300799.0),
    ],
)
def test_dates_are_read_in_three_forms(text: str, moment: float) -> None:
    assert parse_date(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov  1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT\n",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Foo, 06 Nov 1994 08:49:37 GMT",
    ],
)
def test_anything_else_is_no_date(text: str) -> None:
    assert parse_date(text) is None


@pytest.mark.parametrize(
    ("two", "now_year", "year"),
    [
        ("94", 2026, 1994),
        ("76", 2026, 2076),
        ("77", 2026, 1977),
        ("00", 2026, 2000),
        ("10", 1999, 2010),
        ("49", 1999, 2049),
        ("50", 1999, 1950),
        ("99", 2060, 2099),
        ("11", 2061, 2111),
    ],
)
def test_a_two_digit_year_lies_at_most_50_years_ahead(two: str, now_year: int, year: int) -> None:
    now = float(calendar.timegm((now_year, 6, 1, 0, 0, 0)))
    assert parse_date(f"Monday, 01-Jan-{two} 00:00:00 GMT", now) == calendar.timegm((year, 1, 1, 0, 0, 0))


def test_without_now_a_two_digit_year_is_of_the_epochs_century() -> None:
    assert parse_date("Monday, 01-Jan-70 00:00:00 GMT") == 0.0
    assert parse_date("Monday, 01-Jan-69 00:00:00 GMT") == calendar.timegm((2069, 1, 1, 0, 0, 0))


@given(st.integers(0, 4102444800))
def test_what_is_printed_is_read_again_and_as_the_library_prints_it(moment: int) -> None:
    assert print_date(moment) == formatdate(moment, usegmt=True)
    assert parse_date(print_date(moment + 0.75)) == moment


def test_dates_that_cannot_be_printed_become_the_nearest_that_can() -> None:
    assert print_date(1e18) == "Fri, 31 Dec 9999 23:59:59 GMT"
    assert print_date(-1e18) == "Mon, 01 Jan 0001 00:00:00 GMT"
    assert print_date(-0.5) == "Wed, 31 Dec 1969 23:59:59 GMT"

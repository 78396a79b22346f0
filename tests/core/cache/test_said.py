"""What an answer says: dates, Age and prohibitions as fields have them."""

import pytest

from passoproxy.core.cache.cache_control import read_age, said_by
from passoproxy.core.http.messages import fields_of
from passoproxy.core.http.syntax import print_date

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("lines", "age"),
    [
        ([], 0),
        (["30"], 30),
        (["abc"], 0),
        (["-7200"], 0),
        (["7200.0"], 0),
        (["2147483649"], 2147483648),
        (["7200, 0"], 7200),
        (["0, 7200"], 0),
        (["7200", "0"], 7200),
        (["0", "7200"], 0),
        (["7200;foo=bar"], 0),
    ],
)
def test_age_5_1(lines, age):
    assert read_age(fields_of([("Age", line) for line in lines])) == age


def said(*fields, shared=True):
    return said_by(200, fields_of(fields), response_time=NOW, shared=shared)


def test_dates():
    heard = said(
        ("Date", print_date(NOW - 5)), ("Expires", print_date(NOW + 60)), ("Last-Modified", print_date(NOW - 99))
    )
    assert (heard.date, heard.expires, heard.last_modified) == (NOW - 5, NOW + 60, NOW - 99)
    assert heard.has_validator


def test_no_date_is_the_time_of_receipt_and_no_expires_is_the_past():
    heard = said(("Date", "yesterday"), ("Expires", "0"))
    assert heard.date == NOW
    assert heard.expires == float("-inf")
    assert not heard.has_validator


def test_a_targeted_field_outweighs_expires_9213_2_2():
    assert said(("CDN-Cache-Control", "max-age=5"), ("Expires", print_date(NOW))).expires is None


@pytest.mark.parametrize(
    ("line", "shared", "never"),
    [
        ("max-age=5", True, False),
        ("no-cache", True, True),
        ('no-cache="a"', True, False),
        ("must-revalidate", False, True),
        ("proxy-revalidate", True, True),
        ("proxy-revalidate", False, False),
        ("s-maxage=5", True, True),
        ("s-maxage=5", False, False),
    ],
)
def test_stale_prohibited_4_2_4(line, shared, never):
    assert said(("Cache-Control", line), shared=shared).never_stale is never


@pytest.mark.parametrize(
    ("line", "shared", "private"), [("private", True, True), ("private", False, False), ('private="a"', True, False)]
)
def test_private_5_2_2_7(line, shared, private):
    assert said(("Cache-Control", line), shared=shared).is_private is private


def test_windows_of_rfc_5861():
    heard = said(("Cache-Control", "stale-while-revalidate=7, stale-if-error=9"))
    assert (heard.stale_while_revalidate, heard.stale_if_error, heard.stale_if_unauthorized) == (7, 9, 0)
    assert heard.has_windows
    assert not said().has_windows

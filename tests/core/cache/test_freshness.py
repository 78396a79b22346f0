"""RFC 9111 §4.2: freshness lifetime and age."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.cache.cache_control import said_by
from passoproxy.core.cache.freshness import LONGEST_HEURISTIC, initial_age, lifetime
from passoproxy.core.http.messages import fields_of
from passoproxy.core.http.syntax import print_date

NOW = 1_700_000_000.0
DATE = ("Date", print_date(NOW))
CHANGED_A_DAY_AGO = ("Last-Modified", print_date(NOW - 86400))


def span(*fields, status=200, shared=True, heuristics=True):
    return lifetime(
        said_by(status, fields_of([DATE, *fields]), response_time=NOW, shared=shared), heuristics=heuristics
    )


@pytest.mark.parametrize(
    ("fields", "shared", "seconds", "basis"),
    [
        ([("Cache-Control", "max-age=60, s-maxage=5")], True, 5, "s-maxage"),
        ([("Cache-Control", "max-age=60, s-maxage=5")], False, 60, "max-age"),
        ([("Cache-Control", "max-age=0"), ("Expires", print_date(NOW + 999))], True, 0, "max-age"),
        ([("Cache-Control", "max-age=60"), ("Expires", "0")], True, 60, "max-age"),
        ([("Expires", print_date(NOW + 999))], True, 999, "Expires"),
        ([("Expires", print_date(NOW - 999))], True, 0, "Expires"),
        ([("Expires", "Thu, 18 Aug 2050 02:01:18 UTC")], True, 0, "Expires"),
        ([("Expires", "0"), ("Expires", print_date(NOW + 999))], True, 0, "Expires"),
        ([], True, 0, "none"),
        ([CHANGED_A_DAY_AGO], True, 8640, "heuristic"),
        ([("Last-Modified", print_date(NOW - 86400 * 365))], True, LONGEST_HEURISTIC, "heuristic"),
        ([("Last-Modified", print_date(NOW + 5))], True, 0, "none"),
        ([("Last-Modified", "yesterday")], True, 0, "none"),
    ],
)
def test_lifetime_4_2_1(fields, shared, seconds, basis):
    found = span(*fields, shared=shared)
    assert (found.seconds, found.basis) == (seconds, basis)


@pytest.mark.parametrize(
    ("status", "line", "guessed"),
    [(s, "x", True) for s in (200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501)]
    + [(s, "x", False) for s in (201, 202, 206, 302, 307, 400, 403, 500, 502, 503, 504, 599)]
    + [(599, "public", True)],
)
def test_heuristics_4_2_2(status, line, guessed):
    found = span(CHANGED_A_DAY_AGO, ("Cache-Control", line), status=status)
    assert (found.seconds > 0) is guessed


def test_no_guess_where_heuristics_are_off():
    assert span(CHANGED_A_DAY_AGO, heuristics=False).seconds == 0


@pytest.mark.parametrize(
    ("fields", "delay", "age"),
    [
        ([DATE], 0, 0),
        ([DATE, ("Age", "30")], 2, 32),  # corrected_age_value
        ([("Date", print_date(NOW - 100)), ("Age", "30")], 2, 100),  # apparent_age
        ([("Date", print_date(NOW + 100))], 0, 0),
        ([], 5, 5),
    ],
)
def test_initial_age_4_2_3(fields, delay, age):
    assert initial_age(fields_of(fields), NOW - delay, NOW) == age


@given(
    date=st.none() | st.floats(-1e11, 1e11),
    age=st.text("0123456789-,.; a", max_size=12),
    sent=st.floats(-1e10, 1e10),
    came=st.floats(-1e10, 1e10),
)
def test_age_is_never_negative(date, age, sent, came):
    fields = [("Age", age)] + ([("Date", print_date(date))] if date is not None else [])
    assert initial_age(fields_of(fields), sent, came) >= 0.0

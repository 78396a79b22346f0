"""Retry-After, and the RateLimit fields in their several forms (RFC 9110 §10.2.3; draft-ietf-httpapi-ratelimit-headers)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.http.limits import LONGEST_WINDOW, UNTOLD_WINDOW, low_quota, retry_after
from passoproxy.core.http.messages import fields_of

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("7", 7),
        (" 0 ", 0),
        ("99999999999999999999", 9_999_999_999),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0),
        ("-5", None),
        ("1.5", None),
        ("٥", None),
        ("soon", None),
        ("", None),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert retry_after(value, NOW) == seconds


POLICY = ("RateLimit-Policy", '"day";q=1000;w=86400, "burst";q=10;w=1')


@pytest.mark.parametrize(
    ("fields", "rests"),
    [
        ([], None),
        ([POLICY], None),
        ([POLICY, ("RateLimit", '"day";r=100;t=30')], 0),
        ([POLICY, ("RateLimit", '"day";r=99;t=30')], 30),
        ([POLICY, ("RateLimit", '"day";r=99')], UNTOLD_WINDOW),
        ([POLICY, ("RateLimit", '"day";r=500;t=30, "burst";r=0;t=1')], 1),
        ([POLICY, ("RateLimit", '"day";r=5;t=30, "burst";r=0;t=1')], 30),
        ([POLICY, ("RateLimit", '"day";r=500;t=30'), ("RateLimit", '"burst";r=0;t=1')], 1),
        ([POLICY, ("RateLimit", "day;r=99;t=30")], 30),
        ([POLICY, ("RateLimit", '"other";r=5;t=30')], None),
        ([("RateLimit", '"day";r=5;t=30')], None),
        ([("RateLimit", '"day";r=0;t=30')], 30),
        ([POLICY, ("RateLimit", '"day";r=99;t=0')], 0),
        ([POLICY, ("RateLimit", '"day";r=99;t=999999999')], LONGEST_WINDOW),
        ([("RateLimit", "limit=100, remaining=9, reset=30")], 30),
        ([("RateLimit", "limit=100, remaining=10, reset=30")], 0),
        ([("RateLimit", "nonsense;;")], None),
        ([("X-RateLimit-Limit", "60"), ("X-RateLimit-Remaining", "5")], UNTOLD_WINDOW),
        ([("X-RateLimit-Limit", "60"), ("X-RateLimit-Remaining", "6")], 0),
        ([("X-RateLimit-Limit", "60"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "12")], 12),
        ([("X-RateLimit-Limit", "60"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "1700000020")], 20),
        ([("X-RateLimit-Limit", "60"), ("X-RateLimit-Remaining", "0"), ("X-RateLimit-Reset", "1600000000")], 0),
        ([("ratelimit-limit", "60, 60;w=60"), ("ratelimit-remaining", "0"), ("ratelimit-reset", "12")], 12),
        ([("X-RateLimit-Remaining", "0")], None),
        ([("X-RateLimit-Limit", "many"), ("X-RateLimit-Remaining", "0")], None),
    ],
)
def test_how_long_little_of_a_quota_is_left(fields: list[tuple[str, str]], rests: float | None) -> None:
    assert low_quota(fields_of(fields), NOW) == rests


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["RateLimit", "RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining"]), st.text()
        )
    )
)
def test_no_field_breaks_the_reading(fields: list[tuple[str, str]]) -> None:
    low_quota(fields_of(fields), NOW)

"""Durations, sizes and shares: read, shown exactly, told in words."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.core import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("15m", 900.0),
        ("6h", 21600.0),
        ("7d", 604800.0),
        ("250ms", 0.25),
        ("1.5h", 5400.0),
        ("0.1h", 360.0),
        (" 30s ", 30.0),
        ("30 s", 30.0),
        ("30", 30.0),
        (30, 30.0),
        (0.5, 0.5),
        (0, 0.0),
        ("0s", 0.0),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert units.read_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "s",
        "5 parsecs",
        "1h30m",
        "-5s",
        -5,
        math.inf,
        math.nan,
        True,
        None,
        [5],
        {},
        "5S",
        "5,5s",
        "٣s",
        "1e400",
        "5s\0",
        1e300,
        "99999999d",
    ],
)
def test_what_is_no_duration_is_shown_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match="30s, 15m, 6h, 7d"):
        units.read_duration(value)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("64MiB", 64 << 20),
        ("1GiB", 1 << 30),
        ("1 KiB", 1024),
        ("2tib", 2 << 40),
        ("10", 10),
        ("10B", 10),
        (10, 10),
        ("1.5KiB", 1536),
        (0, 0),
    ],
)
def test_sizes(text: object, amount: int) -> None:
    assert units.read_size(text) == amount


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("64MB", "'64MiB'"),
        ("1G", "'1GiB'"),
        ("1.5k", "'1.5KiB'"),
        ("lots", "64MiB"),
        (1.5, "whole bytes"),
        (-1, "never below zero"),
        ("99999999999TiB", "below 1 EiB"),
        (False, "false is not a size"),
    ],
)
def test_what_is_no_size_is_told_how(value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        units.read_size(value)


@pytest.mark.parametrize(
    ("value", "share"), [("55%", 0.55), ("0.55", 0.55), (0.55, 0.55), (1, 1.0), ("100 %", 1.0), (0, 0.0)]
)
def test_shares(value: object, share: float) -> None:
    assert units.read_share(value) == share


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("101%", "55%"),
        (2, "2%, or 0.02"),
        (101, "55%"),
        ("x", "55%"),
        ("x%", "55%"),
        ("%", "55%"),
        (None, "55%"),
        ("-1%", "55%"),
    ],
)
def test_what_is_no_share(value: object, meant: str) -> None:
    with pytest.raises(ValueError, match=f"write (for example )?{meant}"):
        units.read_share(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3600, "1h"),
        (90, "90s"),
        (86400, "1d"),
        (0.25, "250ms"),
        (0, "0s"),
        (604800, "7d"),
        (0.0001, "0.0001s"),
        (900, "15m"),
    ],
)
def test_durations_are_shown_short(seconds: float, text: str) -> None:
    assert units.show_duration(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(64 << 20, "64MiB"), (1500, "1500"), (0, "0"), (1 << 40, "1TiB"), (1536, "1536"), (2048, "2KiB")],
)
def test_sizes_are_shown_short(amount: int, text: str) -> None:
    assert units.show_size(amount) == text


@settings(max_examples=50)
@given(st.integers(0, 10**9).map(lambda milliseconds: milliseconds / 1000))
def test_what_is_shown_can_be_read_again(seconds: float) -> None:
    assert units.read_duration(units.show_duration(seconds)) == pytest.approx(seconds)


@settings(max_examples=50)
@given(st.integers(0, 2**50))
def test_sizes_can_be_read_again(amount: int) -> None:
    assert units.read_size(units.show_size(amount)) == amount


def test_shares_can_be_read_again() -> None:
    assert [units.read_share(units.show_share(each / 1000)) for each in range(1001)] == pytest.approx(
        [each / 1000 for each in range(1001)]
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "nothing"),
        (True, "true"),
        (False, "false"),
        ({"a": 1}, "a mapping"),
        ([1], "a list"),
        ((1,), "a list"),
        ("x", "'x'"),
        ("a\nb\x1b[31m", "'a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}[31m'"),
        ("x" * 100, "'" + "x" * 57 + "...'"),
        (1.5, "1.5"),
    ],
)
def test_values_are_quoted_for_people(value: object, shown: str) -> None:
    assert units.quoted(value) == shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3_661, "1 h 1 min"),
        (7_200, "2 h"),
        (777_600, "9 d"),
        (86_461, "1 d"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_read_in_their_two_largest_units(seconds: float, words: str) -> None:
    assert units.duration(seconds) == words


def test_moments_are_utc() -> None:
    assert units.moment(1_700_000_000.7) == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, "0 B"), (1_023, "1023 B"), (1_536, "1.5 KiB"), (48_000_000, "45.8 MiB"), (5 * 2**40, "5120.0 GiB")],
)
def test_sizes_are_told_in_the_largest_unit(count: float, words: str) -> None:
    assert units.size(count) == words


def test_a_count_has_its_noun_in_the_right_number() -> None:
    assert [units.counted(number, "recording") for number in (0, 1, 1200)] == [
        "0 recordings",
        "1 recording",
        "1,200 recordings",
    ]

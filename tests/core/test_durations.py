"""Durations and moments in a person's words."""

from __future__ import annotations

import pytest

from passoproxy.core.durations import duration, moment


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
    assert duration(seconds) == words


def test_moments_are_utc() -> None:
    assert moment(1_700_000_000.7) == "2023-11-14T22:13:20Z"

"""The bounded memory of made forms."""

from __future__ import annotations

from passoproxy.proxy.representation import Remembered


def test_keeps_within_its_bytes_and_forgets_the_least_used() -> None:
    kept: Remembered[str] = Remembered(100_000)
    for name in "abcdefgh":
        kept.keep(name, name, 10_000)
    assert kept.get("a") == "a"  # now the youngest
    for name in "ij":
        kept.keep(name, name, 10_000)
    assert kept.get("b") is None
    assert kept.get("a") == "a"
    assert kept.used_bytes <= 100_000


def test_a_form_can_be_replaced_and_a_large_one_is_not_kept() -> None:
    kept: Remembered[str] = Remembered(100_000)
    kept.keep("a", "old", 10_000)
    kept.keep("a", "new", 5_000)
    kept.keep("b", "large", 20_000)
    assert kept.get("a") == "new"
    assert kept.get("b") is None
    assert kept.used_bytes == 5_512


def test_no_room_remembers_nothing() -> None:
    kept: Remembered[str] = Remembered(0)
    kept.keep("a", "a", 1)
    assert kept.get("a") is None

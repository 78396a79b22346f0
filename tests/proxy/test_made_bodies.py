"""The bounded memory of bodies that were made of stored ones."""

from __future__ import annotations

from passoproxy.proxy.representation import Made


def test_keeps_within_its_bytes_and_forgets_the_least_used() -> None:
    made = Made[bytes](100_000)
    for name in "abcdefgh":
        made.keep(name, b"x" * 10_000, 10_000)
    assert made.get("a") is not None  # now the youngest
    for name in "ij":
        made.keep(name, b"x" * 10_000, 10_000)
    assert made.get("b") is None
    assert made.get("a") is not None
    assert made.used_bytes <= 100_000


def test_a_body_can_be_replaced_and_a_large_one_is_not_kept() -> None:
    made = Made[bytes](100_000)
    made.keep("a", b"x" * 10_000, 10_000)
    made.keep("a", b"y" * 5_000, 5_000)
    made.keep("b", b"x" * 20_000, 20_000)
    assert (made.get("a"), made.get("b")) == (b"y" * 5_000, None)
    assert made.used_bytes == 5_512


def test_no_room_remembers_nothing() -> None:
    made = Made[bytes](0)
    made.keep("a", b"", 0)
    assert made.get("a") is None

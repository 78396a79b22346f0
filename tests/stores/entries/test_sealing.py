"""A sealed value is an entry only where, and as, it was closed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.stores.entries.serialization import Seal, row_name
from tests.stores.entries.making import SECRET, entry, whole

MADE = whole(entry(), b"body")
ROW = row_name(MADE)
VALUE = Seal(SECRET).close(MADE)


def test_what_was_closed_opens() -> None:
    assert Seal(SECRET).open(ROW, VALUE) == MADE


@settings(max_examples=60)
@given(st.integers(0, len(VALUE) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(at: int, bits: int) -> None:
    changed = bytearray(VALUE)
    changed[at] ^= bits
    assert Seal(SECRET).open(ROW, bytes(changed)) is None


@settings(max_examples=30)
@given(st.integers(0, len(VALUE) - 1))
def test_nothing_can_be_cut_off(length: int) -> None:
    assert Seal(SECRET).open(ROW, VALUE[:length]) is None


def test_it_belongs_to_its_row_what_it_is_bound_to_and_its_secret() -> None:
    assert Seal(SECRET).open(row_name(entry(1)), VALUE) is None
    assert Seal(SECRET).open(ROW, VALUE, "bound") is None
    assert Seal(SECRET).open(ROW, Seal(SECRET).close(MADE, "bound"), "bound") == MADE
    assert Seal(b"another secret of 16").open(ROW, VALUE) is None
    for strange in (None, 1, "text"):
        assert Seal(SECRET).open(ROW, strange) is None


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 16"):
        Seal(b"short")

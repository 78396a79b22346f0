"""A sealed value is an entry only where, and as, it was closed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.stores.entries.serialization import Seal, body_name, hints_of, label_of, row_name
from tests.stores.entries.making import SECRET, entry, whole

MADE = whole(entry(), b"body")
ROW, HINTS = row_name(MADE), hints_of(MADE)
VALUE = Seal(SECRET).close(MADE)


def test_what_was_closed_opens() -> None:
    assert Seal(SECRET).open(ROW, HINTS, VALUE) == MADE
    assert label_of(ROW, VALUE) == (4, body_name(ROW, MADE.digest))


@settings(max_examples=60)
@given(st.integers(0, len(VALUE) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(at: int, bits: int) -> None:
    changed = bytearray(VALUE)
    changed[at] ^= bits
    assert Seal(SECRET).open(ROW, HINTS, bytes(changed)) is None


@settings(max_examples=30)
@given(st.integers(0, len(VALUE) - 1))
def test_nothing_can_be_cut_off(length: int) -> None:
    assert Seal(SECRET).open(ROW, HINTS, VALUE[:length]) is None


def test_it_belongs_to_its_row_its_hints_and_its_secret() -> None:
    assert Seal(SECRET).open(row_name(entry(1)), HINTS, VALUE) is None
    assert Seal(SECRET).open(ROW, HINTS + b"x", VALUE) is None
    assert Seal(b"another secret of 16").open(ROW, HINTS, VALUE) is None
    for strange in (None, 1, "text"):
        assert Seal(SECRET).open(ROW, strange, VALUE) is None
        assert Seal(SECRET).open(ROW, HINTS, strange) is None


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 16"):
        Seal(b"short")


@pytest.mark.parametrize(("row", "value"), [("../../x", VALUE), (ROW, b"x" * 99), (ROW, VALUE[:20])])
def test_what_no_seal_has_made_has_no_label(row: str, value: bytes) -> None:
    with pytest.raises(ValueError, match="no sealed entry"):
        label_of(row, value)

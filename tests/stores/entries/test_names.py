"""Names on disk: of one form, and each leads back to its row."""

from __future__ import annotations

import pytest

from passoproxy.stores.entries.serialization import (
    BODY_PATTERN,
    ROW_PATTERN,
    body_name,
    key_name,
    mark_of,
    row_name,
    row_of_body,
)
from tests.stores.entries.making import entry


@pytest.mark.parametrize("odd", ["", "../../etc/passwd", "k" * 70_000, "\udcff\0", "äöü"])
def test_whatever_the_key_the_names_are_of_our_form(odd: str) -> None:
    made = entry(key=odd, identifier=odd)
    row = row_name(made)
    body = body_name(row, "ab" * 32)
    assert ROW_PATTERN.fullmatch(row)
    assert BODY_PATTERN.fullmatch(body)
    assert row_of_body(body) == row
    assert mark_of(row) == mark_of(body) == mark_of(key_name(odd)) > 1


@pytest.mark.parametrize(
    "name", ["", "../x", "aa/b", "/etc/passwd", "aa/" + "b" * 30 + "." + "c" * 16 + "." + "d" * 16 + "\n"]
)
def test_other_names_are_nobody_s(name: str) -> None:
    assert row_of_body(name) is None

"""Entries, values, names and the secret as bytes: what comes back, and what is nothing."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.core.cache.entry import Entry
from passoproxy.core.http.messages import fields_of
from passoproxy.errors import CannotCreate
from passoproxy.stores.entries import serialization
from passoproxy.stores.entries.serialization import (
    BODY_PATTERN,
    Seal,
    body_in,
    body_name,
    key_name,
    mark_of,
    row_name,
    row_of_body,
    secret_in,
    with_body,
)
from tests.stores.entries.making import SECRET, entry, whole

# ---- entries as bytes ----------------------------------------------------------------------------------------------


TEXT = st.text(st.characters(codec=None) | st.sampled_from("\udc80\udcff\0\x1f"), max_size=12)
NAME = st.text("abcXYZ-", min_size=1, max_size=6)
SECONDS = st.floats(allow_nan=False)
ENTRIES = st.builds(
    Entry,
    key=TEXT,
    identifier=TEXT,
    partition=TEXT,
    method=TEXT,
    target=TEXT,
    status=st.integers(100, 999),
    fields=st.lists(st.tuples(NAME, TEXT), max_size=5).map(fields_of),
    varies=st.lists(st.tuples(NAME, st.none() | TEXT), max_size=3).map(tuple),
    request_time=SECONDS,
    response_time=SECONDS,
    stored_at=SECONDS,
    route=TEXT,
    tags=st.lists(TEXT, max_size=3).map(tuple),
    private=st.booleans(),
    overridden=st.booleans(),
    digest=TEXT,
    content_digest=TEXT,
    made_etag=TEXT,
    size=st.integers(0, 2**40),
    extra=st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
)


@settings(max_examples=100)
@given(ENTRIES)
def test_every_entry_comes_back_as_it_was(made: Entry) -> None:
    back = serialization.decode(serialization.encode(made))
    assert back == made
    assert back is not None
    assert list(back.fields.items()) == list(made.fields.items())


def test_another_version_is_not_read() -> None:
    data = serialization.encode(entry())
    assert serialization.decode(bytes((serialization.VERSION + 1,)) + data[1:]) is None
    assert serialization.decode(bytes((0,)) + data[1:]) is None
    assert serialization.decode(b"") is None


@settings(max_examples=100)
@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_no_entry(data: bytes) -> None:
    assert serialization.decode(data) is None
    assert serialization.decode(bytes((serialization.VERSION,)) + data) is None


@pytest.mark.parametrize("at", range(20))
def test_a_value_of_the_wrong_kind_is_no_entry(at: int) -> None:
    values = json.loads(serialization.encode(whole(entry(), b""))[1:])
    for wrong in ({}, None, "text" if not isinstance(values[at], str) else 1, [1], [[], "x"], ["odd"]):
        if isinstance(values[at], list) and wrong == ["odd"] and at == 12:
            continue  # a tag is what it may be
        changed = [*values[:at], wrong, *values[at + 1 :]]
        assert serialization.decode(bytes((serialization.VERSION,)) + json.dumps(changed).encode()) is None


def test_deep_nesting_is_no_entry() -> None:
    assert serialization.decode(bytes((serialization.VERSION,)) + b"[" * 100_000) is None


# ---- values --------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("body", [b"", b"body", b"\n", b"a\nb"])
def test_a_body_lies_behind_the_head(body: bytes) -> None:
    value = with_body(VALUE, body)
    assert Seal(SECRET).open(ROW, value) == MADE
    assert body_in(value) == body
    assert (body_in(VALUE), body_in(None)) == (None, None)


def test_it_belongs_to_its_row_and_its_secret() -> None:
    assert Seal(SECRET).open(row_name(entry(1)), VALUE) is None
    assert Seal(b"another secret of 16").open(ROW, VALUE) is None
    for strange in (None, 1, "text"):
        assert Seal(SECRET).open(ROW, strange) is None


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 16"):
        Seal(b"short")


# ---- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ["", "../../etc/passwd", "k" * 70_000, "\udcff\0", "äöü"])
def test_whatever_the_key_the_names_are_of_our_form(odd: str) -> None:
    made = entry(key=odd, identifier=odd)
    row = row_name(made)
    body = body_name(row, "ab" * 32)
    assert re.fullmatch(r"[0-9a-f]{32}\.[0-9a-f]{16}", row, re.ASCII)
    assert BODY_PATTERN.fullmatch(body)
    assert row_of_body(body) == row
    assert mark_of(row) == mark_of(body) == mark_of(key_name(odd)) > 1


@pytest.mark.parametrize(
    "name", ["", "../x", "aa/b", "/etc/passwd", "aa/" + "b" * 30 + "." + "c" * 16 + "." + "d" * 16 + "\n"]
)
def test_other_names_are_nobody_s(name: str) -> None:
    assert row_of_body(name) is None


# ---- the secret ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0, 0o777])
def test_it_is_made_once_and_private(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        made = secret_in(tmp_path)
    finally:
        os.umask(before)
    assert len(made) == 32
    assert secret_in(tmp_path) == made
    assert stat.S_IMODE((tmp_path / "cache.secret").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["cache.secret"]


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_damaged_one_is_made_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cache.secret").write_bytes(content)
    made = secret_in(tmp_path)
    assert len(made) == 32
    assert made != content
    assert secret_in(tmp_path) == made
    assert os.listdir(tmp_path) == ["cache.secret"]


def test_of_two_that_make_one_both_go_on_with_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = b"t" * 32

    def link(source: Path, target: Path) -> None:
        (tmp_path / "cache.secret").write_bytes(theirs)
        raise FileExistsError

    monkeypatch.setattr(serialization.os, "link", link)
    assert secret_in(tmp_path) == theirs
    assert os.listdir(tmp_path) == ["cache.secret"]


def test_a_folder_that_takes_none() -> None:
    with pytest.raises(CannotCreate, match=r"cache\.secret: cannot be written .*another state\.directory"):
        secret_in(Path("/proc/self"))

"""Entries survive their bytes unchanged, and other bytes are no entries."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.core.cache.entry import Entry
from passoproxy.core.http.messages import fields_of
from passoproxy.stores.entries import serialization
from tests.stores.entries.making import entry, whole

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

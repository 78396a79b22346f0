"""The index: SQL means what a selector means, and what damage can put into a row harms nothing."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import diskcache
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.soft_purge import MOST_KEPT, SoftPurge
from passoproxy.stores.entries.disk.database import RawDisk
from passoproxy.stores.entries.disk.index import INDEX, Index, Purge, is_hidden
from passoproxy.stores.entries.serialization import row_name
from tests.stores.entries.making import entry, whole

WORDS = st.text("ab/?*\0\x1f é\udce9", max_size=5)
TARGETS = WORDS | WORDS.map(lambda word: "/" + "x" * 600 + word)
ENTRIES = st.builds(
    lambda n, target, route, tags, partition, private: whole(
        entry(n, target=target, route=route, tags=tuple(tags), partition=partition, private=private), b""
    ),
    st.integers(0, 2),
    TARGETS,
    WORDS,
    st.lists(WORDS, max_size=3),
    st.sampled_from(["p", "q"]),
    st.booleans(),
)
SELECTORS = st.one_of(
    st.builds(lambda value: Selector(target=value), TARGETS),
    st.builds(lambda value, star: Selector(prefix=value + star), TARGETS, st.sampled_from(["", "*"])),
    st.builds(lambda value: Selector(route=value), WORDS),
    st.builds(lambda value: Selector(tag=value), WORDS),
    st.builds(lambda n, target: Selector(key=entry(n).key, target=target), st.integers(0, 3), TARGETS | st.none()),
    st.builds(lambda value, private: Selector(partition=value, private=private), st.sampled_from("pqr"), st.booleans()),
    st.just(Selector()),
)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    made = Index(tmp_path, diskcache.Cache(str(tmp_path), disk=RawDisk), patience=1.0, journal_pages=64)
    assert made.make_tables()
    yield made
    made.close()


def stored(index: Index, *entries: Entry) -> None:
    with index.transaction():
        index.remove(row.id for row in index.after(0, -1))
        for made in entries:
            index.insert(row_name(made), made, index.last_purge())


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ENTRIES, SELECTORS, SELECTORS)
def test_sql_and_the_selector_mean_the_same(index: Index, made: Entry, selector: Selector, purged: Selector) -> None:
    stored(index, made)
    (row,) = index.after(0, 5)
    assert list(index.ids(selector)) == [row.id] * selector.matches(made)
    assert index.count(selector) == selector.matches(made)
    purge = Purge(row.asked_seq + 1, purged)
    visible = selector.matches(made) and not is_hidden([purge], row.asked_seq, made)
    assert index.count(selector, purge, before=row.asked_seq + 1) == visible
    assert index.count(selector, purge, before=row.asked_seq) == 0


def test_a_purge_means_what_was_stored_before_it(index: Index) -> None:
    made = whole(entry(), b"")
    stored(index, made)
    with index.transaction():
        first = index.log_purge(Selector(tag="country/de"), after=7)
        index.insert(row_name(entry(1)), whole(entry(1), b""), first)
    assert first == 8
    assert index.in_force() == [Purge(8, Selector(tag="country/de"))]
    assert len(index.ids(Selector(), before=first)) == 1
    with index.transaction():
        assert [row.name for row in index.remove(index.ids(Selector()), before=first)] == [row_name(made)]
        index.end_purge(first)
    assert index.in_force() == []
    assert index.totals() == (1, 0)


def test_old_purges_leave_the_log_and_soft_ones_are_merged(index: Index) -> None:
    with index.transaction():
        kept = index.log_purge(Selector(tag="in force"), after=0)
        for n in range(1100):
            index.end_purge(index.log_purge(Selector(target=f"/{n}"), after=0))
            soft = SoftPurge(Selector(target=f"/{n}"), float(n))
            index.log_purge(soft.selector, 0, soft)
            index.merge_soft_purges()
    assert [purge.sequence for purge in index.in_force()] == [kept]
    purges = index.soft_purges().kept
    assert len(purges) <= MOST_KEPT
    assert (purges[0].selector, purges[-1]) == (Selector(), SoftPurge(Selector(target="/1099"), 1099.0))
    assert index.last_purge() == 2201
    assert len(index.purges_since(0)) < 2100


@pytest.mark.parametrize("column", ["name", "asked_seq", "size", "digest", "used_at", "target", "partition"])
@pytest.mark.parametrize("value", ["../../etc/passwd", b"\xff\xfe", -1, 1.5])
def test_a_damaged_row_is_no_entry_and_can_be_removed(index: Index, tmp_path: Path, column: str, value: object) -> None:
    made = whole(entry(), b"")
    stored(index, made)
    with sqlite3.connect(tmp_path / INDEX) as db:
        db.execute(f"UPDATE entry SET {column} = ?", (value,))
    db.close()
    index.variants(made.key)
    (row,) = index.least_used(5)
    assert not Path(row.body).is_absolute()
    assert ".." not in row.body
    with index.transaction():
        assert len(index.remove([row.id])) == 1
    assert index.totals()[0] == 0


def test_a_journal_that_somebody_reads_keeps_nobody_from_writing(tmp_path: Path) -> None:
    index = Index(tmp_path, diskcache.Cache(str(tmp_path), disk=RawDisk), patience=20.0, journal_pages=64)
    assert index.make_tables()
    other = sqlite3.connect(tmp_path / INDEX, isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT * FROM entry").fetchall()
    stored(index, entry())
    began = time.monotonic()
    index.shorten_journals(0)
    assert time.monotonic() - began < 10
    other.close()
    index.shorten_journals(0)
    assert (tmp_path / f"{INDEX}-wal").stat().st_size == 0
    index.close()

"""SQLite and `hints.judged` mean the same."""

from __future__ import annotations

import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.cache.entry import Selector
from passoproxy.stores.entries.disk.index import Condition, meant, not_meant, perhaps
from passoproxy.stores.entries.serialization import MAX_TARGET, hints_of, judged
from tests.stores.entries.making import entry

WORDS = st.text("ab/?\0\x1f é\udce9=~", max_size=6)
TARGETS = WORDS | st.builds(lambda word: "/" + "x" * MAX_TARGET + word, WORDS)
ENTRIES = st.builds(
    lambda target, route, tags, partition: entry(target=target, route=route, tags=tuple(tags), partition=partition),
    TARGETS,
    WORDS,
    st.lists(WORDS, max_size=3),
    st.sampled_from(["p", "q"]),
)
SELECTORS = st.one_of(
    st.builds(lambda value: Selector(target=value), TARGETS),
    st.builds(lambda value, star: Selector(prefix=value + star), TARGETS, st.sampled_from(["", "*"])),
    st.builds(lambda value: Selector(route=value), WORDS),
    st.builds(lambda value: Selector(tag=value), WORDS),
    st.builds(
        lambda value, private: Selector(partition=value, private=private),
        st.sampled_from(["p", "q", "r"]),
        st.booleans(),
    ),
    st.just(Selector()),
)


def asked(hints: object, condition: Condition, stored_after: int = 0) -> bool:
    db = sqlite3.connect(":memory:")
    db.execute("CREATE TABLE Cache (rowid INTEGER PRIMARY KEY, tag BLOB, access_count INTEGER)")
    db.execute("INSERT INTO Cache VALUES (1, ?, ?)", (hints, stored_after))
    text, given_ = condition
    ((count,),) = db.execute(f"SELECT COUNT(*) FROM Cache WHERE {text}", given_).fetchall()
    db.close()
    return bool(count)


@given(ENTRIES, SELECTORS)
def test_a_condition_means_what_hints_tell(made, selector):  # type: ignore[no-untyped-def]
    hints = hints_of(made)
    told = judged(selector, hints)
    assert asked(hints, meant(selector)) is (told is True)
    assert told is not None or asked(hints, perhaps(selector)) or not selector.matches(made)
    assert told is None or not asked(hints, perhaps(selector))


@given(SELECTORS)
def test_what_nobody_wrote_is_asked_or_left(selector: Selector) -> None:
    for hints in (None, 5, "text", b"", b"tag", b"\0\0", b"a\0b\0c\0d\0="):
        assert not (asked(hints, meant(selector)) and asked(hints, perhaps(selector)))


def test_not_meant_is_what_an_earlier_purge_left() -> None:
    hints, selector = hints_of(entry(tags=("t",))), Selector(tag="t")
    assert not asked(hints, not_meant(selector, 5), stored_after=0)
    assert asked(hints, not_meant(selector, 5), stored_after=5)
    assert asked(hints_of(entry(tags=())), not_meant(selector, 5))

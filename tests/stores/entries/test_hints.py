"""Hints say of every entry what the selector itself says, or that they cannot tell."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.core.cache.entry import Selector
from passoproxy.stores.entries.serialization import MAX_TARGET, hints_of, judged, range_of
from tests.stores.entries.making import entry

TARGET = st.text("/ab?*\0\x1f\udcff", max_size=6).map(lambda text: "/" + text) | st.just("/" + "a" * (MAX_TARGET + 3))
WORD = st.text("ab \0\x1f", max_size=3)
SELECTOR = st.one_of(
    st.builds(Selector, target=TARGET),
    st.builds(Selector, prefix=TARGET),
    st.builds(Selector, route=WORD),
    st.builds(Selector, tag=WORD),
    st.builds(Selector, partition=WORD, private=st.booleans()),
    st.just(Selector()),
)


@settings(max_examples=300)
@given(SELECTOR, TARGET, WORD, WORD, st.lists(WORD, max_size=3), st.booleans())
def test_hints_never_contradict_the_entry(
    selector: Selector, target: str, route: str, partition: str, tags: list[str], private: bool
) -> None:
    made = entry(target=target, route=route, partition=partition, tags=tuple(tags), private=private)
    hints, span = hints_of(made), range_of(selector)
    assert judged(selector, hints) in (None, selector.matches(made))
    if selector.matches(made) and span is not None:
        assert span[0] <= hints < span[1]


def test_what_is_no_hint_cannot_tell() -> None:
    for hints in (None, 1, "text", b"", b"a\0b"):
        assert judged(Selector(), hints) is None


def test_a_usual_entry_needs_no_second_look() -> None:
    assert judged(Selector(tag="country/de"), hints_of(entry())) is True
    assert judged(Selector(tag="country"), hints_of(entry())) is False

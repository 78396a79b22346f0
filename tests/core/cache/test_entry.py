"""Entries and what selects them."""

import pytest

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.http.messages import fields_of

ENTRY = Entry("k", "1", "me", "GET", "/a/b?x=1", 200, fields_of({"A": "1"}), route="r", tags=("t", "u"))


@pytest.mark.parametrize(
    ("selector", "meant"),
    [
        (Selector(), True),
        (Selector(target="/a/b?x=1"), True),
        (Selector(target="/a/b"), False),
        (Selector(prefix="/a/"), True),
        (Selector(prefix="/a*"), True),
        (Selector(prefix="/b"), False),
        (Selector(route="r"), True),
        (Selector(route="s"), False),
        (Selector(tag="u"), True),
        (Selector(tag="v"), False),
        (Selector(key="k"), True),
        (Selector(key="l"), False),
        (Selector(partition="me"), True),
        (Selector(partition="you"), False),
    ],
)
def test_selectors(selector, meant):
    assert selector.matches(ENTRY) is meant


def test_head():
    assert (ENTRY.head.status, ENTRY.head.fields["a"]) == (200, "1")

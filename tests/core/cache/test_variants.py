"""RFC 9111 §4.1: Vary."""

import pytest

from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.vary import matches, nominated, selected, signature, varies
from passoproxy.core.http.messages import fields_of


def entry(identifier="1", names=(), **request):
    return Entry("k", identifier, "p", "GET", "/", 200, varies=varies(names, fields_of(request)))


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        ([], ()),
        (["Foo"], ("foo",)),
        (["foo, Bar", "FOO"], ("bar", "foo")),
        (["*"], None),
        (["*, *"], None),
        ([", *"], None),
        (["", "*"], None),
        (["Foo, *"], None),
        (["*, Foo"], None),
    ],
)
def test_nominated(lines, names):
    assert nominated(fields_of([("Vary", line) for line in lines])) == names


@pytest.mark.parametrize(
    ("stored", "asked", "same"),
    [
        ([("Foo", "1")], [("Foo", "1")], True),
        ([("Foo", "1")], [("foo", "1"), ("Other", "x")], True),
        ([("Foo", "1")], [("Foo", "2")], False),
        ([("Foo", "1")], [], False),
        ([], [("Foo", "1")], False),
        ([], [], True),
        ([("Foo", "1, 2")], [("Foo", "1"), ("Foo", "2")], True),
        ([("Foo", "1,2")], [("Foo", " 1 ,\t2 ")], True),
        ([("Foo", '"1,2"')], [("Foo", '"1, 2"')], False),
        ([("Foo", "a b")], [("Foo", "ab")], False),
    ],
)
def test_matching(stored, asked, same):
    held = Entry("k", "1", "p", "GET", "/", 200, varies=varies(("foo",), fields_of(stored)))
    assert matches(held, fields_of(asked)) is same


@pytest.mark.parametrize("value", ["de, en", "eN, De", " en ,   de", "en,de"])
def test_languages_know_no_case_and_no_order(value):
    held = Entry(
        "k", "1", "p", "GET", "/", 200, varies=varies(("accept-language",), fields_of([("Accept-Language", "en, de")]))
    )
    assert matches(held, fields_of([("Accept-Language", value)]))
    assert not matches(held, fields_of([("Accept-Language", "fr")]))


def test_the_youngest_that_matches_is_selected():
    young, old = entry("2", ("foo",), foo="1"), entry("1")
    assert selected((young, old), fields_of({"foo": "1"})) is young
    assert selected((young, old), fields_of()) is old
    assert selected((young,), fields_of()) is None


def test_signature_holds_what_is_known_to_tell_variants_apart():
    stored = (entry("2", ("foo",), foo="1"), entry("1", ("bar",)))
    assert signature(stored, fields_of({"bar": "x"})) == (("bar", "x"), ("foo", None))
    assert signature((entry(),), fields_of()) == ()

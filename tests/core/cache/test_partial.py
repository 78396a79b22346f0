"""RFC 9111 §3.3, §3.4: stored parts, what they answer, how they are put together."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.cache import partial
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.partial import Holding
from passoproxy.core.http.messages import RequestHead, fields_of
from passoproxy.core.http.ranges import Span

FIELDS = fields_of([("ETag", '"a"'), ("Content-Range", "bytes 0-4/10"), ("Content-Length", "5")])
ENTRY = Entry("k", "1", "p", "GET", "/", 206, FIELDS, extra=(("other", "x"),))
WHOLE = b"0123456789"


def part(*spans, size=10, **more):
    return partial.as_part(replace(ENTRY, **more), Holding(tuple(Span(*pair) for pair in spans), size))


def body_of(holding, whole=WHOLE):
    return b"".join(whole[span.first : span.last + 1] for span in holding.spans)


def test_a_part_remembers_what_it_holds():
    entry = part((0, 1), (4, 9))
    assert partial.is_partial(entry)
    assert partial.holding_of(entry) == Holding((Span(0, 1), Span(4, 9)), 10)
    assert (entry.fields["Content-Range"], entry.fields["Content-Length"]) == ("bytes 0-1/10", "8")
    assert entry.extra[0] == ("other", "x")


def test_what_does_not_say_holds_nothing():
    assert partial.holding_of(replace(ENTRY, extra=())) == Holding((), 0)
    assert not partial.covers(replace(ENTRY, extra=()), fields_of([("Range", "bytes=0-1")]))


def test_a_part_that_is_the_whole_is_an_ordinary_answer():
    entry = part((0, 9))
    assert (entry.status, entry.extra) == (200, (("other", "x"),))
    assert "Content-Range" not in entry.fields
    assert entry.fields["Content-Length"] == "10"
    assert not partial.is_partial(entry)
    assert [partial.whole_status(status) for status in (206, 404)] == [200, 404]


@pytest.mark.parametrize(
    ("fields", "covered"),
    [
        ([("Range", "bytes=1-3")], True),
        ([("Range", "bytes=0-4")], True),
        ([("Range", "bytes=-2")], True),
        ([("Range", "bytes=8-")], True),
        ([("Range", "bytes=0-1,8-9")], True),
        ([("Range", "bytes=0-5")], False),
        ([("Range", "bytes=5-6")], False),
        ([("Range", "bytes=0-")], False),
        ([("Range", "bytes=20-")], False),
        ([("Range", "bytes=x")], False),
        ([], False),
        ([("Range", "bytes=1-3"), ("If-Range", '"a"')], True),
        ([("Range", "bytes=1-3"), ("If-Range", '"b"')], False),
    ],
)
def test_what_a_part_answers(fields, covered):
    assert partial.covers(part((0, 4), (8, 9)), fields_of(fields)) is covered


def test_where_in_the_body_a_span_begins():
    holding = Holding((Span(0, 4), Span(8, 9)), 10)
    assert [holding.offset_of(Span(*pair)) for pair in ((1, 2), (9, 9), (4, 8))] == [1, 6, None]
    assert holding.bytes_held == 7


@pytest.mark.parametrize(
    ("fields", "size", "may"),
    [
        ([("ETag", '"a"')], 10, True),
        ([("ETag", '"a"')], 11, False),
        ([("ETag", '"b"')], 10, False),
        ([("ETag", 'W/"a"')], 10, False),
        ([], 10, False),
    ],
)
def test_only_parts_of_one_representation_combine(fields, size, may):
    assert partial.may_combine(part((0, 4)), fields_of(fields), size) is may


def test_without_a_validator_nothing_combines():
    assert not partial.may_combine(part((0, 4), fields=fields_of()), fields_of(), 10)


spans = st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)).map(sorted), min_size=1, max_size=12)


@given(spans)
def test_combining_gives_the_bytes_of_both(pairs):
    whole = bytes(range(40))
    first = Span(*pairs[0])
    holding, body = Holding((first,), 40), whole[first.first : first.last + 1]
    held = set(range(first.first, first.last + 1))
    for pair in pairs[1:]:
        span = Span(*pair)
        holding, body = partial.combined(holding, body, span, whole[span.first : span.last + 1])
        held |= set(range(span.first, span.last + 1))
        assert body == body_of(holding, whole)
        assert {at for each in holding.spans for at in range(each.first, each.last + 1)} == held
        assert all(one.last + 1 < other.first for one, other in pairwise(holding.spans))


def test_new_bytes_count_where_both_have_some():
    assert partial.combined(Holding((Span(0, 3),), 10), b"abcd", Span(1, 2), b"XY") == (
        Holding((Span(0, 3),), 10),
        b"aXYd",
    )


def test_too_many_pieces_leave_the_new_one():
    many = Holding(tuple(Span(4 * n, 4 * n) for n in range(partial.MOST_SPANS)), 1000)
    assert partial.combined(many, b"x" * partial.MOST_SPANS, Span(900, 901), b"yz") == (
        Holding((Span(900, 901),), 1000),
        b"yz",
    )


@pytest.mark.parametrize(
    ("held", "size", "rest"),
    [
        ([(0, 4)], 10, (5, 9)),
        ([(5, 9)], 10, (0, 4)),
        ([(0, 1), (8, 9)], 10, (2, 7)),
        ([(2, 3)], 10, None),
        ([(0, 4)], partial.LARGEST_COMBINED + 1, None),
    ],
)
def test_what_is_missing(held, size, rest):
    assert partial.rest_of(part(*held, size=size)) == (None if rest is None else Span(*rest))


def test_the_question_for_the_rest():
    head = RequestHead("GET", "/", fields_of([("Accept", "x"), ("If-Range", '"theirs"')]))
    asked = partial.completing(head, part((0, 4)), Span(5, 9))
    assert list(asked.fields.items()) == [("Accept", "x"), ("Range", "bytes=5-"), ("If-Range", '"a"')]
    asked = partial.completing(head, part((5, 9), fields=fields_of()), Span(0, 4))
    assert list(asked.fields.items()) == [("Accept", "x"), ("Range", "bytes=0-4")]

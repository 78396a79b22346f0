"""RFC 9110 §14: what a Range asks for, which bytes that is, and what the answer says of them."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.http import ranges
from passoproxy.core.http.messages import ResponseHead, fields_of
from passoproxy.core.http.ranges import Span

MODIFIED = "Mon, 01 Jan 2024 00:00:00 GMT"
LATER = "Mon, 01 Jan 2024 00:00:01 GMT"


@pytest.mark.parametrize(
    ("value", "specs"),
    [
        ("bytes=0-4", ((0, 4),)),
        ("Bytes=7-", ((7, None),)),
        (" bytes=-5", ((None, 5),)),
        ("bytes=0-0, 2-3,-1", ((0, 0), (2, 3), (None, 1))),
        ("bytes=,0-1,,", ((0, 1),)),
        ("bytes=5-4", ()),
        ("bytes=a-b", ()),
        ("bytes=-", ()),
        ("bytes=", ()),
        ("bytes=0-1, x", ()),
        ("bytes 0-1", ()),
        ("pages=0-1", ()),
        ("bytes=1234567890123456789-", ()),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(16)), tuple((n, n) for n in range(16))),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(17)), ()),
        ("bytes=" + "0-," * 5000, ()),
    ],
)
def test_what_is_asked_for(value, specs):
    assert ranges.wanted(fields_of([("Range", value)])) == specs


def test_several_lines_are_no_range():
    assert ranges.wanted(fields_of([("Range", "bytes=0-1"), ("Range", "bytes=2-3")])) == ()
    assert ranges.wanted(fields_of([])) == ()


@pytest.mark.parametrize(("value", "known"), [("bytes=0-", True), ("BYTES=x", True), ("pages=1", False), ("", False)])
def test_the_unit(value, known):
    assert ranges.in_bytes(fields_of([("Range", value)])) is known


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        ("0-1", [(0, 1)]),
        ("8-20", [(8, 9)]),
        ("8-", [(8, 9)]),
        ("-3", [(7, 9)]),
        ("-30", [(0, 9)]),
        ("-0", []),
        ("10-", []),
        ("10-12, 1-1", [(1, 1)]),
        ("6-7,0-1", [(0, 1), (6, 7)]),
        ("0-3,2-5", [(0, 5)]),
        ("0-3,4-5", [(0, 5)]),
        ("0-8,2-3", [(0, 8)]),
    ],
)
def test_which_bytes_that_is_of_ten(value, spans):
    specs = ranges.wanted(fields_of([("Range", f"bytes={value}")]))
    assert ranges.resolved(specs, 10) == tuple(Span(*pair) for pair in spans)


@given(
    st.lists(
        st.tuples(st.integers(0, 30) | st.none(), st.integers(0, 30) | st.none()).filter(lambda s: s != (None, None)),
        max_size=6,
    ),
    st.integers(0, 20),
)
def test_resolved_means_the_same_bytes_in_order_and_apart(specs, size):
    def of_one(spec):
        first, last = spec
        if first is None:
            return set(range(max(0, size - last), size))
        return set(range(first, size if last is None else min(last + 1, size)))

    specs = [spec for spec in specs if spec[0] is None or spec[1] is None or spec[0] <= spec[1]]
    spans = ranges.resolved(specs, size)
    assert {at for span in spans for at in range(span.first, span.last + 1)} == set().union(*map(of_one, specs), set())
    assert all(one.last + 1 < other.first for one, other in pairwise(spans))


@pytest.mark.parametrize(
    ("value", "fields", "holds"),
    [
        (None, [], True),
        ('"a"', [("ETag", '"a"')], True),
        ('"a"', [("ETag", '"b"')], False),
        ('"a"', [], False),
        ('W/"a"', [("ETag", 'W/"a"')], False),
        ('"a"', [("ETag", 'W/"a"')], False),
        (MODIFIED, [("Last-Modified", MODIFIED), ("Date", LATER)], True),
        (MODIFIED, [("Last-Modified", MODIFIED), ("Date", LATER), ("ETag", '"a"')], True),
        (MODIFIED, [("Last-Modified", MODIFIED), ("Date", MODIFIED)], False),
        (MODIFIED, [("Last-Modified", MODIFIED)], False),
        (LATER, [("Last-Modified", MODIFIED), ("Date", LATER)], False),
        ("", [], False),
    ],
)
def test_if_range_compares_strongly(value, fields, holds):
    request = fields_of([] if value is None else [("If-Range", value)])
    assert ranges.if_range_holds(request, fields_of(fields)) is holds


@pytest.mark.parametrize(
    ("fields", "validator"),
    [
        ([("ETag", '"a"')], '"a"'),
        ([("ETag", 'W/"a"'), ("Last-Modified", MODIFIED), ("Date", LATER)], ""),
        ([("Last-Modified", MODIFIED), ("Date", LATER)], MODIFIED),
        ([("Last-Modified", "yesterday"), ("Date", LATER)], ""),
        ([], ""),
    ],
)
def test_what_names_the_very_bytes(fields, validator):
    assert ranges.strong_validator(fields_of(fields)) == validator


@pytest.mark.parametrize(
    ("fields", "read"),
    [
        ([("Content-Range", "bytes 0-4/10")], (Span(0, 4), 10)),
        ([("Content-Range", "bytes 0-4/10"), ("Content-Length", "5")], (Span(0, 4), 10)),
        ([("Content-Range", "bytes 0-4/10"), ("Content-Length", "6")], None),
        ([("Content-Range", "bytes 4-10/10")], None),
        ([("Content-Range", "bytes 4-3/10")], None),
        ([("Content-Range", "bytes 0-4/*")], None),
        ([("Content-Range", "bytes */10")], None),
        ([("Content-Range", "pages 0-4/10")], None),
        ([("Content-Range", "bytes 0-4/10"), ("Content-Range", "bytes 0-4/11")], None),
        ([], None),
    ],
)
def test_content_range_is_read_strictly(fields, read):
    assert ranges.read_content_range(fields_of(fields)) == read


HEAD = ResponseHead(
    200, fields_of([("Content-Type", "text/plain"), ("Content-Length", "10"), ("ETag", '"a"'), ("Content-MD5", "x")])
)


def test_one_part():
    head = ranges.partial(HEAD, Span(2, 4), 10)
    assert head.status == 206
    assert dict(head.fields) == {
        "Content-Type": "text/plain",
        "ETag": '"a"',
        "Content-Range": "bytes 2-4/10",
        "Content-Length": "3",
    }


def test_several_parts_and_their_length():
    head, between = ranges.several(HEAD, (Span(0, 1), Span(5, 6)), 10, "B")
    body = between[0] + b"ab" + between[1] + b"fg" + between[2]
    assert head.fields["Content-Type"] == "multipart/byteranges; boundary=B"
    assert head.fields["Content-Length"] == str(len(body))
    assert "Content-Range" not in head.fields
    assert body == (
        b"\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\nab"
        b"\r\n--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 5-6/10\r\n\r\nfg"
        b"\r\n--B--\r\n"
    )
    bare, between = ranges.several(ResponseHead(200), (Span(0, 1),), 10, "B")
    assert between[0] == b"\r\n--B\r\nContent-Range: bytes 0-1/10\r\n\r\n"
    assert bare.status == 206


def test_none_of_it():
    head = ranges.unsatisfiable(HEAD, 10)
    assert head.status == 416
    assert dict(head.fields) == {"ETag": '"a"', "Content-Range": "bytes */10", "Content-Length": "0"}

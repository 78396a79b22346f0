"""RFC 9111 §4.3: validation."""

import pytest

from passoproxy.core.cache import validation
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.etag import made_etag
from passoproxy.core.cache.validation import (
    Exchange,
    Outdated,
    can_be_validated,
    forwarded_conditions,
    matching,
    nominees,
    question,
    settled,
    settled_by_head,
    unconditional,
)
from passoproxy.core.http.messages import RequestHead, ResponseHead, fields_of
from passoproxy.core.http.syntax import print_date

NOW = 1_700_000_000.0
MODIFIED = "Wed, 01 Jan 2020 00:00:00 GMT"
LATER = Exchange(NOW + 100, NOW + 101, fields_of({"foo": "2"}))
MADE = made_etag("f" * 64)


def entry(*fields, identifier="1", status=200, made=""):
    return Entry(
        "k",
        identifier,
        "p",
        "GET",
        "/",
        status,
        fields_of([*fields, ("Vary", "Foo")]),
        (("foo", "1"),),
        NOW,
        NOW,
        NOW,
        made_etag=made,
    )


def sent(selected, named, *fields):
    return dict(question(RequestHead("GET", "/", fields_of(fields)), selected, named).fields)


def test_the_question_carries_stored_validators_and_none_of_the_clients_4_3_1():
    stored = entry(("ETag", '"a"'), ("Last-Modified", MODIFIED))
    asked = sent(stored, (stored,), ("If-None-Match", '"x"'), ("If-Range", '"y"'), ("Accept", "z"))
    assert asked == {"If-None-Match": '"a"', "If-Modified-Since": MODIFIED, "Accept": "z"}


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ([("ETag", 'W/"a"')], {"If-None-Match": 'W/"a"'}),
        ([("ETag", "a")], {"If-None-Match": '"a"'}),
        ([("Last-Modified", MODIFIED)], {"If-Modified-Since": MODIFIED}),
        ([("Last-Modified", "yesterday"), ("ETag", '"a"')], {"If-None-Match": '"a"'}),
    ],
)
def test_each_validator(fields, asked):
    stored = entry(*fields)
    assert can_be_validated(stored)
    assert sent(stored, (stored,)) == asked


def test_a_made_tag_is_never_sent():
    stored = entry(made=MADE)
    assert not can_be_validated(stored)
    assert nominees(stored, (stored,)) == ()


def test_other_variants_are_named_by_strong_tags_only():
    chosen, strong, weak = (
        entry(("ETag", 'W/"a"')),
        entry(("ETag", '"b"'), identifier="2"),
        entry(("ETag", 'W/"c"'), identifier="3"),
    )
    assert nominees(chosen, (weak, strong, chosen)) == (chosen, strong)
    assert nominees(None, (weak, strong, chosen)) == (strong,)
    assert nominees(entry(), ()) == ()
    assert sent(None, (strong,)) == {"If-None-Match": '"b"'}


@pytest.mark.parametrize(
    ("conditions", "left"),
    [
        ({}, {}),
        ({"If-None-Match": '"a"'}, {"If-None-Match": '"a"'}),
        ({"If-None-Match": f'"a", {MADE}'}, {"If-None-Match": '"a"'}),
        ({"If-None-Match": MADE, "If-Modified-Since": MODIFIED}, {}),
        ({"If-None-Match": "*"}, {"If-None-Match": "*"}),
        ({"If-Modified-Since": MODIFIED}, {"If-Modified-Since": MODIFIED}),
        ({"Range": "bytes=0-1", "If-Range": MADE}, {}),
        ({"Range": "bytes=0-1", "If-Range": '"a"'}, {"Range": "bytes=0-1", "If-Range": '"a"'}),
    ],
)
def test_what_a_client_sends_along(conditions, left):
    head = RequestHead("GET", "/", fields_of(conditions))
    assert dict(forwarded_conditions(head).fields) == left
    assert not dict(unconditional(head).fields)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ('"a-gzip"', '"a"'),  # the stored one
        ('"b-gzip"', '"b-gzip", "b"'),  # either, since neither is stored
        (f'"a", {MADE}', '"a"'),
        (MADE, None),
        ("*", "*"),
        ("", ""),
    ],
)
def test_if_match_is_turned_back_into_the_origins_tags(given, meant):
    found = matching(RequestHead("PUT", "/", fields_of({"If-Match": given})), [entry(("ETag", '"a"'))])
    assert (found and found.fields["If-Match"]) == meant


STRONG, WEAK = entry(("ETag", '"a"'), ("Last-Modified", MODIFIED)), entry(("ETag", 'W/"a"'), identifier="2")
DATED, OTHER = entry(("Last-Modified", MODIFIED), identifier="3"), entry(("ETag", '"b"'), identifier="4")


@pytest.mark.parametrize(
    ("fields", "selected", "named", "chosen"),
    [
        ([("ETag", '"a"')], STRONG, (STRONG,), "1"),
        ([("ETag", 'W/"a"')], STRONG, (STRONG,), "1"),
        ([("ETag", '"a"')], WEAK, (WEAK,), "2"),
        ([("ETag", '"z"')], STRONG, (STRONG,), None),
        ([("ETag", '"b"')], STRONG, (STRONG, OTHER), "4"),
        ([("ETag", '"b"')], None, (OTHER,), "4"),
        ([("ETag", '"a"')], DATED, (DATED,), None),
        ([("Last-Modified", MODIFIED)], DATED, (DATED,), "3"),
        ([("Last-Modified", print_date(NOW))], DATED, (DATED,), None),
        ([], STRONG, (STRONG, OTHER), "1"),
        ([], None, (OTHER,), "4"),
        ([], None, (OTHER, STRONG), None),
        ([], DATED, (OTHER, STRONG), None),
    ],
)
def test_whom_a_304_speaks_of_4_3_4(fields, selected, named, chosen):
    outcome = settled(ResponseHead(304, fields_of(fields)), selected, named, LATER)
    if chosen is None:
        assert outcome is None
    else:
        assert outcome is not None
        assert outcome.identifier == chosen
        of_asker = selected is not None and selected.identifier == chosen
        assert outcome.varies == (("foo", "2" if of_asker else "1"),)


def test_what_a_304_changes_3_2():
    stored = entry(
        ("Date", print_date(NOW)), ("Age", "50"), ("ETag", '"a"'), ("Content-Length", "3"), ("Content-Encoding", "gzip"), ("X", "old"),
        ("Keep", "1"), ("Cache-Control", "max-age=1"),
    )  # fmt: skip
    told = fields_of(
        [
            ("ETag", '"a"'),
            ("Content-Length", "99"),
            ("Content-Encoding", "br"),
            ("X", "new"),
            ("X", "newer"),
            ("Cache-Control", "max-age=9"),
        ]
    )
    outcome = settled(ResponseHead(304, told), stored, (stored,), LATER)
    assert outcome is not None
    fields = outcome.fields
    assert (fields["Content-Length"], fields["Content-Encoding"], fields["Keep"]) == ("3", "gzip", "1")
    assert fields.getall("X") == ["new", "newer"]
    assert fields["Cache-Control"] == "max-age=9"
    assert "Age" not in fields
    assert fields["Date"] == print_date(NOW + 101)
    assert (outcome.request_time, outcome.response_time, outcome.stored_at) == (
        NOW + 100,
        NOW + 101,
        NOW + 101,
    )


def test_date_and_age_of_the_304_are_taken():
    stored = entry(("ETag", '"a"'), ("Age", "50"))
    told = fields_of([("Date", print_date(NOW + 90)), ("Age", "7")])
    outcome = settled(ResponseHead(304, told), stored, (stored,), LATER)
    assert outcome is not None
    assert (outcome.fields["Date"], outcome.fields["Age"]) == (print_date(NOW + 90), "7")


@pytest.mark.parametrize(
    ("status", "fields", "holds"),
    [
        (200, [], True),
        (200, [("ETag", '"a"'), ("Content-Length", "3"), ("New", "1")], True),
        (200, [("ETag", '"b"')], False),
        (200, [("Content-Length", "4")], False),
        (200, [("Last-Modified", MODIFIED)], False),
        (410, [], False),
    ],
)
def test_head_4_3_5(status, fields, holds):
    outcome = settled_by_head(
        entry(("ETag", '"a"'), ("Content-Length", "3")), ResponseHead(status, fields_of(fields)), LATER
    )
    assert isinstance(outcome, Entry if holds else Outdated)


def test_the_whole_is_asked_for_with_the_clients_other_conditions():
    head = RequestHead("GET", "/", fields_of([("Range", "bytes=0-1"), ("If-Range", '"a"'), ("If-None-Match", '"b"')]))
    assert list(validation.whole(head).fields.items()) == [("If-None-Match", '"b"')]
    assert list(validation.unconditional(head).fields.items()) == []
    plain = RequestHead("GET", "/", fields_of([("If-None-Match", '"b"')]))
    assert validation.whole(plain) is plain
    assert not validation.has_conditions(fields_of([("If-Range", '"a"')]))


def test_a_question_names_the_youngest_variants_only():
    stored = [
        Entry("k", str(number), "p", "GET", "/", 200, fields_of([("ETag", f'"{number}"')])) for number in range(64)
    ]
    named = validation.nominees(None, stored)
    assert [entry.identifier for entry in named] == [str(number) for number in range(validation.MOST_NAMED)]


def test_a_part_is_named_only_where_it_is_the_one_selected():
    part = Entry("k", "1", "p", "GET", "/", 206, fields_of([("ETag", '"a"')]))
    assert validation.nominees(part, [part]) == (part,)
    assert validation.nominees(None, [part]) == ()

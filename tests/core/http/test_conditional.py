"""RFC 9110 §13: the client's conditions held against an answer at hand."""

import pytest

from passoproxy.core.http.conditional import bare, is_weak, not_modified, readable_tag, readable_tags
from passoproxy.core.http.messages import fields_of
from passoproxy.core.http.syntax import print_date

NOW = 1_700_000_000.0
CHANGED = print_date(NOW - 5000)


@pytest.mark.parametrize(
    ("condition", "tag", "holds"),
    [
        (['"abc"'], '"abc"', True),
        (['"abc"'], '"abd"', False),
        (['W/"abc"'], '"abc"', True),  # weak comparison, §8.8.3.2
        (['"abc"'], 'W/"abc"', True),
        (['w/"abc"'], 'W/"abc"', True),
        (['"1", "abc", "2"'], '"abc"', True),
        (['"1"', '"abc"'], '"abc"', True),
        (['"1,abc"'], '"abc"', False),
        (["*"], '"abc"', True),
        ([" * "], None, True),
        (['"abc"'], None, False),
        (["abc"], '"abc"', True),  # tags without quotation marks are read as most caches read them
        (['"abc"'], "abc", True),
        ([""], '"abc"', False),
        (['"abcd\udcfc"'], '"abcd\udcfc"', True),
        (['"abc'], '"abc', False),
    ],
)
def test_if_none_match_13_1_2(condition, tag, holds):
    request = fields_of([("If-None-Match", line) for line in condition])
    assert not_modified(request, fields_of([("ETag", tag)] if tag else []), NOW) is holds


@pytest.mark.parametrize(
    ("since", "modified", "holds"),
    [
        (CHANGED, CHANGED, True),
        (print_date(NOW - 4000), CHANGED, True),
        (print_date(NOW - 6000), CHANGED, False),
        ("Tuesday, 14-Nov-23 20:50:00 GMT", "Tue, 14 Nov 2023 20:50:00 GMT", True),
        ("yesterday", CHANGED, False),
        (CHANGED, "yesterday", False),
        (CHANGED, None, False),
        (None, CHANGED, False),
    ],
)
def test_if_modified_since_13_1_3(since, modified, holds):
    request = fields_of([("If-Modified-Since", since)] if since else [])
    assert not_modified(request, fields_of([("Last-Modified", modified)] if modified else []), NOW) is holds


@pytest.mark.parametrize(("since", "holds"), [(NOW, True), (NOW - 1, False)])
def test_without_last_modified_the_date_counts_9111_4_3_2(since, holds):
    request = fields_of([("If-Modified-Since", print_date(since))])
    assert not_modified(request, fields_of([("Date", print_date(NOW))]), NOW) is holds


def test_if_none_match_takes_precedence_13_2_2():
    answer = fields_of([("ETag", '"abc"'), ("Last-Modified", CHANGED)])
    older, newer = print_date(NOW - 9000), print_date(NOW)
    assert not_modified(fields_of([("If-None-Match", '"abc"'), ("If-Modified-Since", older)]), answer, NOW)
    assert not not_modified(fields_of([("If-None-Match", '"x"'), ("If-Modified-Since", newer)]), answer, NOW)


def test_tags():
    assert bare('W/"a"') == bare('w/"a"') == bare('"a"') == '"a"'
    assert (is_weak('W/"a"'), is_weak('"W/"')) == (True, False)
    assert readable_tag(' "a" ') == '"a"'
    assert readable_tag("a,b") == readable_tag('a"b') == readable_tag("") == ""
    assert readable_tags('"a", b, W/"c"') == ['"a"', '"b"', 'W/"c"']

"""Entity tags: RFC 9110 §8.8.3, §13.1.2."""

from __future__ import annotations

import pytest

from passoproxy.core.http import conditional as tags
from passoproxy.core.http.messages import ResponseHead, fields_of
from passoproxy.core.http.representation import merged_vary


def test_forms() -> None:
    assert tags.suffixed('"a"', "gzip") == '"a-gzip"'
    assert tags.suffixed('W/"a"', "gzip") == 'W/"a"'
    assert tags.weak('"a"') == tags.weak('W/"a"') == 'W/"a"'
    assert tags.unsuffixed('"a-gzip"') == tags.unsuffixed('"a-zstd"') == tags.unsuffixed('"a"') == '"a"'
    assert tags.bare('W/"a"') == '"a"'


def test_a_tag_without_quotation_marks_gets_them_in_every_form() -> None:
    assert tags.suffixed("abc", "gzip") == '"abc-gzip"'
    assert tags.weak("abc") == 'W/"abc"'


def test_conditions_carry_both_forms() -> None:
    assert tags.with_inner_forms('"a-gzip", W/"b"') == '"a-gzip", "a", W/"b"'
    for unchanged in ("*", "a", '"a"', '"a", W/"b"', '"a" "b-gzip"', ""):
        assert tags.with_inner_forms(unchanged) == unchanged


@pytest.mark.parametrize(
    ("etag", "sent", "told"),
    [
        ('"a"', '"a-gzip"', '"a-gzip"'),
        ('"a"', '"x", W/"a"', 'W/"a"'),
        ('"a"', '"a"', '"a"'),
        ('"a"', '"x"', '"a"'),
        ("a", '"a-gzip"', '"a-gzip"'),
        ('"a"', None, '"a"'),
        ('"a"', "*", '"a"'),
    ],
)
def test_304_names_the_tag_as_the_client_did(etag: str, sent: str | None, told: str) -> None:
    head = ResponseHead(304, fields_of([("ETag", etag)]))
    assert tags.not_modified_for(head, sent).fields["ETag"] == told


def test_304_without_a_tag_stays() -> None:
    head = ResponseHead(304)
    assert tags.not_modified_for(head, '"a"') is head


@pytest.mark.parametrize(
    ("values", "merged"),
    [
        ((), "Accept-Encoding"),
        (("Accept, accept-encoding",), "Accept, accept-encoding"),
        (("Accept", "Cookie"), "Accept, Cookie, Accept-Encoding"),
        (("Accept, *",), "*"),
    ],
)
def test_vary_is_merged(values: tuple[str, ...], merged: str) -> None:
    assert merged_vary(values, "Accept-Encoding") == merged

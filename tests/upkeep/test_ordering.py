"""Requests described as JSON: what they mean, and what is wrong with those that mean nothing."""

from __future__ import annotations

from typing import Any

import pytest

from passoproxy.errors import UsageFailure
from passoproxy.upkeep.prefetch import Order, order_of


def order(described: object) -> Order:
    return order_of(described, lambda url: url.removeprefix("http://here"), "here:1", 7)


def test_a_url_alone_is_a_get() -> None:
    found = order("http://here/a?b")
    assert (found.number, found.url, found.body) == (7, "http://here/a?b", b"")
    assert (found.head.method, found.head.target, found.head.authority) == ("GET", "/a?b", "here:1")
    assert not found.head.fields


@pytest.mark.parametrize(
    ("described", "method", "fields", "body"),
    [
        ({"url": "/a"}, "GET", [], b""),
        ({"url": "/a", "method": "head", "headers": {"Accept": "x"}}, "HEAD", [("Accept", "x")], b""),
        ({"url": "/a", "headers": {"Accept": ["x", "y"]}}, "GET", [("Accept", "x"), ("Accept", "y")], b""),
        ({"url": "/a", "headers": ["Accept: x", "If-Match:\"a:b\""]}, "GET", [("Accept", "x"), ("If-Match", '"a:b"')], b""),
        ({"url": "/a", "data": "x=1"}, "POST", [], b"x=1"),
        ({"url": "/a", "data": ' {"b": 1}'}, "POST", [("Content-Type", "application/json")], b' {"b": 1}'),
        ({"url": "/a", "body": "[1]"}, "POST", [("Content-Type", "application/json")], b"[1]"),
        ({"url": "/a", "body": {"b": ["ä"]}}, "POST", [("Content-Type", "application/json")], '{"b":["ä"]}'.encode()),
        (
            {"url": "/a", "body": {"b": 1}, "headers": {"content-type": "application/x+json"}},
            "POST",
            [("content-type", "application/x+json")],
            b'{"b":1}',
        ),
        ({"url": "/a", "method": "GET", "body": "", "headers": None, "number": 3}, "GET", [], b""),
        ({"url": "/a", "data": None, "body": "x"}, "POST", [], b"x"),
    ],
)  # fmt: skip
def test_what_is_described(described: Any, method: str, fields: Any, body: bytes) -> None:
    found = order(described)
    assert (found.head.method, list(found.head.fields.items()), found.body) == (method, fields, body)


@pytest.mark.parametrize(
    ("described", "text"),
    [
        (7, "a URL, a path or an object"),
        ({}, "url: a URL or a path is expected"),
        ({"url": 1}, "url: a URL or a path is expected"),
        ({"url": ""}, "url: a URL or a path is expected"),
        ({"url": "/a", "metod": "GET"}, "'metod' is not known here"),
        ({"url": "/a", "method": 1}, "method: the name of a method"),
        ({"url": "/a", "method": "G T"}, "method: the name of a method is expected, such as GET, not 'G T'"),
        ({"url": "/a", "data": "x", "body": "y"}, "two words for one thing"),
        ({"url": "/a", "headers": 1}, "headers: an object of names and values"),
        ({"url": "/a", "headers": ["Accept"]}, "name and value are expected, as in 'Accept: text/html'"),
        ({"url": "/a", "headers": ["X-Key sesame"]}, "the line that begins with 'X-Key' has no colon$"),
        ({"url": "/a", "headers": [" "]}, "the line that begins with '' has no colon$"),
        ({"url": "/a", "headers": {"A b": "x"}}, "the name of a header field"),
        ({"url": "/a", "headers": {"A": 1}}, "a text without line breaks is expected for A"),
        ({"url": "/a", "headers": {"A": "x\r\nB: y"}}, "a text without line breaks is expected for A"),
        ({"url": "/a", "headers": {"A": "\ud800"}}, "a text without line breaks is expected for A"),
    ],
)
def test_what_means_nothing_is_told(described: Any, text: str) -> None:
    with pytest.raises(UsageFailure, match=text.replace("(", "\\(")):
        order(described)

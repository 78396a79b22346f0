"""Browser pages that ask (contract §3 `allowed_origins`; Fetch §3.2)."""

from __future__ import annotations

import pytest
import yaml

from passoproxy.core.access import (
    Admission,
    AdmissionPolicy,
    is_preflight,
    listed_origin,
    preflight_answer,
    readable_by,
)
from passoproxy.core.http.messages import RequestHead, ResponseHead, fields_of
from passoproxy.errors import OriginNotAllowed

PAGES = Admission(
    AdmissionPolicy(allowed_origins=("https://App.example/", "null"), allow_methods=("GET", "POST"))
).pages
NOBODY = Admission(AdmissionPolicy()).pages

Pairs = list[tuple[str, str]]


def asking(*pairs: tuple[str, str], method: str = "GET") -> RequestHead:
    return RequestHead(method, "/", fields_of(pairs), authority="localhost:8610")


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("Sec-Fetch-Site", "none")],
        [("Sec-Fetch-Site", "same-origin")],
        [("Sec-Fetch-Mode", "cors")],
    ],
)
def test_programs_people_and_pages_without_an_origin_pass(pairs: Pairs) -> None:
    assert listed_origin(NOBODY, asking(*pairs)) is None


@pytest.mark.parametrize(
    "pairs",
    [
        [("Origin", "https://evil.example")],
        [("Origin", "https://app.example")],
        [("Origin", "http://localhost:3000")],
        [("Origin", "http://localhost:8610")],
        [("Origin", "https://LocalHost:8610"), ("Sec-Fetch-Site", "same-origin")],
        [("Origin", "http://localhost")],
        [("Origin", "ftp://localhost:8610")],
        [("Origin", "localhost:8610")],
        [("Origin", "null")],
        [("Origin", "")],
        [("Origin", "http://localhost:8610"), ("Origin", "http://evil.example")],
        [("Sec-Fetch-Site", "cross-site")],
        [("Sec-Fetch-Site", "same-site")],
        [("Sec-Fetch-Site", "")],
        [("Sec-Fetch-Site", "none"), ("Sec-Fetch-Site", "cross-site")],
        [("Sec-Fetch-Site", "same-origin"), ("Origin", "https://evil.example")],
        [("Sec-Fetch-Site", "cross-site"), ("Origin", "http://localhost:8610")],
    ],
)
def test_other_pages_are_refused(pairs: Pairs) -> None:
    with pytest.raises(OriginNotAllowed):
        listed_origin(NOBODY, asking(*pairs))


@pytest.mark.parametrize("origin", ["https://app.example", "HTTPS://APP.EXAMPLE", "null"])
def test_listed_pages_pass_and_are_named(origin: str) -> None:
    assert listed_origin(PAGES, asking(("Origin", origin), ("Sec-Fetch-Site", "cross-site"))) == origin


def test_two_origins_are_not_listed_even_where_each_is() -> None:
    with pytest.raises(OriginNotAllowed):
        listed_origin(PAGES, asking(("Origin", "null"), ("Origin", "null")))


def test_the_refusal_is_the_line_that_would_allow_the_page() -> None:
    with pytest.raises(OriginNotAllowed) as refused:
        listed_origin(PAGES, asking(("Origin", "http://other.example:3000")))
    listed = yaml.safe_load(refused.value.detail)["server"]["allowed_origins"]
    assert listed == ["https://app.example", "null", "http://other.example:3000"]


@pytest.mark.parametrize(
    ("method", "pairs", "expected"),
    [
        ("OPTIONS", [("Origin", "a"), ("Access-Control-Request-Method", "PUT")], True),
        ("OPTIONS", [("Origin", "a")], False),
        ("OPTIONS", [("Access-Control-Request-Method", "PUT")], False),
        ("GET", [("Origin", "a"), ("Access-Control-Request-Method", "PUT")], False),
    ],
)
def test_preflights(method: str, pairs: Pairs, expected: bool) -> None:
    assert is_preflight(asking(*pairs, method=method)) is expected


def test_a_preflight_allows_methods_and_the_fields_that_are_tokens() -> None:
    asked = fields_of([("Access-Control-Request-Headers", "x-a, b c, X-Passoproxy-Key")])
    head = preflight_answer(PAGES, "https://app.example", asked)
    assert head.status == 204
    assert dict(head.fields) == {
        "Access-Control-Allow-Origin": "https://app.example",
        "Access-Control-Expose-Headers": "*",
        "Vary": "Origin",
        "Access-Control-Allow-Methods": "GET, POST",
        "Access-Control-Allow-Headers": "x-a, X-Passoproxy-Key",
        "Access-Control-Max-Age": "600",
    }


def test_a_preflight_from_a_public_page_to_this_private_address_is_allowed_too() -> None:
    asked = fields_of([("Access-Control-Request-Private-Network", "true")])
    head = preflight_answer(PAGES, "https://app.example", asked)
    assert head.fields["Access-Control-Allow-Private-Network"] == "true"


def test_an_answer_is_made_readable_in_our_words_and_keeps_its_vary() -> None:
    answer = ResponseHead(
        200, fields_of([("Access-Control-Allow-Origin", "*"), ("Vary", "Accept"), ("Vary", "X"), ("A", "1")])
    )
    fields = readable_by(answer, "https://app.example").fields
    assert fields.getall("Access-Control-Allow-Origin") == ["https://app.example"]
    assert fields.getall("Vary") == ["Accept", "X", "Origin"]
    assert fields["A"] == "1"

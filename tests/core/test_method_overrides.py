"""`_method` fields in queries and bodies."""

from __future__ import annotations

import time

import pytest

from passoproxy.core.method_overrides import may_hold_method, methods_in_body, methods_in_query

FORM, JSON, PARTS = (
    "application/x-www-form-urlencoded",
    "application/json; charset=utf-8",
    "multipart/form-data; boundary=b",
)


@pytest.mark.parametrize(
    ("query", "methods"),
    [
        (None, []),
        ("", []),
        ("a=b", []),
        ("method=DELETE", []),
        ("_method=delete", ["delete"]),
        ("a=b&_method=PUT&_method=", ["PUT", ""]),
        ("%5Fmethod=PUT", ["PUT"]),
        ("_METHOD=PUT", ["PUT"]),
        ("+_method=PUT", ["PUT"]),
        (".method=PUT", ["PUT"]),
        ("[method=PUT", ["PUT"]),
    ],
)
def test_queries(query: str | None, methods: list[str]) -> None:
    assert methods_in_query(query) == methods


def part(disposition: str, content: str, end: str = "\r\n") -> bytes:
    return f"--b{end}Content-Disposition: form-data; {disposition}{end}X: y{end}{end}{content}{end}--b--{end}".encode()


@pytest.mark.parametrize(
    ("content_type", "data", "methods"),
    [
        (FORM, b"a=b", []),
        (FORM, b"a=b&_m%65thod=delete", ["delete"]),
        (FORM, b"\xff=\xff&_method=put", ["put"]),
        (JSON, b'{"_method": "DELETE", "a": {"_method": "x"}}', ["DELETE"]),
        (JSON, b'{"_method": 1}', []),
        (JSON, b'[{"_method": "DELETE"}]', []),
        (JSON, b"not json", []),
        (JSON, b"\xff", []),
        (JSON, b"[" * 100_000, []),
        ("application/vnd.api+json", b'{"_method": "PUT"}', ["PUT"]),
        (PARTS, part('name="_method"', "DELETE"), ["DELETE"]),
        (PARTS, part("name=_method", "DELETE"), ["DELETE"]),
        (PARTS, part('name="_method"', "DELETE", "\n"), ["DELETE"]),
        (PARTS, part('name="_method"; x=y', "put"), ["put"]),
        (PARTS, part('name="a"', "_method"), []),
    ],
)
def test_bodies(content_type: str, data: bytes, methods: list[str]) -> None:
    assert methods_in_body(content_type, data) == methods


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [(FORM, True), (JSON, True), (PARTS, True), ("a/b+json", True), ("text/plain", False), ("", False)],
)
def test_kinds_of_bodies(content_type: str, expected: bool) -> None:
    assert may_hold_method(content_type) is expected


def test_hostile_bodies_take_time_in_proportion() -> None:
    began = time.thread_time()
    assert methods_in_body(PARTS, b"content-disposition:" * 50_000) == []
    assert methods_in_body(PARTS, b"content-disposition: name=" * 40_000) == []
    assert time.thread_time() - began < 2

"""`_method` fields in queries and bodies. What PHP makes of each body is held against PHP itself in tests/php."""

from __future__ import annotations

import time

import pytest

from passoproxy.core.access import Admission, AdmissionPolicy
from passoproxy.core.http.messages import Fields, fields_of
from passoproxy.core.method_overrides import (
    UnclearOverride,
    may_hold_method,
    methods_in_body,
    methods_in_query,
)
from passoproxy.errors import BodyTooLarge, MethodNotAllowed
from tests.php.bodies import BODIES, DELETE, FORM, JSON, MEANT, PARTS, named, part

NO_DELETE = Admission(AdmissionPolicy(allow_methods=("GET", "POST")))
USUAL = Admission(AdmissionPolicy())


def typed(content_type: str, *more: tuple[str, str]) -> Fields:
    return fields_of([*([("Content-Type", content_type)] if content_type else []), *more])


@pytest.mark.parametrize(
    ("query", "methods"),
    [
        (None, []),
        ("", []),
        ("a=b", []),
        ("method=DELETE", []),
        ("a=_method", []),
        ("payment_method=x&_methods=y", []),
        ("_method=delete", ["delete"]),
        ("a=b&_method=PUT&_method=", ["", "PUT"]),
        ("_method", [""]),
        ("a;_method=PUT", ["PUT"]),
        ("a?_method=PUT", []),
        ("%5Fmethod=PUT", ["PUT"]),
        ("_METHOD=P%55T", ["PUT"]),
        ("+_method=PUT", ["PUT"]),
        (".method=PUT", ["PUT"]),
        ("[method=PUT", ["PUT"]),
        ("_method%00=PUT", ["PUT"]),
        ("_method%00x%3D=PUT", ["PUT"]),
        ("_method=\udcff", ["ÿ"]),
    ],
)
def test_queries(query: str | None, methods: list[str]) -> None:
    assert methods_in_query(query) == methods


@pytest.mark.parametrize("name", [name for name, (_, _, method) in BODIES.items() if method == DELETE])
def test_what_php_takes_for_another_method_is_refused(name: str) -> None:
    content_type, body, _ = BODIES[name]
    with pytest.raises(MethodNotAllowed) as refused:
        NO_DELETE.post(typed(content_type), body)
    assert refused.value.fields == (("Allow", "GET, POST"),)
    assert "_method" in refused.value.detail


@pytest.mark.parametrize("name", MEANT)
def test_what_honest_clients_send_passes(name: str) -> None:
    content_type, body = MEANT[name]
    NO_DELETE.post(typed(content_type), body)


def test_where_the_method_is_allowed_the_field_passes() -> None:
    for content_type, body in (
        (FORM, b"_method=delete"),
        (JSON, b'{"_method": "PUT"}'),
        (PARTS, named("name=_method")),
    ):
        USUAL.post(typed(content_type), body)
    with pytest.raises(MethodNotAllowed):
        USUAL.post(typed(FORM), b"_method=TRACE")


@pytest.mark.parametrize("content", ["DELETE ", "", "DELETE\r\n\r\nPOST", "x" * 65, "POST\0"])
def test_a_part_that_is_not_plainly_written_is_unclear(content: str) -> None:
    with pytest.raises(UnclearOverride, match="plainly written"):
        methods_in_body(PARTS, named('name="_method"', content))
    with pytest.raises(UnclearOverride, match="plainly written"):
        methods_in_body(PARTS, part('Content-Disposition: form-data; name="_method"').partition(b"\r\n\r\n")[0])


def test_parts_without_number_are_unclear() -> None:
    assert methods_in_body(PARTS, named('name="a"') * 2000) == []
    with pytest.raises(UnclearOverride, match="than 2000 parts"):
        methods_in_body(PARTS, named('name="a"') * 2001)


def test_json_that_cannot_be_read_to_its_end_is_unclear_where_a_method_could_be_in_it() -> None:
    deep = b'{"a": ' + b"[" * 100_000
    assert methods_in_body(JSON, deep) == []
    with pytest.raises(UnclearOverride, match="nested"):
        methods_in_body(JSON, deep + b', "_method": "DELETE"')


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        (FORM, True),
        (JSON, True),
        (PARTS, True),
        ("a/b+json", True),
        ("text/x; a=/json", True),
        ("application/x-www-form-urlencodedx", True),
        ("", True),
        ("pdf", True),
        ("text/plain", False),
        ("application/pdf; a=b", False),
    ],
)
def test_kinds_of_bodies(content_type: str, expected: bool) -> None:
    assert may_hold_method(content_type) is expected


@pytest.mark.parametrize(("content_type", "refused"), [(FORM, True), ("", True), ("application/pdf", False)])
def test_a_form_that_is_too_long_to_be_read_is_refused_where_a_usual_method_is_forbidden(
    content_type: str, refused: bool
) -> None:
    USUAL.post(typed(content_type), None)
    if not refused:
        NO_DELETE.post(typed(content_type), None)
        return
    with pytest.raises(BodyTooLarge, match="up to 1048576 bytes"):
        NO_DELETE.post(typed(content_type), None)


def test_a_coded_body_is_refused_where_a_usual_method_is_forbidden() -> None:
    coded = typed("text/plain", ("Content-Encoding", "gzip"))
    USUAL.post(coded, b"\x1f\x8b")
    NO_DELETE.post(typed("text/plain", ("Content-Encoding", "identity")), b"a")
    with pytest.raises(MethodNotAllowed, match="send it plain"):
        NO_DELETE.post(coded, b"\x1f\x8b")


@pytest.mark.parametrize(
    "body",
    [
        b"content-disposition:" * 50_000,
        b"content-disposition: name=" * 40_000,
        b"content-disposition: a\n" * 45_000,
        b"content-disposition: a\n\n" * 40_000,
        b"content-disposition: a\n" + b"x\n" * 500_000,
        b"content-disposition: a\n" + b" \n" * 500_000,
        b"\n\ncontent-disposition: name==  " + b" " * 1_000_000,
        b"&" * 1_000_000,
        b"&+" * 500_000,
        b"&" + b"+" * 1_000_000,
        b"&_method\0" * 110_000,
        b"_method=" * 120_000,
        b"+_method=" * 110_000,
        b"%6dethod=" * 110_000,
        b"&_method=POST" * 80_000,
        b'{"_method":"POST",' * 58_000,
        b'"_method' * 120_000,
        b'[' + b'{"_method":1},' * 70_000 + b"1]",
    ],
)  # fmt: skip
def test_hostile_bodies_take_time_in_proportion(body: bytes) -> None:
    began = time.thread_time()
    try:
        methods_in_body(PARTS, body)
    except UnclearOverride:
        pass
    assert (
        time.thread_time() - began < 2
    )  # 0.2 s at most without coverage; in proportion to the square it would be minutes

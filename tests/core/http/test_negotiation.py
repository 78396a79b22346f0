"""Content codings: RFC 9110 §12.5.3, contract §5."""

from __future__ import annotations

import pytest

from passoproxy.core.http.content_coding import accepted_codings, chosen, compressible, content_coding, takes
from passoproxy.core.http.messages import fields_of

MAKEABLE = ("zstd", "br", "gzip")


@pytest.mark.parametrize(
    ("value", "coding"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip", "gzip"),
        ("GZIP, BR", "br"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1, br;q=0.5", "gzip"),
        ("gzip;q=0", "identity"),
        ("*", "zstd"),
        ("*;q=0", "identity"),
        ("zstd;q=0, *;q=0.5", "br"),
        ("gzip;q=0.5, identity", "identity"),
        ("gzip;q=x", "identity"),
        ("gzip;level=1;q=0.3", "gzip"),
        ("gzip;q=7", "gzip"),
        ("deflate", "identity"),
        (", ,gzip", "gzip"),
        ("x-gzip", "gzip"),
    ],
)
def test_choice(value: str | None, coding: str) -> None:
    assert chosen(accepted_codings(value), MAKEABLE) == coding


@pytest.mark.parametrize(
    ("lines", "coding"),
    [
        ([], ""),
        (["identity"], ""),
        ([""], ""),
        ([" GZip "], "gzip"),
        (["gzip", "br"], "gzip, br"),
        (["gzip, br"], "gzip, br"),
    ],
)
def test_the_coding_of_a_body_is_said_over_all_lines(lines: list[str], coding: str) -> None:
    assert content_coding(fields_of([("Content-Encoding", line) for line in lines])) == coding


def test_weights() -> None:
    weights = accepted_codings("gzip;q=0.2, *;q=0.1")
    assert takes(weights, "gzip") == 0.2
    assert takes(weights, "br") == 0.1
    assert takes(accepted_codings(None), "gzip") == 0


@pytest.mark.parametrize(
    ("kind", "yes"),
    [
        ("application/json; charset=utf-8", True),
        ("application/problem+json", True),
        ("TEXT/html", True),
        ("image/svg+xml", True),
        ("application/pdf", False),
        ("image/png", False),
        (None, False),
    ],
)
def test_compressible(kind: str | None, yes: bool) -> None:
    assert compressible(kind) is yes

"""How bodies are framed (RFC 9112 §6). Whole requests are in tests/server/test_hostile_exchanges.py."""

from __future__ import annotations

import pytest

from passoproxy.core.http.framing import (
    CHUNKED,
    NO_BODY,
    UNTIL_CLOSED,
    RequestFraming,
    ResponseFraming,
    Sized,
    expects_continue,
    keeps_alive,
    request_framing,
    response_framing,
)
from passoproxy.core.http.messages import fields_of
from passoproxy.errors import BadRequest, OriginInvalid

Pairs = list[tuple[str, str]]


@pytest.mark.parametrize(
    ("pairs", "framing"),
    [
        ([], NO_BODY),
        ([("Content-Length", "0")], Sized(0)),
        ([("Content-Length", "007")], Sized(7)),
        ([("Content-Length", "9" * 30)], Sized(10**18)),
        ([("Transfer-Encoding", "Chunked")], CHUNKED),
    ],
)
def test_requests_9112_6_3(pairs: Pairs, framing: RequestFraming) -> None:
    assert request_framing((1, 1), fields_of(pairs)) == framing


@pytest.mark.parametrize(
    "pairs",
    [
        [("Content-Length", "1"), ("Content-Length", "1")],
        [("Content-Length", "1, 1")],
        [("Content-Length", "")],
        [("Content-Length", "+1")],
        [("Content-Length", "١")],
        [("Transfer-Encoding", "chunked"), ("Content-Length", "1")],
        [("Transfer-Encoding", "gzip, chunked")],
        [("Transfer-Encoding", "")],
        [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
    ],
)
def test_ambiguous_requests(pairs: Pairs) -> None:
    with pytest.raises(BadRequest):
        request_framing((1, 1), fields_of(pairs))


def test_no_coding_in_http_1_0() -> None:
    with pytest.raises(BadRequest):
        request_framing((1, 0), fields_of([("Transfer-Encoding", "chunked")]))


@pytest.mark.parametrize(
    ("method", "status", "pairs", "framing"),
    [
        ("HEAD", 200, [("Content-Length", "5")], NO_BODY),
        ("GET", 204, [("Content-Length", "5")], NO_BODY),
        ("GET", 304, [("Transfer-Encoding", "chunked")], NO_BODY),
        ("GET", 103, [], NO_BODY),
        ("GET", 200, [], UNTIL_CLOSED),
        ("GET", 200, [("Content-Length", "5")], Sized(5)),
        ("GET", 200, [("Content-Length", "5, 5"), ("Content-Length", "5")], Sized(5)),
        ("GET", 200, [("Transfer-Encoding", "CHUNKED")], CHUNKED),
    ],
)
def test_answers_9112_6_3(method: str, status: int, pairs: Pairs, framing: ResponseFraming) -> None:
    assert response_framing(method, (1, 1), status, fields_of(pairs)) == framing


@pytest.mark.parametrize(
    "pairs",
    [
        [("Content-Length", "5"), ("Content-Length", "6")],
        [("Content-Length", "5, 6")],
        [("Content-Length", "")],
        [("Content-Length", "-1")],
        [("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
        [("Transfer-Encoding", "gzip")],
        [("Transfer-Encoding", "chunked, chunked")],
        [("Transfer-Encoding", "gzip, chunked")],
    ],
)
def test_answers_whose_end_cannot_be_known(pairs: Pairs) -> None:
    with pytest.raises(OriginInvalid):
        response_framing("GET", (1, 1), 200, fields_of(pairs))


def test_no_coding_in_http_1_0_answers() -> None:
    with pytest.raises(OriginInvalid):
        response_framing("GET", (1, 0), 200, fields_of([("Transfer-Encoding", "chunked")]))


def test_expectations_9110_10_1_1() -> None:
    assert not expects_continue((1, 1), fields_of())
    assert expects_continue((1, 1), fields_of([("Expect", "100-Continue")]))
    assert not expects_continue((1, 0), fields_of([("Expect", "100-continue")]))
    assert not expects_continue((1, 1), fields_of([("Expect", "")]))
    with pytest.raises(BadRequest):
        expects_continue((1, 1), fields_of([("Expect", "100-continue"), ("Expect", "rain")]))


@pytest.mark.parametrize(
    ("version", "options", "keeps"),
    [
        ((1, 1), [], True),
        ((1, 1), ["keep-alive"], True),
        ((1, 1), ["x, Close"], False),
        ((1, 1), ["keep-alive", "close"], False),
        ((1, 0), [], False),
        ((1, 0), ["Keep-Alive"], True),
        ((1, 0), ["keep-alive, close"], False),
    ],
)
def test_whether_a_connection_is_kept_9112_9_3(version: tuple[int, int], options: list[str], keeps: bool) -> None:
    assert keeps_alive(version, fields_of([("Connection", option) for option in options])) is keeps

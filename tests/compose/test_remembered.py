"""What is remembered of texts that clients choose is bounded in bytes too: a long one is judged anew each time (threat model, memory)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest

from passoproxy.core.access import Admission, AdmissionPolicy
from passoproxy.core.cache.policy import CacheMode
from passoproxy.core.events import RequestAnswered
from passoproxy.core.http.forwarding import admitted
from passoproxy.core.http.messages import RequestHead, fields_of
from passoproxy.core.redaction import Redactor
from passoproxy.core.routes import RouteTable
from passoproxy.proxy.access import Access
from passoproxy.proxy.representation import Codings
from passoproxy.proxy.spool import Spools
from passoproxy.telemetry.logs import AccessLines
from tests.fakes import request, response

LONG = "x" * 31_000  # what a head of the usual `header_bytes` has room for
MOST_KEPT = 256 * 1024


def access() -> Callable[[str], object]:
    class Inner:
        def try_hit(self, asked: object) -> object:
            return None

    admission, table = Admission(AdmissionPolicy(deny_paths=())), RouteTable((), CacheMode())
    hop = Access(Inner(), lambda: admission, table, Spools())  # type: ignore[arg-type]
    return lambda path: hop.try_hit(request(target=path))


def fields() -> Callable[[str], object]:
    def judged(text: str) -> object:
        head = RequestHead("GET", "/", fields_of([(text, "1"), ("Connection", text)]))
        return admitted(head, pass_cookies=False, pass_authorization=False)

    return judged


def codings() -> Callable[[str], object]:
    class Inner:
        def try_hit(self, asked: object) -> object:
            return response(200, [("Content-Type", "text/plain")], b"text " * 1000)

    hop = Codings(Inner())  # type: ignore[arg-type]
    return lambda text: hop.try_hit(request(fields=[("Accept-Encoding", text)]))


def lines() -> Callable[[str], object]:
    written = AccessLines(lambda text: None, lambda *told: "", Redactor(), wall=lambda: 0.0)

    def logged(text: str) -> None:
        written.add(RequestAnswered("", text, f"/{text}", 200, "", "", "", 0.0, 0, "complete"))
        written.flush()

    return logged


@pytest.mark.parametrize("room", [access, fields, codings, lines])
def test_long_texts_are_not_remembered(room: Callable[[], Callable[[str], object]]) -> None:
    judge = room()
    judge("/first")
    tracemalloc.start()
    try:
        for number in range(50):
            judge(f"/{number}{LONG}")
        assert tracemalloc.get_traced_memory()[0] < MOST_KEPT
    finally:
        tracemalloc.stop()

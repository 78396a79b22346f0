"""What is remembered of texts that clients choose is bounded in bytes too: a long one is judged anew each time (threat model, memory)."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Callable

import pytest

from passoproxy.core.access import Admission, AdmissionPolicy
from passoproxy.core.cache.key import content_of, primary_key, side_effects
from passoproxy.core.cache.policy import BypassPolicy, CacheMode, KeyPolicy
from passoproxy.core.events import RequestAnswered
from passoproxy.core.http.forwarding import admitted
from passoproxy.core.http.framing import keeps_alive
from passoproxy.core.http.messages import RequestHead, fields_of
from passoproxy.core.redaction import Redactor
from passoproxy.core.routes import RouteTable
from passoproxy.proxy.access import Access
from passoproxy.proxy.representation import wanted
from passoproxy.proxy.spool import Spools
from passoproxy.server.request import receive
from passoproxy.telemetry.logs import AccessLines, request_ids
from tests.fakes import ScriptedHop

LONG = "x" * 31_000  # what a head of the usual `header_bytes` has room for
MOST_KEPT = 256 * 1024


def access() -> Callable[[str], object]:
    admission, table = Admission(AdmissionPolicy(deny_paths=())), RouteTable((), CacheMode())
    hop = Access(ScriptedHop([]), lambda: admission, table, Spools())
    return lambda path: hop.placed(admission, "GET", path)


def fields() -> Callable[[str], object]:
    def judged(text: str) -> object:
        head = RequestHead("GET", "/", fields_of([(text, "1"), ("Connection", text)]))
        return admitted(head, pass_cookies=False, pass_authorization=False)

    return judged


def codings() -> Callable[[str], object]:
    return lambda text: wanted(fields_of([("Accept-Encoding", text)]))


async def _heads(text: str) -> object:
    return receive(f"GET {text} HTTP/1.1\r\nHost: a\r\nX: {text}\r\n\r\n".encode(), "http")


def heads() -> Callable[[str], object]:
    return lambda text: asyncio.run(_heads(text))


def bodies() -> Callable[[str], object]:
    admission, json_fields = Admission(AdmissionPolicy()), fields_of([("Content-Type", "application/json")])

    def judged(text: str) -> object:
        body = json.dumps({"a": text}).encode()
        admission.post(json_fields, body)
        return content_of(json_fields, body, KeyPolicy())

    return judged


def types_of_bodies() -> Callable[[str], object]:
    admission = Admission(AdmissionPolicy())

    def judged(text: str) -> object:
        form = fields_of([("Content-Type", f"application/x-www-form-urlencoded; a={text}")])
        admission.post(form, b"a=1")
        return content_of(form, b"a=1", KeyPolicy())

    return judged


def options_of_connections() -> Callable[[str], object]:
    return lambda text: keeps_alive((1, 1), fields_of([("Connection", text)]))


def named_fields() -> Callable[[str], object]:
    policy = KeyPolicy(headers=("X-Tenant",))
    return lambda text: primary_key("", RequestHead("GET", "/", fields_of([("X-Tenant", text)])), policy)


def keys() -> Callable[[str], object]:
    return lambda target: primary_key("", RequestHead("GET", target), KeyPolicy())


def lines() -> Callable[[str], object]:
    written = AccessLines(lambda text: None, Redactor())

    def logged(text: str) -> None:
        event = RequestAnswered("", text, f"/{text}", 200, "", "", "", 0.0, 0, "complete")
        written.answered([(event, 0.0, "", 0, 0.0, b"")], request_ids(1))
        written.flush()

    return logged


@pytest.mark.parametrize(
    "room", [access, fields, codings, heads, bodies, types_of_bodies, options_of_connections, keys, named_fields, lines]
)
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


def test_of_a_short_query_with_many_names_only_the_verdict_is_remembered() -> None:
    names = "&".join(f"{number:x}" for number in range(256, 500))
    side_effects("/?first", BypassPolicy())
    tracemalloc.start()
    try:
        for number in range(50):
            side_effects(f"/?{names}&n={number}", BypassPolicy())
        assert tracemalloc.get_traced_memory()[0] < MOST_KEPT
    finally:
        tracemalloc.stop()

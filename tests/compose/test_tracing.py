"""Traces of a whole daemon: which spans a request has, how they hang together, and what the origin is told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from passoproxy.core.events import Event, Warned
from tests.otlp import Collector, Span, collector
from tests.whole import CONTENT, Place, Running, running, sandboxed

PARENT = "00f067aa0ba902b7"
STATE = "vendor=kept,other=too"


def name(number: int) -> str:
    """A trace id."""
    return f"4bf92f3577b34da6a3ce929d0e0e{number:04x}"


def traced(number: int, flags: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{name(number)}-{PARENT}-{flags}", "tracestate": STATE}


async def got(it: Running, target: str, fields: dict[str, str] | None = None) -> int:
    async with (
        aiohttp.ClientSession(trust_env=False) as session,
        session.get(it.proxy + target, headers=fields or {}) as answer,
    ):
        await answer.read()
        return answer.status


async def journal(place: Place) -> list[dict[str, str]]:
    """The fields of each request that reached the origin, by lower-case names."""
    async with (
        aiohttp.ClientSession(trust_env=False) as session,
        session.get(f"{place.origin}/__sandbox/journal") as answer,
    ):
        found = (await answer.json())["requests"]
    return [
        {str(key).lower(): value for key, value in dict(each["headers"]).items()}
        for each in found
        if each["path"].startswith("/api/")
    ]


async def fault(place: Place, *names: str) -> None:
    async with (
        aiohttp.ClientSession(trust_env=False) as session,
        session.post(f"{place.origin}/__sandbox/faults", json={"faults": names}) as answer,
    ):
        assert answer.status == 200


def to(found: Collector, **more: Any) -> dict[str, Any]:
    return {"tracing": {"otlp_endpoint": found.url}, **more}


def shape(spans: list[Span]) -> list[tuple[str, str, str]]:
    """Name, kind and the parent's name of each."""
    names = {each.id: each.name for each in spans}
    return [(each.name, each.kind, names.get(each.parent, each.parent)) for each in spans]


async def test_a_miss_a_hit_and_a_pass(tmp_path: Path) -> None:
    async with collector() as found, sandboxed(tmp_path) as place:
        async with running(place, authorised=True, **to(found)) as it:
            await got(it, CONTENT, traced(1))
            for number in (2, 3, 4):  # from the store, from memory, and by the exact bytes
                await got(it, CONTENT, traced(number))
            await got(it, "/api/v2/no-such-page?code=planted-secret", traced(5))
            told = await journal(place)
        server, origin = found.of(name(1))
        assert shape([server, origin]) == [
            ("GET content-health", "server", PARENT),
            ("GET", "client", "GET content-health"),
        ]
        assert max(server.begin, origin.begin) < min(server.end, origin.end)  # which are read at different places
        assert (server["http.route"], server["http.response.status_code"]) == ("content-health", 200)
        assert (server["url.path"], server["url.query"]) == (CONTENT.partition("?")[0], "lang=***&countries=***")
        assert (server["passoproxy.cache"], server["error.type"], server.is_failed) == ("miss", None, False)
        assert "fwd=uri-miss" in server["passoproxy.cache_status"]
        assert origin["url.full"].startswith(f"{place.origin}/api/v2/content/health/json?lang=***")
        assert (origin["server.address"], origin["http.response.status_code"]) == ("127.0.0.1", 200)
        assert server.resource["service.name"] == "passoproxy"
        for number in (2, 3, 4):
            (hit,) = found.of(name(number))
            assert (hit.kind, hit.parent, hit["passoproxy.cache"]) == ("server", PARENT, "hit")
            assert hit["passoproxy.cache_status"].startswith("passoproxy; hit; ttl=")
        assert len({found.of(name(number))[0].id for number in (2, 3, 4)}) == 3

        server, origin = found.of(name(5))
        assert (server.name, server["http.route"], server["passoproxy.cache"]) == ("GET", None, "pass")
        assert (server.is_failed, origin.is_failed, origin["error.type"]) == (False, True, "404")
        assert [(each["traceparent"], each["tracestate"]) for each in told] == [
            (f"00-{name(1)}-{found.of(name(1))[1].id}-01", STATE),
            (f"00-{name(5)}-{origin.id}-01", STATE),
        ]
        assert set(found.requests) == {("/v1/traces", "application/x-protobuf")}
        (login,) = [each for each in found.spans if each.name.startswith("token")]
        assert (login.name, login.kind, login.parent) == ("token authorization_code", "client", "")
        assert b"planted-secret" not in found.raw
        bearer = it.wired.keeper.current()
        assert bearer is not None
        assert bearer.token.encode() not in found.raw


GIVEN: list[tuple[dict[str, str], bool]] = [
    ({}, False),
    ({"traceparent": f"00-{name(1).upper()}-{PARENT}-01", "tracestate": STATE}, False),
    ({"traceparent": f"ff-{name(2)}-{PARENT}-01", "tracestate": STATE}, False),
    ({"traceparent": f"cc-{name(3)}-{PARENT}-01-later", "tracestate": STATE}, True),
]


async def test_a_trace_begins_here_unless_a_valid_one_came_and_sampling_is_the_clients_choice(tmp_path: Path) -> None:
    async with collector() as found, sandboxed(tmp_path) as place:
        async with running(place, authorised=True, **to(found)) as it:
            for number, (given, _) in enumerate(GIVEN):
                await got(it, f"{CONTENT}&x={number}", given)
            for number in (7, 8):  # a miss and a hit
                await got(it, CONTENT, traced(number, "00"))
            *asked, unsampled = await journal(place)
        for fields, (given, is_valid), number in zip(asked, GIVEN, range(len(GIVEN)), strict=True):
            version, trace, span, flags = fields["traceparent"].split("-")
            (server,) = [each for each in found.of(trace) if each.kind == "server"]
            assert (version, flags, span in {each.id for each in found.of(trace)}) == ("00", "01", True)
            kept = (name(number), PARENT, STATE) if is_valid else (trace, "", None)
            assert (server.trace, server.parent, fields.get("tracestate")) == kept
            assert trace not in given.get("traceparent", "").lower() or is_valid
        assert unsampled["traceparent"].startswith(f"00-{name(7)}-")
        assert unsampled["traceparent"].endswith("-00")
        assert PARENT not in unsampled["traceparent"]
        assert not found.of(name(7)) + found.of(name(8))


async def test_without_tracing_the_fields_go_on_as_they_came(tmp_path: Path) -> None:
    fields = {"traceparent": "not valid", "tracestate": STATE, "b3": "0"}
    async with sandboxed(tmp_path) as place, running(place, authorised=True) as it:
        assert it.wired.telemetry.tracer is None
        await got(it, CONTENT, fields)
        (asked,) = await journal(place)
    assert {each: asked[each] for each in fields} == fields


async def test_those_who_wait_for_one_fetch_are_linked_with_it_and_a_queue_is_seen(tmp_path: Path) -> None:
    async with collector() as found, sandboxed(tmp_path, latency=0.3) as place:
        async with running(place, authorised=True, **to(found, upstream={"max_concurrency": 1})) as it:
            await asyncio.gather(
                *(got(it, CONTENT, traced(number)) for number in (1, 2)), got(it, f"{CONTENT}&x=1", traced(3))
            )
        # which of the two asks is up to the connections
        asks, waits = sorted((found.of(name(1)), found.of(name(2))), key=len, reverse=True)
        (waiter,) = waits
        assert "collapsed" in waiter["passoproxy.cache_status"]
        server, origin = asks[0], asks[-1]
        assert waiter.links == (server.id,)
        assert origin.links == (waiter.id,)
        (queue,) = [each for each in found.spans if each.name == "queue"]
        (server,) = [each for each in found.spans if each.id == queue.parent]
        (origin,) = [each for each in found.of(server.trace) if each.kind == "client"]
        assert queue.begin < origin.begin
        assert queue.end - queue.begin > 100_000_000  # what the other request took, for most of it


async def test_a_401_is_seen_with_the_refresh_that_it_brings(tmp_path: Path) -> None:
    async with collector() as found, sandboxed(tmp_path) as place:
        async with running(place, authorised=True, **to(found)) as it:
            await fault(place, "origin_401:1")
            assert await got(it, CONTENT, traced(1)) == 200
            told = await journal(place)
        spans = found.of(name(1))
        assert [(each.name, each.kind, each["http.response.status_code"]) for each in spans] == [
            ("GET content-health", "server", 200),
            ("GET", "client", 401),
            ("token", "internal", None),
            ("GET", "client", 200),
        ]
        server, refused, wait, again = spans
        assert {each.parent for each in spans[1:]} == {server.id}
        assert (refused["http.request.resend_count"], again["http.request.resend_count"]) == (None, 1)
        (refresh,) = [each for each in found.spans if each.name == "token refresh_token"]
        assert wait.links == (refresh.id,)
        assert (refresh["http.response.status_code"], refresh["url.full"]) == (200, f"{place.origin}/oauth/token")
        assert [each["traceparent"].split("-")[2] for each in told] == [refused.id, again.id]


async def test_a_collector_that_is_away_or_slow_costs_one_warning_and_no_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from passoproxy.telemetry import tracing

    level, said = logging.getLogger("opentelemetry").level, list[Event]()
    async with collector() as found, sandboxed(tmp_path) as place:
        async with running(place, authorised=True, **to(found)) as it:
            tracer = it.wired.telemetry.tracer
            assert tracer is not None

            async def asked(number: int) -> list[tuple[str, str, bool]]:
                assert await got(it, CONTENT, traced(number)) == 200
                it.wired.telemetry.batch.flush()
                await asyncio.to_thread(tracer._processor.force_flush)
                await asyncio.sleep(0)  # what the thread told is heard
                return [(each.code, each.about, each.over) for each in said if isinstance(each, Warned)]

            await asked(1)
            tracer._observe = said.append
            found.status = 503
            for number in range(2, 5):
                await asked(number)
            assert [(each.code, "503" in each.detail) for each in said if isinstance(each, Warned)] == [
                ("traces_not_sent", True)
            ]
            found.status = 200
            assert (await asked(5))[1:] == [("traces_not_sent", "", True)]
            with monkeypatch.context() as patched:
                patched.setattr(tracing, "MOST_WAITING", 0)
                await asked(6), await asked(7)
            assert (await asked(8))[2:] == [("traces_not_sent", "queue", False), ("traces_not_sent", "queue", True)]
            assert "2 spans were dropped" in said[-1].detail  # type: ignore[union-attr]
        assert [len(found.of(name(number))) for number in range(1, 9)] == [2, 0, 0, 0, 1, 0, 0, 1]
    assert logging.getLogger("opentelemetry").level == level
    assert not [each.name for each in threading.enumerate() if each.name.startswith("Otel")]


async def test_an_end_waits_two_seconds_at_most_for_a_collector_that_hangs(tmp_path: Path) -> None:
    given_up = asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()  # until the other side gives up
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        given_up.set()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, sandboxed(tmp_path) as place:
        async with running(place, tracing={"otlp_endpoint": url}) as it:
            await got(it, CONTENT, traced(1))
        await given_up.wait()

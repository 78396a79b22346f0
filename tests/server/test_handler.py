"""Every outcome becomes an answer, every answer an event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from passoproxy.core.events import RequestAnswered, RequestRejected, TaskFailed
from passoproxy.errors import AuthorizationRequired, BadRequest, OriginTimeout, Refusal, TokenUnavailable
from passoproxy.ports import Request, Response
from tests.fakes import Bearers, ScriptedHop, response, settle
from tests.server.conftest import Listen
from tests.server.raw import Listening

GET = b"GET /a?b HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def answered(running: Listening) -> RequestAnswered:
    await settle()
    (event,) = running.observer.of(RequestAnswered)
    assert isinstance(event, RequestAnswered)
    return event


async def test_an_answer_is_told_with_what_the_trail_learnt(listen: Listen) -> None:
    def script(request: Request) -> Response:
        request.trail.route, request.trail.cache, request.trail.client = "visa", "hit", "shop"
        assert request.received_at == running.clock.wall()
        return response(203, [("Cache-Status", "origin; hit"), ("Cache-Status", "passoproxy; hit")], b"12345")

    running = await listen(ScriptedHop([script]))
    await running.ask(GET)
    event = await answered(running)

    assert (event.client, event.method, event.target, event.status) == ("shop", "GET", "/a?b", 203)
    assert (event.route, event.cache, event.cache_status) == ("visa", "hit", "origin; hit, passoproxy; hit")
    assert (event.sent_bytes, event.outcome, event.code) == (5, "complete", "")
    assert 0 <= event.duration < 10


async def test_a_refusal_is_answered_and_told(listen: Listen) -> None:
    running = await listen(ScriptedHop([OriginTimeout("too slow")]))
    answer = (await running.ask(GET))[0]
    event = await answered(running)

    assert (answer.status, json.loads(answer.body)["detail"]) == (504, "too slow")
    assert answer["Proxy-Status"] == "passoproxy; error=connection_read_timeout"
    assert (event.status, event.code, event.cache, event.outcome) == (504, "origin_timeout", "error", "complete")
    assert json.loads(answer.body)["request_id"] == event.request_id != ""
    told = RequestRejected("origin_timeout", "too slow", "", event.request_id)
    assert running.observer.of(RequestRejected) == [told]


def stored(request: Request) -> Response:
    request.trail.from_store = True
    return response(200, [("Cache-Status", "passoproxy; hit")])


def passed(request: Request) -> Response:
    return response(200)


@pytest.mark.parametrize(
    ("bearers", "outcome", "told"),
    [
        ({}, stored, ""),
        ({"gone": True}, stored, ""),  # no person is ever needed
        ({"end": 90.7}, stored, ""),
        ({"end": 90.7, "gone": True}, stored, "90"),
        ({"end": 90.7, "until": 1.0}, stored, ""),
        ({"end": 90.7, "until": 0.0}, stored, "90"),
        ({"end": -5.0, "refused": True}, stored, "0"),
        ({"end": 90.7, "gone": True}, passed, ""),
        ({"end": 90.7, "gone": True}, OriginTimeout("too slow"), ""),
        ({"end": 0.0, "gone": True}, AuthorizationRequired("log in"), "0"),
        ({"end": 90.7}, TokenUnavailable("shutting down"), "90"),
        ({"gone": True}, TokenUnavailable("the provider is away"), ""),
    ],
)
async def test_the_runway_stands_where_no_usable_bearer_is(
    listen: Listen, bearers: dict[str, Any], outcome: Callable[[Request], Response] | Refusal, told: str
) -> None:
    pair = Bearers()
    moments = {name: at if isinstance(at, bool) else at + pair.now for name, at in bearers.items()}
    pair.becomes(**moments)
    running = await listen(ScriptedHop([outcome], repeat=True), bearers=pair)
    answers = await running.ask(GET + b"HEAD" + GET[3:], methods=("GET", "HEAD"))
    assert [answer["Passoproxy-Runway"] for answer in answers] == [told] * 2


async def test_any_other_exception_is_an_internal_error_whose_text_stays_here(listen: Listen) -> None:
    running = await listen(ScriptedHop([ZeroDivisionError("planted-secret")]))
    answer = (await running.ask(GET))[0]
    event = await answered(running)

    assert (answer.status, json.loads(answer.body)["code"]) == (500, "internal_error")
    assert (event.code, event.cache) == ("internal_error", "error")
    (failed,) = running.observer.of(TaskFailed)
    assert isinstance(failed, TaskFailed)
    assert failed.detail.startswith("ZeroDivisionError at ")
    assert "planted-secret" not in f"{answer.body!r} {running.observer.events}"


async def test_the_connection_goes_on_after_a_refusal(listen: Listen) -> None:
    running = await listen(ScriptedHop([OriginTimeout("too slow"), response(200)]))
    assert [answer.status for answer in await running.ask(GET + GET)] == [504, 200]


async def test_a_refusal_of_head_has_no_body(listen: Listen) -> None:
    running = await listen(ScriptedHop([OriginTimeout("too slow"), response(200)]))
    answers = await running.ask(b"HEAD" + GET[3:] + GET, methods=("HEAD", "GET"))
    assert [(answer.status, answer.body) for answer in answers] == [(504, b""), (200, b"")]
    assert int(answers[0]["Content-Length"]) > 0


async def test_an_unreadable_head_request_is_refused_without_a_body(listen: Listen) -> None:
    running = await listen(ScriptedHop())
    client = await running.connect()
    await client.send(b"HEAD / HTTP/1.1\r\nHost: localhost")
    await asyncio.sleep(0.02)
    await client.send(b"\r\nX: a\n")
    raw = await client.rest()
    assert raw.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert raw.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    "head", [b"/%zz HTTP/1.1\r\nHost: localhost", b"/ HTTP/1.1", b"/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: x"]
)
async def test_a_whole_head_request_that_is_refused_gets_no_body(listen: Listen, head: bytes) -> None:
    running = await listen(ScriptedHop())
    client = await running.connect()
    await client.send(b"HEAD " + head + b"\r\n\r\n")
    raw = await client.rest()
    assert raw.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert raw.endswith(b"\r\n\r\n")


async def test_a_fault_of_the_requests_body_is_the_clients_and_not_the_origins(listen: Listen) -> None:
    class Forwarding:
        async def send(self, request: Request) -> Response:
            async for _ in request.body:
                pass
            raise AssertionError("the body has no end")

    running = await listen(Forwarding())
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = (await running.ask(head + b"3\r\nabcX"))[0]

    assert (answer.status, json.loads(answer.body)["code"]) == (400, "bad_request")


async def test_a_refusal_whose_writing_fails_is_told_as_broken(listen: Listen) -> None:
    class Splitting(BadRequest):
        pass

    running = await listen(ScriptedHop([Splitting("no", (("X", "a\r\nb"),))]))
    client = await running.connect()
    await client.send(GET)
    assert await client.reset()

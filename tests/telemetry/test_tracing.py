"""Spans of what goes wrong: each kind of end of a request, of its way to the origin, and of a token request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from passoproxy.core.events import RequestAnswered
from passoproxy.core.http.messages import RequestHead, ResponseHead, fields_of
from passoproxy.core.redaction import Redactor
from passoproxy.errors import OriginTimeout, Overloaded, TokenAnswerLost, TokenRequestUnsent
from passoproxy.ports import BytesBody, Request, Response, TokenReply, TokenRequest, nobody
from passoproxy.telemetry.logs import request_ids
from tests.fakes import ScriptedHop

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from passoproxy.telemetry.tracing import Tracer

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Masks:
    redactor = Redactor(["planted-secret"])


@pytest.fixture
async def tracer() -> AsyncIterator[Tracer]:
    async def post(message: bytes) -> None:
        pass

    resource = {"service.name": "passoproxy", "service.version": "1"}
    made = Tracer(post, Masks(), nobody, origin="https://api.example/v1", scheme="http", resource=resource)
    yield made
    await made.close()


@pytest.fixture
def spans(tracer: Tracer, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is made from now on."""
    found: list[Any] = []
    monkeypatch.setattr(tracer._processor, "on_end", found.append)
    return found


def answered(**changes: Any) -> RequestAnswered:
    given = {
        "client": "c",
        "method": "GET",
        "target": "/p",
        "status": 200,
        "route": "r",
        "cache": "miss",
        "cache_status": "",
        "duration": 0.5,
    }
    return RequestAnswered(**{**given, "sent_bytes": 1, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "name", "error", "is_failed"),
    [
        ({}, "GET r", None, False),
        ({"status": 404, "route": ""}, "GET", None, False),
        ({"status": 503}, "GET r", "503", True),
        ({"status": 504, "code": "origin_timeout"}, "GET r", "origin_timeout", True),
        ({"status": 403, "code": "path_not_allowed"}, "GET r", "path_not_allowed", False),
        ({"outcome": "abandoned"}, "GET r", "abandoned", True),
        ({"method": "BREW"}, "HTTP r", None, False),
    ],
)
async def test_a_request_has_failed_by_its_outcome_or_a_5xx(
    tracer: Tracer, spans: list[Any], changes: dict[str, Any], name: str, error: str | None, is_failed: bool
) -> None:
    tracer.answered([(answered(**changes), 1_700_000_000.0, "c", 0, 0.5, b"")], request_ids(1))
    (span,) = spans
    assert (span.name, span.attributes.get("error.type"), not span.status.is_unset) == (name, error, is_failed)
    assert (span.start_time, span.end_time) == (1_699_999_999_500_000_000, 1_700_000_000_000_000_000)


async def test_a_span_masks_what_the_log_masks(tracer: Tracer, spans: list[Any]) -> None:
    text = "planted-secret"
    event = answered(client=text, target=f"/{text}?key={text}", cache_status=f'o; key="{text}"', status=0)
    tracer.answered([(event, 0.0, "c", 0, 0.0, b"")], request_ids(1))
    assert text not in repr((spans[0].name, spans[0].attributes))
    assert "http.response.status_code" not in spans[0].attributes


async def sent(tracer: Tracer, script: list[Any], waits: float = 0.0, **more: Any) -> None:
    """A request on its way through both hops, which waits so many seconds for its place."""
    origin = tracer.around_origin(ScriptedHop(script))

    class Places:
        async def send(self, request: Request) -> Response:
            request.trail.queue_seconds += waits
            if waits > 1:
                raise Overloaded("full")
            return await origin.send(request)

    head = RequestHead("GET", "/p?key=planted-secret", fields_of({"traceparent": TRACEPARENT}))
    await tracer.around_places(Places()).send(Request(head, BytesBody(), **more))


@pytest.mark.parametrize(
    ("script", "waits", "error", "told"),
    [
        ([OriginTimeout("slow")], 0.0, OriginTimeout, [("GET", "origin_timeout")]),
        ([asyncio.CancelledError()], 0.0, asyncio.CancelledError, [("GET", "cancelled")]),
        ([OriginTimeout("slow")], 0.5, OriginTimeout, [("GET", "origin_timeout"), ("queue", None)]),
        ([], 2.0, Overloaded, [("queue", "overloaded")]),
    ],
)
async def test_what_went_wrong_on_the_way_to_the_origin(
    tracer: Tracer, spans: list[Any], script: list[Any], waits: float, error: type[BaseException], told: list[Any]
) -> None:
    with pytest.raises(error):
        await sent(tracer, script, waits)
    assert [(span.name, span.attributes.get("error.type")) for span in spans] == told
    assert "planted-secret" not in repr([span.attributes for span in spans])


async def test_background_work_is_in_the_trace_that_set_it_off(tracer: Tracer, spans: list[Any]) -> None:
    await sent(tracer, [Response(ResponseHead(500), BytesBody())], background=True)
    (span,) = spans
    assert f"{span.context.trace_id:032x}" in TRACEPARENT
    assert (span.attributes["passoproxy.background"], span.attributes["error.type"]) == (True, "500")
    assert span.attributes["url.full"] == "https://api.example/v1/p?key=***"
    assert (span.attributes["server.address"], span.attributes["server.port"]) == ("api.example", 443)


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (TokenReply(200, (), b"planted-secret"), None),
        (TokenReply(400, (), b"planted-secret"), "400"),
        (TokenRequestUnsent("planted-secret"), "unsent"),
        (TokenAnswerLost("planted-secret"), "lost"),
        (asyncio.CancelledError(), "cancelled"),
    ],
)
async def test_a_token_request_tells_its_fate_and_no_secret(
    tracer: Tracer, spans: list[Any], outcome: TokenReply | BaseException, error: str | None
) -> None:
    class Endpoint:
        async def post(self, request: TokenRequest, timeout: float) -> TokenReply:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

    secret = (("Authorization", "planted-secret"),)
    asked = TokenRequest("http://p:81/token?key=planted-secret", secret, b"planted-secret", grant="refresh_token")
    with contextlib.suppress(TokenRequestUnsent, TokenAnswerLost, asyncio.CancelledError):
        assert await tracer.around_provider(Endpoint()).post(asked, 1.0) is outcome
    (span,) = spans
    assert (span.name, span.attributes.get("error.type"), span.attributes["server.port"]) == (
        "token refresh_token",
        error,
        81,
    )
    assert "planted-secret" not in repr((span.name, span.attributes))


async def test_the_end_waits_for_no_batch_that_is_just_being_made(
    tracer: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = tracer._exporter

    class Spans:
        def SerializeToString(self) -> bytes:
            exporter.give_up()
            return b""

    async def post(message: bytes) -> None:
        await asyncio.sleep(0.5)  # if it is waited for

    monkeypatch.setattr("passoproxy.telemetry.tracing.encode_spans", lambda spans: Spans())
    monkeypatch.setattr(exporter, "_post", post)
    assert await asyncio.to_thread(exporter.export, [cast("ReadableSpan", None)]) is SpanExportResult.FAILURE

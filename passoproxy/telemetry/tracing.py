"""Traces (`tracing.otlp_endpoint`, extra `otel`): spans of requests, of their way to the origin and of token requests, sent as OTLP by HTTP.

The span of a request is made from its event, where it is counted; its children are made by two hops and by a token endpoint that stand around
the real ones, so that without tracing nothing of this is on the road. The batches and the thread that encodes them are the OpenTelemetry SDK's,
and so is what a span looks like; the POST is the webhook's, by the proxy and TLS settings of `upstream`.

Imported only if the endpoint is configured.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from typing import Any, Final, Protocol, cast
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from passoproxy.core.events import Answered, RequestAnswered, Warned, event_of
from passoproxy.core.http.messages import changed
from passoproxy.core.http.trace_context import Trace, TraceContext, context_of, traceparent_in, traceparent_of
from passoproxy.core.redaction import Redactor
from passoproxy.errors import CoolingDown, Overloaded, PassoproxyError, Refusal, TokenAnswerLost, TokenRequestUnsent
from passoproxy.ports import Hop, Observer, Request, Response, TokenEndpoint, TokenReply, TokenRequest
from passoproxy.telemetry.logs import remembering, request_ids
from passoproxy.telemetry.metrics import STANDARD_METHODS

MOST_WAITING: Final = 4096
"""Spans that wait to be sent at most; what comes on top is dropped and counted."""

SEND_EVERY: Final = 1.0
"""Seconds after which spans are sent that are fewer than `BATCH`."""

BATCH: Final = 512
LAST_SPANS: Final = 2.0
"""Seconds at the end for spans that wait."""

_MOST_LINKS: Final = 128
_UNSENT: Final = "traces_not_sent"
_SECOND: Final = 1_000_000_000
_LIBRARY: Final = logging.getLogger("opentelemetry")
_FAILED: Final = Status(StatusCode.ERROR)
_NOT_SET: Final = Status(StatusCode.UNSET)

Attributes = dict[str, str | int | bool]
Post = Callable[[bytes], Coroutine[Any, Any, object]]
"""Delivers a message, within a time of its own. Raises PassoproxyError."""


class Redacts(Protocol):
    """What holds the Redactor of the moment."""

    redactor: Redactor


class Tracer:
    """Makes and sends spans; to be made within the loop. `origin` is the origin's URL, `scheme` that of the clients' requests."""

    def __init__(
        self,
        post: Post,
        masks: Redacts,
        observe: Observer,
        *,
        origin: str,
        scheme: str,
        resource: Mapping[str, str],
    ) -> None:
        self._masks, self._observe = masks, observe
        self._redactor: Redactor | None = None
        self._origin, self._scheme = origin, scheme
        self._server = _server(origin)
        self._exporter = _Exporter(post, self._outcome)
        self._processor = BatchSpanProcessor(
            cast("SpanExporter", self._exporter), MOST_WAITING, SEND_EVERY * 1000, BATCH
        )
        # What the environment says of the resource counts before ours: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES.
        self._resource = Resource(dict(resource)).merge(OTELResourceDetector().detect())
        self._scope = InstrumentationScope("passoproxy", resource["service.version"])
        self._added = self._dropped = 0
        self._is_away = False
        self._refreshed: tuple[TraceContext, int] | None = None
        self._level = _LIBRARY.level
        _LIBRARY.setLevel(logging.CRITICAL + 1)  # it would write a line for each batch and each span that is lost

    async def close(self) -> None:
        """Sends what waits, within `LAST_SPANS`."""
        alarm = asyncio.get_running_loop().call_later(LAST_SPANS, self._exporter.give_up)
        try:
            await asyncio.to_thread(self._processor.shutdown)
        finally:
            alarm.cancel()
            _LIBRARY.setLevel(self._level)

    # ---- requests ------------------------------------------------------------------------------------------------------

    def begin(self, traceparent: str, request_id: str = "") -> Trace:
        """A request's part of the trace that its `traceparent` names, else of one of its own, `request_id` if that is given."""
        return _begun(context_of(traceparent), request_id)

    def answered(self, batch: Sequence[Answered], made: str) -> None:
        """Makes the spans of answered requests; `made` has the ids of those that brought none, as for their access lines."""
        for number, each in enumerate(batch):
            event, at, _, _, duration, lines = each
            trace = event.trace if isinstance(event, RequestAnswered) else None
            if trace is None:
                given = context_of(traceparent_in(lines))
                if given is not None and not given.is_sampled:
                    continue
                trace = _begun(given, made[32 * number : 32 * number + 32])
            if trace.context.is_sampled and self._has_room():
                self._answered(event_of(each), trace, at, duration)

    def _answered(self, event: RequestAnswered, trace: Trace, at: float, duration: float) -> None:
        path, _, query = self._shown(event.target).partition("?")
        attributes = _method(event.method) | {
            "url.scheme": self._scheme,
            "url.path": path,
            "passoproxy.cache": event.cache,
            "passoproxy.cache_status": self._say(event.cache_status),
            "passoproxy.client": self._say(event.client),
            "passoproxy.outcome": event.outcome,
        }
        if event.status:
            attributes["http.response.status_code"] = event.status
        if query:
            attributes["url.query"] = query
        if event.route:
            attributes["http.route"] = event.route
        error = event.code or (event.outcome if event.outcome != "complete" else "")
        if not error and event.status >= 500:
            error = str(event.status)
        is_failed = bool(error) and (event.status >= 500 or event.outcome != "complete")
        if error:
            attributes["error.type"] = error
        name = f"{attributes['http.request.method']} {event.route}".strip().replace("_OTHER", "HTTP")
        end = int(at * _SECOND)
        begin = end - int(duration * _SECOND)
        self._put(name, trace.context, trace.parent_id, SpanKind.SERVER, begin, end, attributes, trace.links, is_failed)

    # ---- their way to the origin ---------------------------------------------------------------------------------------

    def around_places(self, limiter: Hop) -> Hop:
        """The hop before `limiter`."""
        return _Places(self, limiter)

    def around_origin(self, origin: Hop) -> Hop:
        """The hop before `origin`."""
        return _Sent(self, origin)

    def around_provider(self, endpoint: TokenEndpoint) -> TokenEndpoint:
        """A token endpoint whose requests have spans."""
        return _Asked(self, endpoint)

    def waited(self, name: str, trace: Trace, begin: int, end: int, error: str = "") -> None:
        """A part of a request in which it waited, for a `place` or for a `token`. Moments are epoch nanoseconds."""
        links = [self._refreshed[0]] if name == "token" and self._refreshed and self._refreshed[1] >= begin else []
        told: Attributes = {"error.type": error} if error else {}
        self.part(name, trace, _span_id(), SpanKind.INTERNAL, begin, end, told, links)

    def sent(self, request: Request, trace: Trace, span_id: str, begin: int, status: int, error: str) -> None:
        """A request to the origin, until its answer's head came."""
        head, resent = request.head, request.trail.origin_requests - 1
        url = self._origin + self._shown(head.target)
        attributes = _method(head.method) | self._server | {"url.full": url}
        if status:
            attributes["http.response.status_code"] = status
        if resent > 0:
            attributes["http.request.resend_count"] = resent
        if request.background:
            attributes["passoproxy.background"] = True
        if error:
            attributes["error.type"] = error
        name = str(attributes["http.request.method"]).replace("_OTHER", "HTTP")
        self.part(name, trace, span_id, SpanKind.CLIENT, begin, time.time_ns(), attributes, trace.sent_links)

    def part(
        self,
        name: str,
        trace: Trace,
        span_id: str,
        kind: SpanKind,
        begin: int,
        end: int,
        attributes: Attributes,
        links: Sequence[TraceContext] = (),
    ) -> None:
        """A child of a request's span; with an `error.type` it has failed."""
        own = trace.context
        if own.is_sampled and self._has_room():
            context = TraceContext(own.trace_id, span_id, own.flags)
            self._put(name, context, own.span_id, kind, begin, end, attributes, links, "error.type" in attributes)

    def asked(self, request: TokenRequest, begin: int, status: int, error: str) -> None:
        """A token request. Nothing of its body or its fields is told."""
        trace, end = self.begin(""), time.time_ns()
        attributes: Attributes = {
            "http.request.method": "POST",
            "url.full": request.url.partition("?")[0],
            **_server(request.url),
        }
        if status:
            attributes["http.response.status_code"] = status
        if error:
            attributes["error.type"] = error
        self._refreshed = trace.context, end
        if self._has_room():
            name = f"token {request.grant}"
            self._put(name, trace.context, "", SpanKind.CLIENT, begin, end, attributes, (), bool(error))

    def _shown(self, target: str) -> str:
        self._follow()
        return self._targets(target)

    def _say(self, text: str) -> str:
        self._follow()
        return self._texts(text)

    def _follow(self) -> None:
        """Masks as the redactor of the moment does; its last results are remembered, since the same targets come again and again."""
        if (now := self._masks.redactor) is not self._redactor:
            self._redactor = now
            self._texts, self._targets = remembering(now.text), remembering(now.target)

    # ---- sending -------------------------------------------------------------------------------------------------------

    def _has_room(self) -> bool:
        if self._added - self._exporter.taken < MOST_WAITING:
            return True
        self._dropped += 1
        if self._dropped == 1:
            said = "spans come faster than they are sent, and some are dropped; have clients sample fewer (traceparent)"
            self._observe(Warned(_UNSENT, said, about="queue"))
        return False

    def _put(
        self,
        name: str,
        context: TraceContext,
        parent_id: str,
        kind: SpanKind,
        begin: int,
        end: int,
        attributes: Attributes,
        links: Sequence[TraceContext],
        is_failed: bool,
    ) -> None:
        self._added += 1
        self._processor.on_end(
            ReadableSpan(
                name,
                _span_context(context),
                _span_context(TraceContext(context.trace_id, parent_id, context.flags), True) if parent_id else None,
                self._resource,
                attributes,
                (),
                [Link(_span_context(each)) for each in links[:_MOST_LINKS]],
                kind,
                status=_FAILED if is_failed else _NOT_SET,
                start_time=begin,
                end_time=max(begin, end),
                instrumentation_scope=self._scope,
            )
        )

    def _outcome(self, fault: str) -> None:
        """What came of a batch, '' if it was taken; called in the loop."""
        if fault and not self._is_away:
            self._is_away = True
            self._observe(
                Warned(_UNSENT, f"{fault}; the spans of the meantime are lost, requests are answered as ever")
            )
        elif not fault and self._is_away:
            self._is_away = False
            self._observe(Warned(_UNSENT, "spans are sent again", over=True))
        if not fault and self._dropped and 2 * (self._added - self._exporter.taken) < MOST_WAITING:
            dropped, self._dropped = self._dropped, 0
            self._observe(
                Warned(_UNSENT, f"{dropped} spans were dropped; all are sent again", over=True, about="queue")
            )


class _Exporter:
    """The SDK's SpanExporter. Sends batches from the SDK's thread by `post`, which runs in the loop; `tell` is told there what came of each."""

    def __init__(self, post: Post, tell: Callable[[str], None]) -> None:
        self._post, self._tell = post, tell
        self._loop = asyncio.get_running_loop()
        self._sending: Future[object] | None = None
        self._is_over = False
        self.taken = 0
        """Spans that were taken out of the queue; written by the SDK's thread alone."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.taken += len(spans)
        if self._is_over:
            return SpanExportResult.FAILURE
        message, fault = encode_spans(spans).SerializeToString(), ""
        self._sending = asyncio.run_coroutine_threadsafe(self._post(message), self._loop)
        if self._is_over:  # since a moment ago
            self._sending.cancel()
        try:
            self._sending.result()
        except CancelledError:
            return SpanExportResult.FAILURE  # the end does not wait for it
        except PassoproxyError as error:
            fault = str(error)
        self._loop.call_soon_threadsafe(self._tell, fault)
        return SpanExportResult.FAILURE if fault else SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Called by the SDK at the end; there is nothing to close."""

    def give_up(self) -> None:
        """Nothing is sent any more."""
        self._is_over = True
        if self._sending is not None:
            self._sending.cancel()


class _Places:
    """The hop before the limiter: what its wait took, and how long a request that met a 401 waited for a newer token."""

    def __init__(self, tracer: Tracer, next: Hop) -> None:
        self._tracer, self._next = tracer, next

    async def send(self, request: Request) -> Response:
        trail = request.trail
        if trail.trace is None:  # no client waits for it, so it has no span of its own to stand under
            trail.trace = self._tracer.begin(traceparent_of(request.head.fields))
        trace, begin, waited = trail.trace, time.time_ns(), trail.queue_seconds
        if trace.refused_at:
            self._tracer.waited("token", trace, trace.refused_at, begin)
            trace.refused_at = 0
        code = ""
        try:
            response = await self._next.send(request)
        except (Overloaded, CoolingDown) as refusal:
            code = refusal.code
            raise
        finally:
            if (took := trail.queue_seconds - waited) > 0:
                self._tracer.waited("queue", trace, begin, begin + int(took * _SECOND), code)
        if response.head.status == 401:
            trace.refused_at = time.time_ns()
        return response


class _Sent:
    """The hop before the origin: the request goes on as a child of the client's trace."""

    def __init__(self, tracer: Tracer, next: Hop) -> None:
        self._tracer, self._next = tracer, next

    async def send(self, request: Request) -> Response:
        trace, head = request.trail.trace, request.head
        assert trace is not None  # made by the hop before
        own = TraceContext(trace.context.trace_id, _span_id(), trace.context.flags)
        # A `tracestate` belongs to the `traceparent` beside it, and goes with one that is not valid.
        gone = () if trace.parent_id else ("tracestate",)
        fields = changed(head.fields, without=gone, having=(("traceparent", own.traceparent),))
        begin, status, error = time.time_ns(), 0, "cancelled"
        try:
            response = await self._next.send(request.with_head(head.with_fields(fields)))
            status = response.head.status
            error = str(status) if status >= 400 else ""
            return response
        except Refusal as refusal:
            error = refusal.code
            raise
        finally:
            self._tracer.sent(request, trace, own.span_id, begin, status, error)


class _Asked:
    """A TokenEndpoint before another one."""

    def __init__(self, tracer: Tracer, next: TokenEndpoint) -> None:
        self._tracer, self._next = tracer, next

    async def post(self, request: TokenRequest, timeout: float) -> TokenReply:
        begin, status, error = time.time_ns(), 0, "cancelled"
        try:
            reply = await self._next.post(request, timeout)
            status = reply.status
            error = str(status) if status >= 400 else ""
            return reply
        except TokenRequestUnsent:
            error = "unsent"
            raise
        except TokenAnswerLost:
            error = "lost"
            raise
        finally:
            self._tracer.asked(request, begin, status, error)


def _begun(given: TraceContext | None, request_id: str) -> Trace:
    if given is not None:
        return Trace(TraceContext(given.trace_id, _span_id(), given.flags), given.span_id)
    return Trace(TraceContext(request_id or request_ids(1), _span_id()))


def _span_id() -> str:
    return f"{random.getrandbits(64) or 1:016x}"


def _span_context(context: TraceContext, is_remote: bool = False) -> SpanContext:
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote, TraceFlags(context.flags & 0xFF))


def _method(method: str) -> Attributes:
    return {"http.request.method": method if method in STANDARD_METHODS else "_OTHER"}


def _server(url: str) -> Attributes:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"server.address": parts.hostname or "", "server.port": port}

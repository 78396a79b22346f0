"""A collector of traces for tests: takes OTLP by HTTP, and reads it by the library's own classes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

pytest.importorskip("opentelemetry.sdk")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {1: "internal", 2: "server", 3: "client"}


@dataclass(frozen=True)
class Span:
    """One span as it arrived; ids in hexadecimal digits, moments in nanoseconds."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    begin: int
    end: int
    is_failed: bool
    links: tuple[str, ...]
    resource: dict[str, Any] = field(repr=False)
    told: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.told.get(name)


@dataclass
class Collector:
    """`status` is what it answers. `raw` is all that came."""

    url: str = ""
    status: int = 200
    spans: list[Span] = field(default_factory=list)
    raw: bytes = b""
    requests: list[tuple[str, str]] = field(default_factory=list)

    def of(self, trace: str) -> list[Span]:
        """The spans of one trace: that of the client's request, then the others in the order in which they began."""
        found = (each for each in self.spans if each.trace == trace)
        return sorted(found, key=lambda span: (span.kind != "server", span.begin))

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((request.path, request.headers["Content-Type"]))
        if self.status == 200:
            self.raw += body
            for group in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = _values(group.resource.attributes)
                self.spans += [_span(each, resource) for scope in group.scope_spans for each in scope.spans]
        return web.Response(status=self.status)


@contextlib.asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """One that runs in this loop."""
    found = Collector()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/{path:.*}", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield found
    finally:
        await runner.cleanup()


def _span(given: Any, resource: dict[str, Any]) -> Span:
    return Span(
        given.name,
        KINDS[given.kind],
        given.trace_id.hex(),
        given.span_id.hex(),
        given.parent_span_id.hex(),
        given.start_time_unix_nano,
        given.end_time_unix_nano,
        given.status.code == 2,
        tuple(each.span_id.hex() for each in given.links),
        resource,
        _values(given.attributes),
    )


def _values(pairs: Sequence[Any]) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in pairs}

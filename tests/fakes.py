"""Fakes for what the ports ask: time that tests move, hops that follow a script, observers that remember."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from passoproxy.core.events import Event
from passoproxy.core.http.messages import RequestHead, ResponseHead, fields_of
from passoproxy.errors import BodyBroken
from passoproxy.ports import Body, BytesBody, Request, Response, TokenReply, TokenRequest


class FakeClock:
    """Time stands still until `advance`; sleepers wake in the order of their moments."""

    def __init__(self, wall: float = 1_700_000_000.0, monotonic: float = 1_000.0) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._counter = 0

    def wall(self) -> float:
        return self._wall

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._counter += 1
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._monotonic + seconds, self._counter, woken))
        await woken

    async def advance(self, seconds: float) -> None:
        """Moves both clocks and lets everything that became due run, in order."""
        end = self._monotonic + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            moment, _, woken = heapq.heappop(self._sleepers)
            self._wall += max(0.0, moment - self._monotonic)
            self._monotonic = max(self._monotonic, moment)
            if not woken.done():
                woken.set_result(None)
            await settle()
        self._wall += end - self._monotonic
        self._monotonic = end
        await settle()

    def step(self, seconds: float) -> None:
        """The wall clock jumps; the monotonic one does not."""
        self._wall += seconds

    @property
    def next_wake(self) -> float | None:
        """Seconds until the next sleeper is due, None if nobody sleeps."""
        waiting = [moment for moment, _, woken in self._sleepers if not woken.done()]
        return min(waiting) - self._monotonic if waiting else None


async def settle(turns: int = 20) -> None:
    """Lets every task that can run do so."""
    for _ in range(turns):
        await asyncio.sleep(0)


class ChunkedBody:
    """A body that gives its chunks one by one; an exception among them is raised in its place. Remembers whether it was closed."""

    def __init__(self, *chunks: bytes | BaseException, length: int | None = None) -> None:
        self._chunks = list(chunks)
        self.length = length
        self.closed = False

    def __aiter__(self) -> ChunkedBody:
        return self

    async def __anext__(self) -> bytes:
        await asyncio.sleep(0)
        if self.closed or not self._chunks:
            raise StopAsyncIteration
        chunk = self._chunks.pop(0)
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    async def aclose(self) -> None:
        self.closed = True


BROKEN = BodyBroken("the body broke off")


def request(
    method: str = "GET",
    target: str = "/",
    fields: Iterable[tuple[str, str]] = (),
    body: bytes | Body = b"",
    **more: object,
) -> Request:
    """A request as the road sees it."""
    stream = BytesBody(body) if isinstance(body, bytes) else body
    head = RequestHead(method, target, fields_of(fields), authority="localhost:8610")
    return Request(head, stream, **more)  # type: ignore[arg-type]


def response(status: int = 200, fields: Iterable[tuple[str, str]] = (), body: bytes | Body = b"") -> Response:
    """A response as the road sees it."""
    return Response(ResponseHead(status, fields_of(fields)), BytesBody(body) if isinstance(body, bytes) else body)


Step = Response | BaseException | Callable[[Request], Response]


@dataclass
class ScriptedHop:
    """Answers in the order of its script, the last step for ever if `repeat`; keeps what it was sent."""

    script: list[Step] = field(default_factory=list)
    repeat: bool = False
    seen: list[Request] = field(default_factory=list)

    async def send(self, request: Request) -> Response:
        self.seen.append(request)
        await asyncio.sleep(0)
        if not self.script:
            raise AssertionError(f"no answer left for {request.head.method} {request.head.target}")
        step = self.script[0] if self.repeat and len(self.script) == 1 else self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        return step(request) if callable(step) else step


class RememberingObserver:
    """Keeps every event."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


TokenStep = TokenReply | BaseException | Callable[[TokenRequest], TokenReply]


@dataclass
class ScriptedTokenEndpoint:
    """A provider that answers in the order of its script; keeps what it was sent."""

    script: list[TokenStep] = field(default_factory=list)
    seen: list[TokenRequest] = field(default_factory=list)

    async def post(self, request: TokenRequest, timeout: float) -> TokenReply:
        self.seen.append(request)
        await asyncio.sleep(0)
        step = self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        return step(request) if callable(step) else step


def headers(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Fields as a plain dictionary with lower-case names, for comparing."""
    return {name.lower(): value for name, value in pairs}

"""Fakes for what the ports ask: time that tests move, hops that follow a script, observers that remember."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from passoproxy.core.events import Event
from passoproxy.core.http.messages import RequestHead, ResponseHead, fields_of
from passoproxy.core.oauth.pair import Bearer, Pair
from passoproxy.core.oauth.snapshot import UNTOLD, TokenSnapshot
from passoproxy.errors import (
    BodyBroken,
    PairDamaged,
    PairStoreFailure,
    PairStoreOwned,
    TokenAnswerLost,
    TokenRequestUnsent,
)
from passoproxy.ports import Body, BytesBody, ChainRecord, RawAnswer, Request, Response, TokenReply, TokenRequest
from passoproxy.tokens.holder import Holder


class FakeClock:
    """Time stands still until `advance`; sleepers wake in the order of their moments."""

    def __init__(
        self,
        wall: float = 1_700_000_000.0,
        monotonic: float = 1_000.0,
        settled: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`settled` waits until everything that can run has run; by default `settle`."""
        self._wall, self._monotonic = wall, monotonic
        self._settled = settled or settle
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
        await self._settled()
        while self._sleepers and self._sleepers[0][0] <= end:
            moment, _, woken = heapq.heappop(self._sleepers)
            self._wall += max(0.0, moment - self._monotonic)
            self._monotonic = max(self._monotonic, moment)
            if not woken.done():
                woken.set_result(None)
            await self._settled()
        self._wall += end - self._monotonic
        self._monotonic = end
        await self._settled()

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


async def idle() -> None:
    """Waits until nothing is left that can run: as `settle`, in fewer turns. For tests without threads and sockets, on asyncio's own loop."""
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    await asyncio.sleep(0)
    while ready:
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


class Bearers(Holder):
    """A Holder whose pair is what the test says: `becomes`. At first its bearer has no end, and no person is ever needed."""

    def __init__(self, clock: FakeClock | None = None, partition: str = "me") -> None:
        super().__init__(clock or FakeClock(), partition)
        self.becomes()

    def becomes(
        self, *, until: float | None = None, gone: bool = False, refused: bool = False, end: float | None = None
    ) -> None:
        """`until` is when the bearer ends, `gone` that there is none, `refused` that the origin takes it no more, `end` when the runway ends."""
        self._until, self._gone, self._refused, self._end = until, gone, refused, end
        self._tell()

    @property
    def now(self) -> float:
        return self._clock.wall()

    def logs_in(self, partition: str) -> None:
        self.partition = partition
        self._tell()

    def current(self) -> Bearer | None:
        over = self._gone or (self._until is not None and self._clock.wall() >= self._until)
        return None if over else Bearer("a-token", 1, self._until)

    def snapshot(self) -> TokenSnapshot:
        access = "valid" if self.current() is not None and not self._refused else "expired"
        left = None if self._end is None else max(0.0, self._end - self._clock.wall())
        return replace(UNTOLD, role="owner", access=access, chain="dead", generation=1, runway_seconds=left)

    def may_come(self, within: float) -> bool:
        return False

    def refusal(self) -> Any: ...
    async def execute(self, command: Any) -> Any: ...
    async def open(self) -> None: ...
    async def run(self) -> None: ...


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
        await request.about_to_send()
        step = self.script.pop(0)
        if isinstance(step, BaseException):
            raise step
        return step(request) if callable(step) else step


def headers(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Fields as a plain dictionary with lower-case names, for comparing."""
    return {name.lower(): value for name, value in pairs}


class PowerLoss(BaseException):
    """The process ends here: nothing after it happens."""


class MemoryPairStore:
    """A PairStore in memory. What it holds outlives its users, as a disk does.

    `failing` names methods that raise PairStoreFailure (a full disk), `loss` the (method, 'before' or 'after') at which power is lost.
    """

    def __init__(self) -> None:
        self.generations: dict[int, Pair] = {}
        self.record = ChainRecord()
        self.answer: RawAnswer | None = None
        self.failing: set[str] = set()
        self.loss: tuple[str, str] | None = None
        self.damaged: list[str] = []
        self.owned = False
        self.calls: list[str] = []
        self.others: tuple[Pair, ...] = ()
        """The pairs of other clients."""

    def _at(self, method: str, when: str) -> None:
        if when == "before":
            self.calls.append(method)
            if method in self.failing:
                raise PairStoreFailure(f"/state/{method}: cannot be written (No space left on device)")
        if self.loss == (method, when):
            raise PowerLoss

    def acquire(self) -> None:
        if self.owned:
            raise PairStoreOwned("/state: already served by process 1")
        self.owned = True

    def release(self) -> None:
        self.owned = False

    def load(self) -> Pair | None:
        self._at("load", "before")
        if self.damaged:
            raise PairDamaged(self.damaged.pop())
        return self.generations[max(self.generations)] if self.generations else None

    def may_present(self) -> bool:
        return True

    def load_record(self) -> ChainRecord:
        return self.record

    def imports(self) -> ChainRecord:
        return ChainRecord()

    def kept(self) -> tuple[Pair, ...]:
        return self.others

    def reserve(self) -> None:
        self._at("reserve", "before")
        self._at("reserve", "after")

    def keep_answer(self, answer: RawAnswer) -> None:
        self._at("keep_answer", "before")
        self.answer = answer
        self._at("keep_answer", "after")

    def pending_answer(self) -> RawAnswer | None:
        return self.answer

    def commit(self, pair: Pair) -> None:
        self._at("commit", "before")
        self.generations[pair.generation] = pair
        self._at("commit", "after")
        self.answer = None

    def save_record(self, record: ChainRecord) -> None:
        self._at("save_record", "before")
        self.record = record
        self._at("save_record", "after")

    def erase(self) -> None:
        self._at("erase", "before")
        self.generations.clear()
        self.answer = None


class RotatingProvider:
    """A TokenEndpoint with single-use refresh tokens that die with their access token, as the Dataservice's.

    `faults` are consumed one a request: a status to answer, 'lost' (rotates, then no answer), 'unsent', or a callable. `replays` is how
    often a spent token whose answer was lost may be presented again. `presented` counts presentations, `told` those after their fate was told.
    """

    def __init__(self, clock: FakeClock, lifetime: float = 3600.0, replays: int = 0) -> None:
        self._clock = clock
        self.lifetime = lifetime
        self.replays = replays
        self.faults: list[object] = []
        self.presented: dict[str, int] = {}
        self.told: list[str] = []
        self.losses: dict[str, int] = {}
        self.bodies: list[dict[str, str]] = []
        self.times: list[float] = []
        self._known: set[str] = set()
        self._fates: dict[str, str] = {}
        self._number = 0
        self.before_answer: Callable[[], None] = lambda: None

    def issue(self) -> dict[str, object]:
        """A new pair as the token endpoint answers it."""
        self._number += 1
        refresh = f"def-refresh-{self._number}"
        self._known.add(refresh)
        self._fates[refresh] = "good"
        return {"access_token": f"access-{self._number}", "refresh_token": refresh, "expires_in": self.lifetime}

    def most_losses(self) -> int:
        """How often the answer to one and the same token was lost at most."""
        return max(self.losses.values(), default=0)

    def lose(self, refresh_token: str) -> None:
        """Takes the answer to its last presentation for lost."""
        self._fates[refresh_token] = "lost"

    def spend(self, refresh_token: str) -> None:
        """Refuses it from now on, without having said so to anybody."""
        self._fates[refresh_token] = "spent"

    async def post(self, request: TokenRequest, timeout: float) -> TokenReply:
        await asyncio.sleep(0)
        if self.faults[:1] != ["unsent"] and not await request.about_to_send():
            raise TokenRequestUnsent("nothing was sent")
        sent_at = self._clock.wall()
        self.times.append(self._clock.monotonic())
        body = json.loads(request.body)
        self.bodies.append(body)
        fault = self.faults.pop(0) if self.faults else None
        if fault == "unsent":
            raise TokenRequestUnsent("no connection")
        token = body.get("refresh_token")
        if token is not None:
            self.presented[token] = self.presented.get(token, 0) + 1
            if self._fates.get(token) == "told":
                self.told.append(token)
        if isinstance(fault, int):
            return self._reply(fault, b"<html>", sent_at)
        if callable(fault):
            return self._reply(*fault(), sent_at)
        if body["grant_type"] == "refresh_token" and not self._may_refresh(token):
            self._fates[token] = "told"
            return self._reply(400, b'{"error": "invalid_grant"}', sent_at)
        answer = self.issue()
        if token is not None:
            self._fates[token] = "lost" if fault == "lost" else "told"
        self.before_answer()
        if fault == "lost":
            self.losses[str(token)] = self.losses.get(str(token), 0) + 1
            raise TokenAnswerLost("the connection broke")
        return self._reply(200, json.dumps(answer).encode(), sent_at)

    def _may_refresh(self, token: str) -> bool:
        fate = self._fates.get(token)
        if fate == "lost" and self.replays > 0:
            self.replays -= 1
            return True
        return fate == "good"

    def _reply(self, status: int, body: bytes, sent_at: float) -> TokenReply:
        return TokenReply(status, (("Content-Type", "application/json"),), body, sent_at, self._clock.wall())


def full_pipe(blocks: bool = True) -> tuple[int, int]:
    """The ends of a pipe that takes no more; whether a write would wait for its reader."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, blocks)
    return reading, writing

"""Prefetch, as background work through the cache: what a command or a program lists (`cache warm`, contract §2), and, as the runway shrinks, the
most used entries, so that they are young when the access token ends (contract §4).

A listed request that the cache would not store is not sent, so nothing with side effects is; a fresh entry is left alone, so that a run that
was broken off can go on. How requests are described as JSON, for `cache warm` and `explain`, is here too.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from passoproxy.core import units
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.events import EntriesWarmed, TaskFailed
from passoproxy.core.http.messages import RequestHead, changed, fields_of
from passoproxy.core.http.syntax import is_token
from passoproxy.core.oauth.alert_levels import Level
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.errors import (
    AuthorizationRequired,
    BodyBroken,
    CoolingDown,
    EntryStoreFailure,
    Overloaded,
    Refusal,
    TokenUnavailable,
    UsageFailure,
)
from passoproxy.ports import Client, Clock, Hop, Observer, Outlook, Request, Trail
from passoproxy.values import dataclass

MOST_ATTEMPTS = 5
"""Tries of one order while the origin wants a pause or no place is free."""

LONGEST_REST = 900.0
"""Seconds of the longest pause of the origin that is waited for; in a longer one orders fail at once, and say until when."""

_BREATH = 1.0
_LOOK = 5.0
"""Seconds between two looks at whether the budget is used up: it may be raised."""

_NOT_STALE = "min-fresh=0"
"""Asked of the cache, so that a stale answer does not serve in place of a new one (RFC 9111 §5.2.1.3)."""


@dataclass(frozen=True, slots=True)
class Order:
    """One request whose answer is to be stored. `number` comes back with its result."""

    number: int
    url: str
    head: RequestHead
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Filled:
    """The result of an order. `outcome`: fetched (it is stored now), fresh (it was) or failed; `status` the answer's, None without one.

    `waiting` is no result: all orders wait, and `detail` says for what; `number` is -1.
    """

    number: int
    url: str
    outcome: str
    status: int | None = None
    detail: str = ""


class Prefetch:
    """Carries out orders through the hop of the cache. `outlook` says what would become of a request, `at_once` how many may be under way, and
    `rests_until` until when background work rests on the origin's account, `budget_until` on that of the daily budget (epoch seconds; None: not)."""

    def __init__(
        self,
        cache: Hop,
        outlook: Callable[[RequestHead, bytes], Awaitable[Outlook]],
        at_once: Callable[[], int],
        rests_until: Callable[[], float | None],
        budget_until: Callable[[], float | None],
        clock: Clock,
    ) -> None:
        self._cache, self._outlook, self._clock = cache, outlook, clock
        self._at_once, self._rests_until, self._budget_until = at_once, rests_until, budget_until
        self._busy = 0
        self._freed = asyncio.Condition()

    async def fill(self, orders: Iterable[Order]) -> AsyncGenerator[Filled, None]:
        """The results as they come. Closing the generator stops the rest; what is under way at the origin is still stored."""
        waiting, running = iter(orders), set[asyncio.Task[Filled]]()
        told: asyncio.Queue[asyncio.Task[Filled] | Filled] = asyncio.Queue()
        is_said = False
        try:
            while True:
                while len(running) < self._at_once() and (order := next(waiting, None)) is not None:
                    task = asyncio.create_task(self._carried_out(order, told.put_nowait), name="prefetch")
                    task.add_done_callback(told.put_nowait)
                    running.add(task)
                if not running:
                    return
                each = await told.get()
                if isinstance(each, Filled):
                    if not is_said:  # once for all that wait
                        yield each
                    is_said = True
                    continue
                running.discard(each)
                is_said = False
                yield each.result()
        finally:
            for each in running:
                each.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        """One of the places that all runs share."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._busy < self._at_once())
            self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            async with self._freed:
                self._freed.notify_all()

    async def _carried_out(self, order: Order, note: Callable[[Filled], None]) -> Filled:
        try:
            async with self._place():
                return await self._filled(order, note)
        except Refusal as refusal:
            return _failed(order, f"{refusal.code}: {refusal.detail}")
        except (BodyBroken, EntryStoreFailure) as fault:
            return _failed(order, str(fault))

    async def _filled(self, order: Order, note: Callable[[Filled], None]) -> Filled:
        outlook = await self._outlook(order.head, order.body)
        if outlook.outcome == "pass":
            return _failed(order, f"it would not be stored, so it was not sent: {outlook.why}")
        if outlook.is_fresh:
            return Filled(order.number, order.url, "fresh")
        for _ in range(MOST_ATTEMPTS):
            await self._rest(note)
            try:
                found = await self._fetched(order, outlook.request)
            except (Overloaded, CoolingDown) as refusal:
                found = _failed(order, f"{refusal.code}: {refusal.detail}")
                is_busy = True
            else:
                is_busy = self._rests_until() is not None or self._budget_until() is not None
            if found.outcome != "failed" or not is_busy:
                return found
            await self._clock.sleep(_BREATH)
        return found

    async def _rest(self, note: Callable[[Filled], None]) -> None:
        """Waits while the budget is used up, and while the origin wants a pause. Raises CoolingDown if that one is too long."""
        if (until := self._budget_until()) is not None:
            text = f"upstream.daily_budget is used up; this goes on by itself, not before {units.moment(until)}"
            note(Filled(-1, "", "waiting", detail=text))
        while (until := self._budget_until()) is not None:
            await self._clock.sleep(min(_LOOK, max(0.05, until - self._clock.wall())))
        while (until := self._rests_until()) is not None:
            left = until - self._clock.wall()
            if left > LONGEST_REST:
                raise CoolingDown(f"the origin wants no background work for {left:.0f} s; run it again then", left)
            await self._clock.sleep(max(0.05, left))

    async def _fetched(self, order: Order, inward: Request) -> Filled:
        wanted = ", ".join((*inward.head.fields.getall("Cache-Control", ()), _NOT_STALE))
        head = inward.head.with_fields(changed(inward.head.fields, having=[("Cache-Control", wanted)]))
        trail = Trail()
        client = Client(name="cache warm")
        request = replace(
            inward, head=head, client=client, received_at=self._clock.wall(), trail=trail, background=True
        )
        response = await self._cache.send(request)
        try:
            if trail.cache == "hit":
                return Filled(order.number, order.url, "fresh", response.head.status)
            async for _ in response.body:
                pass
        finally:
            await response.body.aclose()
        status = response.head.status
        if trail.cache == "stale":
            return _failed(order, "the origin gave no new answer, and the old one is kept", status)
        member = ", ".join(response.head.fields.getall("Cache-Status", ())).rpartition(",")[2]
        if status >= 400:
            return _failed(order, f"the origin answered {status}", status)
        if "; stored" not in member and "fwd-status=304" not in member:
            return _failed(order, f"the origin answered {status}, and that is not stored", status)
        return Filled(order.number, order.url, "fetched", status)


def _failed(order: Order, detail: str, status: int | None = None) -> Filled:
    return Filled(order.number, order.url, "failed", status, detail)


_MEMBERS = frozenset({"url", "method", "headers", "data", "body", "number"})


def order_of(described: object, target_of: Callable[[str], str], authority: str, number: int = 0) -> Order:
    """The described request: a URL or a path, or `{url, method, headers, body}` (`data` is another word for `body`).

    `target_of` gives path and query of a URL, or raises UsageFailure. A `body` that is no text is sent as JSON. Raises UsageFailure saying what is wrong.
    """
    described = {"url": described} if isinstance(described, str) else described
    if not isinstance(described, Mapping):
        raise UsageFailure("a URL, a path or an object with url, method, headers and body is expected")
    if unknown := set(map(str, described)) - _MEMBERS:
        raise UsageFailure(f"{min(unknown)!r} is not known here; known are url, method, headers and body")
    url = described.get("url")
    if not isinstance(url, str) or not url:
        raise UsageFailure("url: a URL or a path is expected")
    body, is_json = _body_of(described)
    method = described.get("method") or ("GET" if body is None else "POST")
    if not isinstance(method, str) or not is_token(method):
        raise UsageFailure(f"method: the name of a method is expected, such as GET, not {method!r}")
    fields = _fields_of(described.get("headers"))
    if is_json and not any(name.lower() == "content-type" for name, _ in fields):
        fields.append(("Content-Type", "application/json"))
    head = RequestHead(method.upper(), target_of(url), fields_of(fields), authority)
    return Order(number, url, head, body or b"")


def _body_of(described: Mapping[str, object]) -> tuple[bytes | None, bool]:
    """The body, and whether it is JSON unless a header says otherwise."""
    given = [described[name] for name in ("data", "body") if described.get(name) is not None]
    if len(given) > 1:
        raise UsageFailure("data and body are two words for one thing; give one of them")
    if not given:
        return None, False
    if not isinstance(given[0], str):
        return json.dumps(given[0], ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass"), True
    data = given[0].encode("utf-8", "surrogatepass")
    return data, data.lstrip()[:1] in (b"{", b"[")


def _fields_of(given: object) -> list[tuple[str, str]]:
    """From `{"Name": "value"}` (or a list of values), or from a list of `Name: value`."""
    pairs: list[tuple[object, object]] = []
    match given:
        case None:
            return []
        case Mapping():
            for name, value in given.items():
                pairs += [(name, each) for each in value] if isinstance(value, list) else [(name, value)]
        case list():
            for line in given:
                name, colon, value = str(line).partition(":")
                if not colon:
                    begins = (name.split() or [""])[0]  # no more of it: the rest may be a secret
                    raise UsageFailure(
                        f"headers: name and value are expected, as in 'Accept: text/html'; the line that begins with {begins!r} has no colon"
                    )
                pairs.append((name.strip(), value.strip()))
        case _:
            raise UsageFailure("headers: an object of names and values is expected")
    return [_field(name, value) for name, value in pairs]


def _field(name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not is_token(name):
        raise UsageFailure("headers: the name of a header field is expected, as in 'Accept: text/html'")
    if not isinstance(value, str) or any(
        (each < " " and each != "\t") or "\ud800" <= each <= "\udfff" for each in value
    ):
        raise UsageFailure(f"headers: a text without line breaks is expected for {name}")
    return name, value


MOST_WARMED = 64
LONGEST_PAUSE = 0.25
"""Seconds between two requests, fewer if little is left."""
LOOK_EVERY = 5.0
"""Seconds between two looks at the runway."""
LEAST_BETWEEN = 5.0
"""Seconds between two passes at least; else half of what is left."""

_CONDITIONS = (
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
    "If-Range",
    "Range",
    "Pragma",
)
_FORWARD_STATUS = re.compile("fwd-status=([0-9]{3})")  # RFC 9211 §2.3
_STAND_BACK = (CoolingDown, Overloaded, AuthorizationRequired, TokenUnavailable)


class RunwayRevalidation:
    """Revalidates the most used entries through `cache`, from the alerts' `level` NOTIFY on, bounded in number and rate. A 429, a full queue or a
    missing bearer ends the pass. `policy_of` gives the route of a path."""

    def __init__(
        self,
        cache: Hop,
        *,
        most_used: Callable[[int], Sequence[Request]],
        policy_of: Callable[[str], RoutePolicy],
        level: Callable[[], Level],
        read: Callable[[], TokenSnapshot],
        clock: Clock,
        observe: Observer,
        most: int = MOST_WARMED,
    ) -> None:
        self._cache, self._most_used, self._policy_of = cache, most_used, policy_of
        self._level, self._read, self._clock, self._observe, self._most = level, read, clock, observe, most

    async def run(self) -> None:
        while True:
            await self._clock.sleep(await self._looked())

    async def _looked(self) -> float:
        """Seconds until the next look."""
        if (left := self._short()) is None:
            return LOOK_EVERY
        try:
            await self._pass(left)
        except Exception as fault:  # upkeep must live on
            self._observe(TaskFailed("runway revalidation", type(fault).__name__))
        return max(LEAST_BETWEEN, (self._short() or 0.0) / 2)

    def _short(self) -> float | None:
        """Seconds that the access token still serves, while the runway is short; None if it is not, or there is no token to ask with."""
        shown = self._read()
        if self._level() < Level.NOTIFY or shown.access != "valid" or shown.served_until is None:
            return None
        return max(0.0, shown.served_until - shown.as_of)

    async def _pass(self, left: float) -> None:
        pause = min(LONGEST_PAUSE, left / (2 * self._most))
        asked = renewed = 0
        ended_by = ""
        for request in self._most_used(self._most):
            asked += 1
            try:
                status = await self._status(request)
            except _STAND_BACK as refusal:
                ended_by = refusal.code
                break
            except Refusal:
                status = 502  # the next one may succeed
            if status is None:
                ended_by = "not_asked"
                break
            renewed += status < 400
            await self._clock.sleep(pause)
        if asked:
            self._observe(EntriesWarmed(asked, renewed, ended_by))

    async def _status(self, request: Request) -> int | None:
        """The origin's status; None if a stored answer stood in because the origin could not be asked."""
        head = request.head
        fields = changed(head.fields, without=_CONDITIONS, having=(("Cache-Control", "no-cache"),))
        asked = replace(head, method="GET" if head.method == "HEAD" else head.method, fields=fields)
        answer = await self._cache.send(replace(request, head=asked, policy=self._policy_of(head.path)))
        await answer.body.aclose()
        told = _FORWARD_STATUS.findall(answer.head.fields.get("Cache-Status", ""))
        return int(told[-1]) if told else None

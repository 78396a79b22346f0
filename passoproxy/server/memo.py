"""Answers by the exact bytes of a request's head: a hit that came before is answered again without being read.

Two rules carry its safety:

1. Only a whole read that equals a known head counts: the client sent these bytes and none besides, so they mean what they meant before.
2. The connection stands between two messages: nothing is held, nothing is answered, all that was written has room, and the next answer is not
   the last one. `connection` sees to that.

An answer is learnt from the whole road, which served a fresh entry from memory for a GET or HEAD without conditions and wishes. What it
rests on is looked at for each hit: the rules of the moment (`grounds`), what other processes changed (`keep_up`), the moments between which it
holds, and the entry itself, which says by `watchers` when it leaves the memory. `Age`, `ttl` and our own `Date` are written anew when one of their
seconds turns. Hits are counted and logged in batches of `BATCH`, or after `DELAY`.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.expiry import Terms
from passoproxy.core.events import TTL, Hit, RequestAnswered
from passoproxy.core.http.messages import RequestHead
from passoproxy.ports import NO_BODY, Clock, Request
from passoproxy.proxy.popularity import Usage
from passoproxy.server.request import traceparent_of
from passoproxy.server.response import Exchange

BATCH = 128
DELAY = 0.1
"""Seconds after the first hit of a batch in which the others are waited for."""

LONGEST_HEAD = 4096
_ANSWER_BYTES = 1600  # what the objects of one answer take beside its bytes, measured by `tests/server/test_memo.py`
_SEEN = 32_768  # hashes of heads that came once


class Memory(Protocol):
    """The memory that answers are made of (`stores.entries.tiered`)."""

    @property
    def clearings(self) -> int: ...
    def keep_up(self) -> None: ...
    def used(self, key: str) -> None: ...
    def watchers(self, entry: Entry) -> set[Callable[[], None]] | None: ...
    def read_nowait(self, entry: Entry) -> bytes | None: ...


@dataclass(frozen=True, slots=True)
class Basis:
    """What a memo needs of the pipeline. `grounds` gives what all decisions rest on, equal as long as none has changed."""

    memory: Memory
    grounds: Callable[[], object]
    usage: Usage
    clock: Clock
    observe: Callable[[list[Hit]], None]
    max_bytes: int


class Answer:
    """One answer. It holds from `fresh_from` until `until`, and `head` as it is from `since` until `turns_at` (epoch seconds).

    Called when what it was made of leaves the memory, or changes there.
    """

    __slots__ = (
        "asked", "body", "counted", "event", "fresh_from", "head", "key", "memo", "request",
        "scheme", "since", "spans", "terms", "ttl", "turns_at", "until", "used",
        "watchers", "weight",
    )  # fmt: skip

    memo: Memo
    request: bytes
    scheme: str
    head: bytes
    body: bytes
    spans: tuple[tuple[int, int, str], ...]
    terms: Terms
    since: float
    turns_at: float
    fresh_from: float
    until: float
    ttl: int
    event: RequestAnswered
    key: str
    asked: RequestHead
    counted: bool
    used: bool
    weight: int
    watchers: set[Callable[[], None]]

    def __call__(self) -> None:
        self.memo.end(self)


class Memo:
    """At most `max_bytes` of answers, of which those that are asked for stay."""

    def __init__(self, basis: Basis, date: Callable[[], str]) -> None:
        self._memory, self._usage, self._observe = basis.memory, basis.usage, basis.observe
        self._keep_up, self._grounds, self._wall = basis.memory.keep_up, basis.grounds, basis.clock.wall
        self._used = basis.memory.used
        self._date = date
        self._max_bytes = basis.max_bytes
        self._stood_on: object = None
        self._answers: OrderedDict[bytes, Answer] = OrderedDict()
        self._seen: set[int] = set()
        self._hits: list[Hit] = []
        self._timer: asyncio.TimerHandle | None = None
        self.bytes_used = 0

    def __len__(self) -> int:
        return len(self._answers)

    # ---- a hit ---------------------------------------------------------------------------------------------------------

    def find(self, data: bytes, scheme: str) -> Answer | None:
        """The answer to a request of exactly these bytes, as it is now; None if the whole road has to find it."""
        answer = self._answers.get(data)
        if answer is None or answer.scheme is not scheme:
            return None
        self._keep_up()
        if self._grounds() != self._stood_on:
            self.clear()
            return None
        now = self._wall()
        return answer if answer.since <= now < answer.turns_at or self._turned(answer, now) else None

    def tell(self, answer: Answer, address: str, began: float) -> None:
        """Counts a hit that was answered. `began` is `perf_counter()` at its first byte."""
        answer.used = True
        key = answer.key
        if answer.counted:
            counts = self._usage.counts
            if key in counts:
                counts[key] += 1
            else:
                self._usage.begin(key, Request(answer.asked, NO_BODY))
        self._used(key)
        hits = self._hits
        hits.append((answer.event, self._wall(), address, answer.ttl, perf_counter() - began))
        if len(hits) >= BATCH:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY, self._due)

    def flush(self) -> None:
        """Tells of all hits until now."""
        if self._hits:
            hits, self._hits = self._hits, []
            self._observe(hits)

    def _due(self) -> None:
        self._timer = None
        self.flush()

    def _turned(self, answer: Answer, now: float) -> bool:
        """Writes the head as it is now; whether the answer holds."""
        if not answer.fresh_from <= now < answer.until:
            return False
        terms = answer.terms
        age, ttl = int(terms.age(now)), int((terms.fresh_until - now) // 1)
        turns_at = min(answer.until, terms.born_at + age + 1, math.nextafter(terms.fresh_until - ttl, math.inf))
        texts = {"age": b"%d" % age, "ttl": b"%d" % ttl}
        parts: list[bytes] = []
        spans: list[tuple[int, int, str]] = []
        at, size, head = 0, 0, answer.head
        for start, end, name in answer.spans:
            if name == "date":
                turns_at = min(turns_at, now // 1 + 1)
                text = self._date().encode()
            else:
                text = texts[name]
            parts += (head[at:start], text)
            size += start - at
            spans.append((size, size + len(text), name))
            size, at = size + len(text), end
        parts.append(head[at:])
        answer.head, answer.spans = b"".join(parts), tuple(spans)
        answer.ttl, answer.since, answer.turns_at = ttl, now, turns_at
        return True

    # ---- learning and forgetting -----------------------------------------------------------------------------------------

    def learn(self, data: bytes, exchange: Exchange) -> None:
        """A request that came as exactly `data`, alone, was answered from memory, and its connection takes the next one."""
        hit, head = exchange.hit, exchange.head
        if (
            hit is None
            or not hit.until
            or len(data) > LONGEST_HEAD
            or head.method not in ("GET", "HEAD")
            or head.version != (1, 1)
        ):
            return
        if (seen := hash(data)) not in self._seen:  # most heads that differ each time never come again
            if len(self._seen) >= _SEEN:
                self._seen.clear()
            self._seen.add(seen)
            return
        self._keep_up()
        if (grounds := self._grounds()) != self._stood_on:
            self.clear()
            self._stood_on = grounds
        entry, terms, trail = hit.plan.entry, hit.plan.terms, hit.asked.trail
        watchers, spans = self._memory.watchers(entry), _spans(exchange.raw_head, hit.form.dated)
        if watchers is None or spans is None:
            return
        answer, body = Answer(), hit.body
        answer.memo, answer.request, answer.scheme = self, data, head.scheme
        answer.head, answer.spans, answer.body = exchange.raw_head, spans, body
        answer.terms, answer.fresh_from, answer.until = terms, terms.fresh_from, hit.until
        policy = hit.asked.policy
        answer.counted = policy is not None and not policy.origin_decides
        answer.key, answer.asked, answer.used = trail.key, hit.asked.head, False
        answer.watchers = watchers
        answer.event = RequestAnswered(
            client=trail.client,
            method=head.method,
            target=trail.target or head.target,
            status=hit.form.status,
            route=trail.route,
            cache=trail.cache,
            cache_status=_HIT.sub(f"\\g<1>{TTL}\\g<2>", hit.cache_status),
            duration=0.0,
            sent_bytes=exchange.sent_bytes,
            traceparent=traceparent_of(head, exchange.received.traced),
        )
        is_shared = body is self._memory.read_nowait(entry)
        answer.weight = _ANSWER_BYTES + 2 * len(data) + len(answer.head) + (0 if is_shared else len(answer.body))
        if answer.weight > self._max_bytes // 8 or not self._turned(answer, self._wall()):
            return
        if (old := self._answers.get(data)) is not None:
            self.end(old)
        self._answers[data] = answer
        self.bytes_used += answer.weight
        watchers.add(answer)
        while self.bytes_used > self._max_bytes:
            oldest = next(iter(self._answers.values()))
            if oldest.used:  # a second chance, as in CLOCK
                oldest.used = False
                self._answers.move_to_end(oldest.request)
            else:
                self.end(oldest)

    def end(self, answer: Answer) -> None:
        """That answer does not hold any more."""
        if self._answers.get(answer.request) is answer:
            del self._answers[answer.request]
            self.bytes_used -= answer.weight
        answer.watchers.discard(answer)
        answer.turns_at = answer.until = 0.0
        answer.body = b""

    def clear(self) -> None:
        """Forgets all answers."""
        for answer in self._answers.values():
            answer.watchers.discard(answer)
        self._answers.clear()
        self.bytes_used = 0


_HIT = re.compile(r"(.*passoproxy; hit; ttl=)[0-9]+(|; detail=[A-Z_]+)\Z")
_AGE_LINE = re.compile(rb"\r\nAge: ([0-9]+)(?=\r\n)")
_STATUS_LINE = re.compile(rb"\r\nCache-Status: [^\r]*passoproxy; hit; ttl=([0-9]+)(?:; detail=[A-Z_]+)?(?=\r\n)")
_DATE_LINE = re.compile(rb"\r\nDate: ([^\r]+)(?=\r\n)")


def _spans(head: bytes, has_date: bool) -> tuple[tuple[int, int, str], ...] | None:
    """Where the text is that the clock writes: start, end, and which one. None if it cannot be told."""
    lines = (("age", _AGE_LINE), ("ttl", _STATUS_LINE), *(() if has_date else (("date", _DATE_LINE),)))
    found = [(*match.span(1), name) for name, line in lines for match in line.finditer(head)]
    return tuple(sorted(found)) if len(found) == len(lines) == len({name for _, _, name in found}) else None

"""Answers by the exact bytes of a request's head: a hit that came before is answered again without being read.

Two rules carry its safety:

1. Only a whole read that equals a known head counts: the client sent these bytes and none besides, so they mean what they meant before. Whole lines
   of fields that no rule reads (`messages.TRACING`) may be others, where neither the entry's key nor a `Vary` has one of them.
2. The connection stands between two messages: nothing is held, nothing is answered, all that was written has room, and the next answer is not
   the last one. `connection` sees to that.

An answer is learnt from the whole road, which served a fresh entry from memory for a request without conditions and wishes. What it
rests on is looked at for each hit: the rules of the moment (`grounds`), what other processes changed (`keep_up`), the moments between which it
holds, and the entry itself, which says by `watchers` when it leaves the memory. `Age` and `ttl` are written anew when one of their seconds
turns.
"""

from __future__ import annotations

import math
import secrets
from collections import OrderedDict
from collections.abc import Callable
from hashlib import blake2b
from itertools import chain
from time import perf_counter
from typing import Any, Protocol

from passoproxy.core.access import Admission
from passoproxy.core.cache.entry import Entry
from passoproxy.core.cache.expiry import Terms
from passoproxy.core.cache.freshness import Lifetime
from passoproxy.core.events import Answered, Repeated, RequestAnswered
from passoproxy.core.http.messages import RequestHead, fields_of
from passoproxy.core.http.request_line import HEAD_END
from passoproxy.ports import BearerSource, BytesBody, Clock, Request
from passoproxy.proxy.access import Access
from passoproxy.proxy.cache import Cache
from passoproxy.proxy.hits import Hit, Pieces
from passoproxy.proxy.popularity import Usage
from passoproxy.server.request import LONGEST_TRACED, untraced
from passoproxy.server.response import Exchange
from passoproxy.values import dataclass

LONGEST_REQUEST = 4096
_ANSWER_BYTES = 1300  # what the objects of one answer take beside its bytes, measured by `tests/server/test_memo.py`
_FIELD_BYTES = 340  # what a field of the request takes beside them: as it came, and as it may leave
_SEEN = 32_768  # hashes of heads that came once
_LONGEST_OWN = 32 * 1024  # bytes of an encoded or rewritten body that is kept on disk with its answer
_UNKNOWN = Lifetime(0.0, "")  # is not asked for here
_NONE: set[Callable[[], None]] = set()


class Memory(Protocol):
    """The memory that answers are made of (`stores.entries.tiered`)."""

    @property
    def clearings(self) -> int: ...
    def keep_up(self) -> bool: ...
    def used(self, key: str) -> None: ...
    def watchers(self, entry: Entry) -> set[Callable[[], None]] | None: ...
    def held_body(self, entry: Entry) -> bytes | None: ...
    def keep_answer(self, digest: bytes, entry: Entry, made: tuple[Any, ...], *, with_body: bool) -> None: ...
    def answer_nowait(self, digest: bytes) -> tuple[str, tuple[Any, ...], bytes] | None: ...
    def is_taken_in(self, key: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Basis:
    """What a memo needs of the pipeline. `admission` and `bearers.serving` are asked for each hit, as the whole road asks them."""

    memory: Memory
    access: Access
    cache: Cache
    admission: Callable[[], Admission]
    bearers: BearerSource
    usage: Usage
    clock: Clock
    tell: Callable[[Answered], None]
    tell_unread: Callable[[Answered], None]
    max_bytes: int

    def grounds(self) -> Callable[[], object]:
        """Gives what all decisions rest on beside the entry and the time, equal as long as none has changed."""
        memory, access, cache, terms = self.memory, self.access, self.cache, self.cache.terms
        admission, bearers = self.admission, self.bearers
        return lambda: (admission(), access.table, cache.mode, terms.purges, bearers.serving, memory.clearings)


class Answer:
    """One answer. It holds until `until`, and `head` as it is from `since` until `turns_at` (epoch seconds).

    Called when what it was made of leaves the memory, or changes there.
    """

    __slots__ = (
        "asked", "body", "counted", "framing", "head", "key", "memo", "pieces", "request", "scheme", "since", "terms", "told", "ttl", "turns_at",
        "until", "used", "watchers", "weight",
    )  # fmt: skip

    memo: Memo
    request: bytes
    scheme: str
    head: bytes
    body: bytes
    pieces: Pieces
    framing: bytes
    terms: Terms
    since: float
    turns_at: float
    until: float
    ttl: int
    told: Repeated
    key: str
    asked: Request
    counted: bool
    used: bool
    weight: int
    watchers: set[Callable[[], None]]

    def __call__(self) -> None:
        self.memo.end(self)


class Memo:
    """At most `max_bytes` of answers, of which those that are asked for stay."""

    def __init__(self, basis: Basis) -> None:
        self._memory, self._usage = basis.memory, basis.usage
        self._tell, self._tell_unread = basis.tell, basis.tell_unread
        self._keep_up, self._grounds, self._wall = basis.memory.keep_up, basis.grounds(), basis.clock.wall
        self._used, self._bearers = basis.memory.used, basis.bearers
        self._max_bytes = basis.max_bytes
        self._stood_on: object = None
        self._answers: OrderedDict[bytes, Answer] = OrderedDict()
        self._sharing: dict[int, int] = {}  # how many answers have a request with these very fields
        self._seen: set[int] = set()
        self.bytes_used = 0
        self._secret, self._has_more = b"", False  # the key of those on disk, and whether there are any

    def __len__(self) -> int:
        return len(self._answers)

    # ---- a hit ---------------------------------------------------------------------------------------------------------

    def find(self, data: bytes, scheme: str) -> Answer | None:
        """The answer to a request of exactly these bytes, body included, but for fields that tell traces apart; None if the whole road has to find it."""
        answer = self._answers.get(data) or self._answers.get(known := _known_by(data))
        if answer is None:
            return self._of_disk(known, scheme) if self._has_more else None
        if answer.scheme is not scheme:
            return None
        stood_on = self._stood_on
        if self._grounds() != stood_on or (self._keep_up() and self._grounds() != stood_on):
            self.clear()
            return None
        now = self._wall()
        return answer if answer.since <= now < answer.turns_at or self._turned(answer, now) else None

    def tell(self, answer: Answer, data: bytes, address: str, began: float) -> None:
        """Counts a hit that was answered. `data` is the request, `began` is `perf_counter()` at its first byte."""
        answer.used = True
        key = answer.key
        if answer.counted:
            counts = self._usage.counts
            if key in counts:
                counts[key] += 1
            else:
                self._usage.begin(key, answer.asked)
        end = data.find(HEAD_END)
        traced = data[:end] if end > LONGEST_TRACED or len(data) != len(answer.request) else b""
        tell = self._tell_unread
        if answer.watchers:
            self._used(key)
            tell = self._tell
        tell((answer.told, self._wall(), address, answer.ttl, perf_counter() - began, traced))

    def _turned(self, answer: Answer, now: float) -> bool:
        """Writes the head as it is now; whether the answer holds."""
        terms, until = (
            answer.terms,
            min(answer.until, self._bearers.usable_until),
        )  # without a bearer answers tell the runway
        if not terms.fresh_from <= now < until:
            return False
        age, ttl = int(terms.age(now)), int((terms.fresh_until - now) // 1)
        answer.head, answer.ttl, answer.since = answer.pieces.text(age, ttl) + answer.framing, ttl, now
        answer.turns_at = min(until, terms.born_at + age + 1, math.nextafter(terms.fresh_until - ttl, math.inf))
        return True

    # ---- learning and forgetting -----------------------------------------------------------------------------------------

    def learn(self, data: bytes, exchange: Exchange) -> None:
        """A request that came as exactly `data`, head and body, alone, was answered from memory, and its connection takes the next one."""
        hit, head = exchange.hit, exchange.head
        if hit is None or not hit.until or len(data) > LONGEST_REQUEST or self._max_bytes < 0:
            return
        data, in_memory = _known_by(data), self._memory.held_body(hit.plan.entry)
        if (
            16 * self.bytes_used > 15 * self._max_bytes
            and in_memory is not None
            and (seen := hash(data)) not in self._seen
        ):
            # With hardly any room left, only what came before: requests that differ each time push out no others.
            if len(self._seen) >= _SEEN:
                self._seen.clear()
            self._seen.add(seen)
            return
        self._keep_up()
        if (grounds := self._grounds()) != self._stood_on:
            self.clear()
            self._stood_on = grounds
        raw, made, asked, form = exchange.raw_head, hit.head, hit.asked, hit.form
        own = 0 if hit.body is in_memory else len(hit.body)
        watchers = self._memory.watchers(hit.plan.entry)
        if asked.policy is None or not form.dated or not raw.startswith(made):
            return
        if watchers is None:
            self._learn_on_disk(data, head.scheme, hit, raw[len(made) :])
            return
        answer = Answer()
        answer.memo, answer.request, answer.scheme, answer.asked = self, data, head.scheme, asked
        answer.pieces, answer.framing, answer.body, answer.told = form.head, raw[len(made) :], hit.body, form.repeated
        answer.terms, answer.until, answer.used, answer.watchers = hit.plan.terms, hit.until, False, watchers
        answer.key, answer.counted = asked.trail.key, not asked.policy.origin_decides
        answer.weight = _ANSWER_BYTES + len(data) + len(raw) + 2 * len(asked.head.target) + own
        if answer.weight > self._max_bytes // 8 or not self._turned(answer, self._wall()):
            return
        if (old := self._answers.get(data)) is not None:
            self.end(old)
        self._answers[data] = answer
        self._weigh(answer, 1)
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
            self._weigh(answer, -1)
        if not answer.until:
            return
        answer.watchers.discard(answer)
        answer.turns_at = answer.until = 0.0
        answer.body = b""

    def clear(self) -> None:
        """Forgets all answers."""
        self._secret, self._has_more = secrets.token_bytes(32), False
        for answer in self._answers.values():
            answer.watchers.discard(answer)
        self._answers.clear()
        self._sharing.clear()
        self.bytes_used = 0

    def close(self) -> None:
        """Forgets all answers and learns no more."""
        self.clear()
        self._max_bytes = -1

    def _weigh(self, answer: Answer, sign: int) -> None:
        """Counts an answer, or (-1) counts it no more; fields that several have count once."""
        fields, sharing = answer.asked.head.fields, self._sharing
        number = id(fields)
        after = sharing.get(number, 0) + sign
        if after:
            sharing[number] = after
        else:
            del sharing[number]
        own = _FIELD_BYTES * len(fields) if not after or after == sign else 0
        self.bytes_used += sign * (answer.weight + own)

    # ---- answers whose entries are not in memory ----------------------------------------------------------------------------

    def _learn_on_disk(self, data: bytes, scheme: str, hit: Hit, framing: bytes) -> None:
        """Keeps an answer on disk, as its entry is. The digest is keyed by a secret that goes with the grounds, and so all answers go with them."""
        asked, form, terms = hit.asked, hit.form, hit.plan.terms
        head, event, is_stored_body = asked.head, form.repeated.event, form.body is None
        own = b"" if is_stored_body else hit.body
        if asked.policy is None or len(own) > _LONGEST_OWN:
            return
        made = (
            *form.head, framing, own, hit.until, terms.born_at, terms.fresh_from, terms.fresh_until, not asked.policy.origin_decides,
            event.client, event.status, event.route, event.cache, event.cache_status,
            head.method, head.target, head.authority, tuple(head.version), tuple(map(str, chain.from_iterable(head.fields.items()))),
        )  # fmt: skip
        with_body = is_stored_body and bool(hit.body)
        self._memory.keep_answer(self._digest(data, scheme), hit.plan.entry, made, with_body=with_body)
        self._has_more = True

    def _of_disk(self, known: bytes, scheme: str) -> Answer | None:
        """The answer that was kept on disk, for this once."""
        found = self._memory.answer_nowait(self._digest(known, scheme))
        if found is None:
            return None
        self._keep_up()
        if self._grounds() != self._stood_on:
            self.clear()
            return None
        answer = Answer()
        answer.key, made, body = found
        (
            begin, middle, end, age_first, answer.framing, own, answer.until, born_at, fresh_from, fresh_until, answer.counted,
            client, status, route, cache, cache_status,
            method, target, authority, version, fields,
        ) = made  # fmt: skip
        answer.pieces, answer.body = Pieces(begin, middle, end, age_first), body or own
        answer.terms = Terms(_UNKNOWN, born_at, fresh_from, fresh_until, fresh_from=fresh_from)
        if not self._turned(answer, self._wall()) or self._memory.is_taken_in(answer.key):
            return None
        event = RequestAnswered(client, method, target, status, route, cache, cache_status, 0.0, len(answer.body))
        answer.request, answer.watchers, answer.told = known, _NONE, Repeated(event)
        if answer.counted and answer.key not in self._usage.counts:
            head = RequestHead(
                method, target, fields_of(zip(fields[::2], fields[1::2], strict=True)), authority, scheme, version
            )
            answer.asked = Request(head, BytesBody(known[known.find(HEAD_END) + len(HEAD_END) :]))
        return answer

    def _digest(self, data: bytes, scheme: str) -> bytes:
        return blake2b(data, digest_size=16, key=self._secret, person=scheme.encode()).digest()


def _known_by(data: bytes) -> bytes:
    """A request without the field lines that no rule reads. The first empty line ends its head: what looks like such a line behind it stays."""
    end = data.find(HEAD_END) + len(HEAD_END)
    if end > LONGEST_TRACED:
        return data
    head, traced = untraced(data[:end])
    return head + data[end:] if traced else data

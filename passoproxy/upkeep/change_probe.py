"""The change probe: asks the data service which of the stored answers have changed, and drops those (contract §7).

What the service's answers mean is in `core.passolution`. The quota is spared: a bounded number of requests an hour, each about many answers.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import cast

from passoproxy.core import passolution
from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.etag import is_json
from passoproxy.core.cache.policy import RoutePolicy
from passoproxy.core.events import EntriesPurged, EntryStored, Event, StoreFailed, TaskFailed, Warned
from passoproxy.core.http.content_coding import content_coding
from passoproxy.core.http.messages import RequestHead, fields_of
from passoproxy.errors import BodyBroken, EntryStoreFailure, Refusal
from passoproxy.ports import BytesBody, Client, Clock, EntryStore, Hop, Observer, Request, read_whole

ROUND_SECONDS = 300.0
"""Between two rounds of questions; the first one comes so long after the start."""

REQUESTS_A_ROUND = 2
"""Requests in one round at most: with ROUND_SECONDS no more than 24 an hour, about 2,400 answers."""

PAUSE_SECONDS = 3600.0
"""Seconds without questions after the origin answered that the account has no right to ask."""

MOST_WATCHED = 2400
"""Primary keys that are watched, the youngest: as many as an hour's requests can ask about."""

LARGEST_READ = 256 * 1024
"""A stored body of more bytes is not read for its id."""

PATIENCE = 3
"""After so many answers of a route whose ids the service never knew, its answers are left alone."""

_LARGEST_NEWS = 1024 * 1024
_NO_RIGHT = (403, 404)
_FIELDS = fields_of([("Content-Type", "application/json"), ("Accept", "application/json")])


class Watched:
    """The primary keys whose answers are asked about, the longest unasked first. `heed` is an observer of what is stored."""

    def __init__(self, most: int = MOST_WATCHED) -> None:
        self._most = most
        self._keys: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def heed(self, event: Event) -> None:
        if type(event) is EntryStored:
            self.add(event.key)

    def add(self, key: str) -> None:
        """Watches a key; beyond the bound the first one goes."""
        self._keys[key] = None
        if len(self._keys) > self._most:
            self._keys.popitem(last=False)

    @property
    def is_full(self) -> bool:
        """Whether one more would push another out."""
        return len(self._keys) >= self._most

    def in_turn(self) -> list[str]:
        return list(self._keys)

    def asked(self, key: str) -> None:
        """Moves it to the end."""
        if key in self._keys:
            self._keys.move_to_end(key)

    def drop(self, key: str) -> None:
        self._keys.pop(key, None)


class ChangeProbe:
    """`run` asks a round of questions again and again. `next` is the hop behind the cache.

    `forbidden` says why nothing may be asked now, '' if it may; `plain` undoes a content coding (None if it cannot); `dropped` is called with what is
    gone, so that no request waits for it.
    """

    def __init__(
        self,
        next: Hop,
        store: EntryStore,
        watched: Watched,
        clock: Clock,
        observer: Observer,
        *,
        forbidden: Callable[[], str],
        partition: Callable[[], str],
        plain: Callable[[bytes, str], Awaitable[bytes | None]],
        dropped: Callable[[Selector], None],
    ) -> None:
        self._next, self._store, self._watched, self._clock, self._observer = next, store, watched, clock, observer
        self._forbidden, self._partition, self._plain, self._dropped = forbidden, partition, plain, dropped
        self._ids: OrderedDict[str, str] = OrderedDict()
        self._sent: deque[float] = deque()
        self._paused_until = float("-inf")
        self._said = ""
        self._known_routes: set[str] = set()
        self._strange_routes: dict[str, int] = {}
        self.requests = self.asked = self.dropped = 0
        self._last_at: float | None = None

    def shown(self) -> dict[str, object]:
        """Its state for `/api/status`. `state` is on, off (not allowed, or switched off) or paused (no right to ask)."""
        why = self._forbidden()
        paused = self._clock.monotonic() < self._paused_until
        return {
            "state": "off" if why else "paused" if paused else "on",
            "reason": why or self._said,
            "watched": len(self._watched),
            "requests": self.requests,
            "requests_last_hour": self._lately(),
            "most_requests_an_hour": round(REQUESTS_A_ROUND * 3600 / ROUND_SECONDS),
            "asked_about": self.asked,
            "dropped": self.dropped,
            "last_at": self._last_at,
        }

    def _lately(self) -> int:
        while self._sent and self._sent[0] <= self._clock.monotonic() - 3600.0:
            self._sent.popleft()
        return len(self._sent)

    async def run(self) -> None:
        while True:
            await self._clock.sleep(ROUND_SECONDS)
            try:
                await self.round()
            except EntryStoreFailure as fault:
                self._observer(StoreFailed(str(fault)))
            except Exception as fault:  # the next round may be luckier, and no fault here may end what follows
                self._observer(TaskFailed("change probe", type(fault).__name__))

    async def round(self) -> None:
        """Asks about the longest unasked. Raises EntryStoreFailure."""
        if self._forbidden() or self._clock.monotonic() < self._paused_until:
            return
        await self._look()
        asked = await self._due(REQUESTS_A_ROUND * passolution.MOST_IDS)
        ids = list(asked)
        for at in range(0, len(ids), passolution.MOST_IDS):
            batch = {each: asked[each] for each in ids[at : at + passolution.MOST_IDS]}
            if not await self._ask(batch):
                return

    async def _look(self) -> None:
        """What was stored before this process began, or by others."""
        if self._watched.is_full:
            return
        listed = cast(AsyncGenerator[Entry, None], self._store.entries(Selector(tag=passolution.TAG)))
        async with aclosing(listed):
            async for entry in listed:
                if self._watched.is_full:
                    break
                self._watched.add(entry.key)

    async def _due(self, most: int) -> dict[str, Entry]:
        """Entries by their ids, at most so many."""
        due: dict[str, Entry] = {}
        partition = self._partition()
        for key in self._watched.in_turn():
            if len(due) >= most:
                break
            listed = self._store.entries(Selector(key=key))
            entries = [entry async for entry in listed if passolution.TAG in entry.tags]
            if entries:
                self._watched.asked(key)
            else:
                self._watched.drop(key)
            for entry in entries:
                is_ours = entry.partition == partition and self._strange_routes.get(entry.route, 0) < PATIENCE
                if is_ours and (found := await self._id_of(entry)):
                    due[found] = entry
        return due

    async def _id_of(self, entry: Entry) -> str:
        known = self._ids.get(entry.identifier)
        if known is not None:
            return known
        found = ""
        if is_json(entry.fields) and entry.size <= LARGEST_READ and (body := await self._store.read(entry)):
            try:
                data = await read_whole(body, LARGEST_READ)
            except BodyBroken:
                data = None
            plain = await self._plain(data, content_coding(entry.fields)) if data is not None else None
            found = passolution.request_id(plain) if plain is not None else ""
        self._ids[entry.identifier] = found
        if len(self._ids) > 2 * MOST_WATCHED:
            self._ids.popitem(last=False)
        return found

    async def _ask(self, asked: dict[str, Entry]) -> bool:
        """Whether an answer came after which more may be asked."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        head = RequestHead("POST", passolution.UPDATES, _FIELDS)
        body = BytesBody(passolution.question(list(asked)))
        policy = RoutePolicy(name=passolution.ROUTE, stores=False)
        request = Request(head, body, Client(name="change probe"), wall, policy, background=True)
        try:
            response = await self._next.send(request)
            try:
                data = await read_whole(response.body, _LARGEST_NEWS)
            finally:
                await response.body.aclose()
        except (Refusal, BodyBroken) as fault:
            self._said = f"the last question got no answer ({fault})"
            return False
        finally:
            if request.trail.origin_requests:  # a question that was refused here costs no quota
                self._sent.append(now)
                self.requests += 1
                self._last_at = wall
        if response.head.status in _NO_RIGHT:
            self._paused_until = now + PAUSE_SECONDS
            self._said = (
                f"the origin answered {response.head.status}: this account has no right to ask; tried again in an hour"
            )
            self._observer(Warned("change_probe_paused", f"{passolution.UPDATES}: {self._said}"))
            return False
        news = passolution.news(data, asked) if data is not None and response.head.status == 200 else None
        if news is None:
            self._said = f"the last question was answered with {response.head.status} and nothing that could be used"
            return False
        self._said = ""
        self.asked += len(asked)
        await self._heed_news(asked, news)
        return True

    async def _heed_news(self, asked: dict[str, Entry], news: passolution.News) -> None:
        self._known_routes.update(asked[each].route for each in news.valid | news.changed)
        gone = 0
        for each in sorted(news.changed | news.unknown):
            entry = asked[each]
            if each in news.unknown:
                self._note_strange(entry.route)
            await self._store.discard(entry)
            self._ids.pop(entry.identifier, None)
            self._dropped(Selector(key=entry.key))
            gone += 1
        if gone:
            self.dropped += gone
            self._observer(EntriesPurged(gone, "changed"))

    def _note_strange(self, route: str) -> None:
        """Leaves a route alone whose ids are never known: they say nothing about changes, and dropping by them would empty the cache."""
        if route in self._known_routes:
            return
        self._strange_routes[route] = self._strange_routes.get(route, 0) + 1
        if self._strange_routes[route] == PATIENCE:
            text = f"the origin knows none of the ids of answers of route {route!r}; the change probe leaves them alone"
            self._observer(Warned("change_probe_blind", text))

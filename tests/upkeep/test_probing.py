"""The change probe: what is asked about, what is dropped, what it costs, and when it keeps quiet."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterable
from typing import Any

import pytest

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.events import EntriesPurged, EntryStored, Lifecycle, StoreFailed, TaskFailed, Warned
from passoproxy.core.http.messages import fields_of
from passoproxy.core.passolution import MOST_IDS, UPDATES
from passoproxy.errors import AuthorizationRequired, EntryStoreFailure, Overloaded
from passoproxy.ports import Request, Response
from passoproxy.upkeep.change_probe import (
    LARGEST_READ,
    PATIENCE,
    PAUSE_SECONDS,
    REQUESTS_A_ROUND,
    ROUND_SECONDS,
    ChangeProbe,
    Watched,
)
from tests.fakes import BROKEN, ChunkedBody, FakeClock, RememberingObserver, ScriptedHop, response, settle
from tests.memory_store import MemoryStore

JSON = (("Content-Type", "application/json"),)


class Store(MemoryStore):
    """`away` fails, `reads` counts."""

    def __init__(self) -> None:
        super().__init__(1 << 26)
        self.away = False
        self.reads = 0

    async def read(self, entry: Entry) -> Any:
        self.reads += 1
        return await super().read(entry)

    async def discard(self, entry: Entry) -> None:
        if self.away:
            raise EntryStoreFailure("/cache: away")
        await super().discard(entry)


class Stand:
    def __init__(self, most: int = 1000) -> None:
        self.clock, self.observer, self.store = FakeClock(), RememberingObserver(), Store()
        self.service = ScriptedHop([self.answer], repeat=True)
        self.changed: set[str] = set()
        self.unknown: set[str] = set()
        self.asked: list[list[str]] = []
        self.forbidden = ""
        self.told: list[Selector] = []
        self.watched = Watched(most)
        self.probing = ChangeProbe(
            self.service,
            self.store,
            self.watched,
            self.clock,
            self.observer,
            forbidden=lambda: self.forbidden,
            partition=lambda: "me",
            plain=plain,
            dropped=self.told.append,
        )

    def answer(self, request: Request) -> Response:
        request.trail.origin_requests += 1
        ids = json.loads(request.body.data)["request_ids"]  # type: ignore[attr-defined]
        self.asked.append(ids)
        said = [
            {"request_id": each, "is_valid": each not in self.unknown, "has_important_changes": each in self.changed}
            for each in ids
        ]
        return response(200, JSON, json.dumps({"requests": said}).encode())

    async def store_one(self, name: str, heard: bool = True, body: bytes | None = None, **changes: Any) -> str:
        """Its id."""
        given: dict[str, Any] = {
            "tags": ("requirements",),
            "route": "content",
            "fields": fields_of(JSON),
            "partition": "me",
        }
        entry = Entry(
            key=name, identifier=f"of {name}", method="GET", target=f"/{name}", status=200, **{**given, **changes}
        )
        writer = await self.store.create(entry)
        identifier = f"id-{name:->8}"
        await writer.write(body if body is not None else json.dumps({"requestid": identifier}).encode())
        await writer.commit()
        if heard:
            self.watched.heed(EntryStored(name, "content", 1))
        return identifier

    async def names(self) -> list[str]:
        return sorted([entry.key async for entry in self.store.entries(Selector())])


async def plain(body: bytes, coding: str) -> bytes | None:
    if coding == "gzip":
        return gzip.decompress(body)
    return None if coding else body


@pytest.fixture
def stand() -> Stand:
    return Stand()


async def test_what_changed_is_dropped_and_the_rest_stays(stand: Stand) -> None:
    one, two, three = [await stand.store_one(name) for name in ("a", "b", "c")]
    stand.changed, stand.unknown = {one}, {three}
    await stand.probing.round()
    assert stand.asked == [[one, two, three]]
    assert await stand.names() == ["b"]
    assert stand.told == [Selector(key="a"), Selector(key="c")]
    assert stand.observer.of(EntriesPurged) == [EntriesPurged(2, "changed")]
    shown = stand.probing.shown()
    assert (shown["state"], shown["requests"], shown["asked_about"], shown["dropped"]) == ("on", 1, 3, 2)
    assert shown["last_at"] == stand.clock.wall()


async def test_the_question_is_background_work_of_the_proxy_s_own(stand: Stand) -> None:
    await stand.store_one("a")
    await stand.probing.round()
    (sent,) = stand.service.seen
    assert (sent.head.method, sent.head.target, sent.background) == ("POST", UPDATES, True)
    assert sent.policy is not None
    assert sent.client.name == "change probe"


async def test_nothing_stored_asks_nothing(stand: Stand) -> None:
    await stand.probing.round()
    assert stand.service.seen == []
    assert stand.probing.shown()["requests"] == 0


async def test_ids_are_read_once(stand: Stand) -> None:
    await stand.store_one("a")
    for _ in range(3):
        await stand.probing.round()
    assert (len(stand.asked), stand.store.reads) == (3, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"tags": ("reference",)},
        {"partition": "somebody else"},
        {"fields": fields_of([("Content-Type", "application/pdf")])},
        {"body": b"{}"},
        {"body": b" " * (LARGEST_READ + 1)},
        {"fields": fields_of([*JSON, ("Content-Encoding", "compress")])},
    ],
)
async def test_what_cannot_be_asked_about_is_not(stand: Stand, changes: Any) -> None:
    await stand.store_one("a", **changes)
    await stand.probing.round()
    assert stand.asked == []


async def test_a_coded_body_is_read(stand: Stand) -> None:
    fields = fields_of([*JSON, ("Content-Encoding", "gzip")])
    await stand.store_one("a", body=gzip.compress(b'{"requestid": "12345678-a"}'), fields=fields)
    await stand.probing.round()
    assert stand.asked == [["12345678-a"]]


async def test_a_body_that_breaks_off_has_no_id(stand: Stand) -> None:
    await stand.store_one("a")

    async def read(entry: Entry) -> ChunkedBody:
        return ChunkedBody(b"{", BROKEN)

    stand.store.read = read  # type: ignore[method-assign]
    await stand.probing.round()
    assert stand.asked == []


async def test_what_others_store_is_looked_for_in_every_round(stand: Stand) -> None:
    one = await stand.store_one("a", heard=False)
    await stand.probing.round()
    two = await stand.store_one("b", heard=False)
    await stand.probing.round()
    assert [sorted(ids) for ids in stand.asked] == [[one], [one, two]]


async def test_no_more_is_looked_for_than_can_be_watched() -> None:
    stand = Stand(most=2)
    for name in "abc":
        await stand.store_one(name, heard=False)
    await stand.store_one("other", heard=False, tags=("reference",))
    await stand.probing.round()
    assert [len(ids) for ids in stand.asked] == [2]
    await stand.store_one("d", heard=False)
    await stand.probing.round()
    assert [len(ids) for ids in stand.asked] == [2, 2]


async def test_batches_and_rounds_are_bounded_and_all_get_their_turn(stand: Stand) -> None:
    names = [f"{number:04}" for number in range(MOST_IDS * REQUESTS_A_ROUND + 50)]
    for name in names:
        await stand.store_one(name)
    await stand.probing.round()
    assert [len(ids) for ids in stand.asked] == [MOST_IDS] * REQUESTS_A_ROUND
    await stand.probing.round()
    assert len(stand.asked) == 2 * REQUESTS_A_ROUND
    assert len({each for ids in stand.asked for each in ids}) == len(names)


async def test_no_more_than_so_many_an_hour(stand: Stand) -> None:
    for number in range(MOST_IDS * REQUESTS_A_ROUND):
        await stand.store_one(str(number))
    for _ in range(13):
        await stand.clock.advance(ROUND_SECONDS)
        await stand.probing.round()
        shown = stand.probing.shown()
        assert shown["requests_last_hour"] <= shown["most_requests_an_hour"]  # type: ignore[operator]
    assert shown["requests_last_hour"] == shown["most_requests_an_hour"] == 24
    assert shown["requests"] == 26


async def test_what_is_gone_is_watched_no_more(stand: Stand) -> None:
    await stand.store_one("a")
    await stand.store.purge(Selector())
    await stand.probing.round()
    assert (len(stand.watched), stand.asked) == (0, [])


def test_the_watch_is_bounded_and_hears_only_of_what_was_stored() -> None:
    watched = Watched(2)
    for key in ("a", "b", "a", "c"):
        watched.heed(EntryStored(key, "r", 1))
    watched.heed(Lifecycle("ready"))
    assert watched.in_turn() == ["b", "c"]
    watched.asked("b")
    watched.asked("gone")
    watched.drop("gone")
    assert watched.in_turn() == ["c", "b"]


@pytest.mark.parametrize("status", [403, 404])
async def test_without_the_right_it_rests_for_an_hour(stand: Stand, status: int) -> None:
    await stand.store_one("a")
    stand.service.script = [response(status), stand.answer]
    await stand.probing.round()
    shown = stand.probing.shown()
    assert shown["state"] == "paused"
    assert f"the origin answered {status}: this account has no right to ask" in str(shown["reason"])
    assert [event.code for event in stand.observer.of(Warned)] == ["change_probe_paused"]  # type: ignore[attr-defined]
    await stand.probing.round()
    assert len(stand.service.seen) == 1
    await stand.clock.advance(PAUSE_SECONDS)
    await stand.probing.round()
    assert len(stand.service.seen) == 2
    assert stand.probing.shown()["state"] == "on"
    assert stand.probing.shown()["reason"] == ""


async def test_where_it_is_switched_off_nothing_is_asked(stand: Stand) -> None:
    await stand.store_one("a")
    stand.forbidden = "switched off"
    await stand.probing.round()
    assert stand.service.seen == []
    assert (stand.probing.shown()["state"], stand.probing.shown()["reason"]) == ("off", "switched off")


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Overloaded("a pause"), "got no answer (a pause)"),
        (AuthorizationRequired("a person"), "got no answer (a person)"),
        (response(200, JSON, ChunkedBody(b"{", BROKEN)), "got no answer (the body broke off)"),
        (response(500), "answered with 500 and nothing that could be used"),
        (response(200, JSON, b"<html>"), "answered with 200 and nothing that could be used"),
        (response(200, JSON, ChunkedBody(*[b" " * 65536] * 20)), "answered with 200 and nothing that could be used"),
    ],
)
async def test_without_an_answer_nothing_is_dropped_and_the_round_ends(stand: Stand, step: Any, text: str) -> None:
    for number in range(MOST_IDS + 1):
        await stand.store_one(str(number))
    stand.service.script = [step]
    stand.service.repeat = False
    await stand.probing.round()
    assert text in str(stand.probing.shown()["reason"])
    assert len(await stand.names()) == MOST_IDS + 1
    assert len(stand.service.seen) == 1
    # a question that was refused unsent counts for nothing
    assert (stand.probing.shown()["requests"], stand.probing.shown()["last_at"]) == (0, None)


async def test_ids_that_are_never_known_do_not_empty_the_cache(stand: Stand) -> None:
    ids = [await stand.store_one(str(number), route="odd") for number in range(PATIENCE)]
    stand.unknown = set(ids)
    await stand.probing.round()
    assert await stand.names() == []
    await stand.store_one("new", route="odd")
    good = await stand.store_one("good", route="content")
    await stand.probing.round()
    assert stand.asked[-1] == [good]
    assert [event.code for event in stand.observer.of(Warned)] == ["change_probe_blind"]  # type: ignore[attr-defined]
    assert await stand.names() == ["good", "new"]


async def test_a_route_whose_ids_are_known_is_believed(stand: Stand) -> None:
    names: Iterable[str] = [str(number) for number in range(PATIENCE + 2)]
    ids = [await stand.store_one(name) for name in names]
    await stand.probing.round()
    stand.unknown = set(ids)
    await stand.probing.round()
    assert await stand.names() == []
    assert stand.observer.of(Warned) == []


async def test_a_store_that_is_away_ends_the_round_and_not_the_probe(stand: Stand) -> None:
    stand.changed = {await stand.store_one("a")}
    stand.store.away = True
    task = asyncio.create_task(stand.probing.run())
    await stand.clock.advance(ROUND_SECONDS)
    await settle()
    assert stand.observer.of(StoreFailed) == [StoreFailed("/cache: away")]
    stand.store.away = False
    await stand.clock.advance(ROUND_SECONDS)
    await settle()
    assert await stand.names() == []
    task.cancel()


async def test_an_unexpected_fault_is_told_and_survived(stand: Stand) -> None:
    await stand.store_one("a")
    stand.service.script = [ZeroDivisionError(), stand.answer]
    task = asyncio.create_task(stand.probing.run())
    await stand.clock.advance(2 * ROUND_SECONDS)
    await settle()
    assert stand.observer.of(TaskFailed) == [TaskFailed("change probe", "ZeroDivisionError")]
    assert len(stand.asked) == 1
    task.cancel()

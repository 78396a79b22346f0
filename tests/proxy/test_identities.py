"""Someone else logs in while a request is on its way: what is stored, served and freshened is that identity's, or nobody's (contract §7)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.http.syntax import print_date
from passoproxy.errors import OriginUnreachable
from passoproxy.ports import Hop, Request, Response
from passoproxy.proxy.cache import Cache
from tests.caching_stand import ROUTE, Stand
from tests.fakes import ChunkedBody, response

FRESH = ("Cache-Control", "max-age=10")
ETAG = ("ETag", '"v1"')
VALIDATED = replace(ROUTE, override=False, ttl=None)


class Origin:
    """Answers each identity with its name, under one tag; `logs_in` changes who is logged in before the question goes out."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.logs_in: list[str] = []
        self.fails = False
        self.seen: list[Request] = []
        self.fields: Iterable[tuple[str, str]] = (FRESH, ETAG)

    async def send(self, request: Request) -> Response:
        await self.stand.door.opened.wait()
        if self.logs_in:
            self.stand.partition = self.logs_in.pop(0)
        request.trail.authorized_as = who = self.stand.partition
        self.seen.append(request)
        if self.fails:
            raise OriginUnreachable("away")
        fields = [("Date", print_date(self.stand.clock.wall())), *self.fields]
        if request.head.fields.get("If-None-Match") == '"v1"':
            return response(304, fields)
        return response(200, fields, ChunkedBody(who.encode()))


@pytest.fixture
def stand() -> Stand:
    return Stand(policy=VALIDATED)


@pytest.fixture
def origin(stand: Stand) -> Origin:
    made = Origin(stand)
    replaced: Hop = made
    stand.cache = Cache(
        replaced,
        stand.store,
        stand.clock,
        stand.cache.mode,
        partition=lambda: stand.partition,
        collapser=stand.collapser,
    )
    return made


async def stored(stand: Stand) -> list[tuple[str, bytes]]:
    """Whose each stored answer is, and whom it names."""
    found: list[Entry] = [entry async for entry in stand.store.entries(Selector())]
    named = []
    for entry in found:
        body = await stand.store.read(entry)
        assert body is not None
        named.append((entry.partition, b"".join([part async for part in body])))
    return named


async def test_what_another_was_told_is_not_stored(stand: Stand, origin: Origin) -> None:
    origin.logs_in = ["you"]
    answer = await stand.ask()
    assert answer.body == b"you"  # the pair that is there answers, as for whatever is not stored
    assert "stored" not in answer.cache
    assert await stored(stand) == []
    assert (await stand.ask()).body == b"you"
    assert await stored(stand) == [("you", b"you")]


async def test_a_304_to_another_freshens_nothing(stand: Stand, origin: Origin) -> None:
    await stand.ask()
    await stand.clock.advance(11)
    origin.logs_in = ["you"]
    answer = await stand.ask()
    assert answer.body == b"you"
    assert [seen.head.fields.get("If-None-Match") for seen in origin.seen] == [None, '"v1"', None]
    stand.partition = "me"
    assert "fwd=stale" in (await stand.ask()).cache


async def test_one_who_logs_in_between_question_and_second_question_is_told_from_the_first(
    stand: Stand, origin: Origin
) -> None:
    await stand.ask()
    await stand.clock.advance(11)
    origin.logs_in = ["you", "me"]  # back again, for the second one
    answer = await stand.ask()
    assert answer.body == b"me"
    assert await stored(stand) == [("me", b"me")]


async def test_nothing_stale_of_the_one_before_falls_in(stand: Stand, origin: Origin) -> None:
    await stand.ask()
    await stand.clock.advance(11)
    origin.fails = True
    assert "STALE_ERROR" in (await stand.ask()).cache
    origin.logs_in = ["you"]
    with pytest.raises(OriginUnreachable):
        await stand.ask()


async def test_those_who_waited_ask_for_themselves(stand: Stand, origin: Origin) -> None:
    stand.door.opened.clear()
    origin.logs_in = ["you"]
    asking = [stand.begin() for _ in range(3)]
    await stand.quiet()
    stand.door.opened.set()
    assert [(await each).body for each in asking] == [b"you"] * 3
    assert {who for who, _ in await stored(stand)} == {"you"}


async def test_a_part_of_anothers_is_not_joined_to_ones_own(stand: Stand, origin: Origin) -> None:
    origin.fields = (FRESH, ETAG, ("Content-Type", "text/plain"))
    part = [("Range", "bytes=0-0"), ("If-Range", '"v1"')]
    await stand.ask(fields=part)
    origin.logs_in = ["you"]
    await stand.ask("/y", fields=part)
    assert {who for who, _ in await stored(stand)} == {"me"}


async def test_a_write_invalidates_what_belongs_to_the_one_who_wrote(stand: Stand, origin: Origin) -> None:
    await stand.ask()
    assert "; hit" in (await stand.ask()).cache
    write = stand.begin(method="PUT", body=b"x")
    await stand.quiet()
    await write
    assert await stored(stand) == []
    await stand.ask()

    class LogsInAfterwards:
        async def send(self, request: Request) -> Response:
            answer = await origin.send(request)
            stand.partition = "you"
            return answer

    stand.cache = Cache(
        LogsInAfterwards(), stand.store, stand.clock, stand.cache.mode, partition=lambda: stand.partition
    )
    await stand.ask(method="PUT", body=b"x")
    assert await stored(stand) == []


async def test_the_background_renews_nothing_with_anothers_answer(stand: Stand, origin: Origin) -> None:
    stand.policy = replace(VALIDATED, stale_while_revalidate=60.0)
    origin.fields = (FRESH,)
    await stand.ask()
    await stand.clock.advance(11)
    origin.logs_in = ["you"]
    assert (await stand.ask()).body == b"me"
    await stand.quiet()
    assert await stored(stand) == [("me", b"me")]

"""Slow and vanished clients before a whole daemon: a place at the origin is held while the origin works, and never for a client (contract §5)."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path

import pytest

from passoproxy.stores import spill
from tests.outbound.wire import Line, until
from tests.server.scene import LARGE, MIB, PLACES, Scene, answer, answering_by_path, get, post, scene, whole


async def test_slow_uploads_hold_no_place(tmp_path: Path) -> None:
    async with scene(tmp_path, answering_by_path()) as it:
        uploads = [await it.sends(post(f"/up/{number}", 100) + b"x" * 10) for number in range(PLACES)]
        assert (await it.ask("/a")).body == b"small"
        assert it.heard("POST") == []
        for client in uploads:
            await client.send(b"y" * 90)
        assert [(await whole(client)).body for client in uploads] == [b"small"] * PLACES
        assert all(each.endswith(b"x" * 10 + b"y" * 90) for each in it.heard("POST"))


async def test_slow_readers_hold_no_place(tmp_path: Path) -> None:
    async with scene(tmp_path, answering_by_path(large=answer(LARGE))) as it:
        readers = [await it.sends(get("/large")) for _ in range(PLACES)]
        await until(lambda: len(it.heard("GET /large")) == PLACES)
        assert (await it.ask("/a")).body == b"small"
        await until(lambda: it.under_way == 0)
        assert it.spilled == PLACES
        assert [(await whole(client)).body == LARGE for client in readers] == [True] * PLACES
        await until(lambda: it.spilled == 0)
        assert len(it.heard("GET /large")) == PLACES


async def test_a_large_upload_is_gathered_on_disk(tmp_path: Path) -> None:
    async with scene(tmp_path, answering_by_path()) as it:
        uploads = [await it.sends(post("/up", len(LARGE)) + LARGE[:-1]) for _ in range(PLACES)]
        await until(lambda: it.spilled == PLACES)
        assert (await it.ask("/a")).body == b"small"
        assert it.heard("POST") == []
        for client in uploads:
            await client.send(LARGE[-1:])
        assert [(await whole(client)).body for client in uploads] == [b"small"] * PLACES
        assert [each.endswith(LARGE) for each in it.heard("POST")] == [True] * PLACES
        await until(lambda: it.spilled == 0)


async def test_an_upload_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path, answering_by_path()) as it:
        client = await it.sends(post("/up", len(LARGE)) + LARGE[: 2 * MIB])
        await until(lambda: it.spilled == 1)
        client.leave()
        await until(lambda: it.spilled == 0)
        assert (await it.ask("/a")).body == b"small"
        assert it.heard("POST") == []


async def test_a_slow_reader_of_a_miss_keeps_nobody_from_its_url(tmp_path: Path) -> None:
    said = 0

    async def play(line: Line) -> None:
        nonlocal said
        while True:
            if not (await line.request()).startswith(b"GET /large"):
                await line.say(answer(b"small"))
                continue
            fresh = answer(LARGE, "Cache-Control: max-age=60", 'ETag: "v1"')
            for at in range(0, len(fresh), MIB):
                await line.say(fresh[at : at + MIB])
                said += MIB

    async with scene(tmp_path, play) as it:
        slow = [await it.sends(get("/large")) for _ in range(PLACES)]
        await until(lambda: said > 8 * MIB)
        assert (await it.ask("/large")).body == LARGE
        assert (await it.ask("/a")).body == b"small"
        assert [(await whole(client)).body == LARGE for client in slow] == [True] * PLACES
        assert len(it.heard("GET /large")) == 1


async def test_a_full_disk_makes_slow_clients_wait_and_breaks_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill, "LEFT_FREE", 1 << 60)
    async with scene(tmp_path, answering_by_path(large=answer(LARGE)), {"queue_timeout": "60s"}) as it:
        uploads = [await it.sends(post(f"/up/{number}", 2 * MIB) + LARGE[: 2 * MIB - 1]) for number in range(PLACES)]
        await until(lambda: it.under_way == 1)  # what could not be gathered goes alone
        assert (await it.ask("/a")).body == b"small"
        assert it.under_way == 1
        for client in uploads:
            await client.send(LARGE[2 * MIB - 1 : 2 * MIB])
        assert [(await whole(client)).body for client in uploads] == [b"small"] * PLACES
        assert [each.endswith(LARGE[: 2 * MIB]) for each in it.heard("POST")] == [True] * PLACES
        readers = [await it.sends(get("/large")) for _ in range(PLACES)]
        await until(lambda: len(it.heard("GET /large")) == PLACES)
        assert [(await whole(client)).body == LARGE for client in readers] == [True] * PLACES
        await until(lambda: it.spilled == 0)


class Slow:
    """An origin that answers `/slow` once it is told to."""

    def __init__(self) -> None:
        self.told = asyncio.Event()

    async def play(self, line: Line) -> None:
        while True:
            raw = await line.request()
            if b" /slow" in raw:
                await self.told.wait()
            await line.say(answer(b"small"))


async def test_who_leaves_before_anything_was_sent_is_forgotten_at_once(tmp_path: Path) -> None:
    slow = Slow()
    async with scene(tmp_path, slow.play, {"max_concurrency": 1, "queue_timeout": "60s"}) as it:
        first = await it.sends(get("/slow"))
        await until(lambda: it.under_way == 1)
        for number in range(3):
            waiting = await it.sends(get(f"/b/{number}"))
            await until(lambda: it.it.wired.pipeline.limiter.snapshot().waiting == 1)
            waiting.leave()
            await until(lambda: it.it.wired.pipeline.limiter.snapshot().waiting == 0)
        slow.told.set()
        assert (await whole(first)).body == b"small"
        assert (await it.ask("/c")).body == b"small"
        assert it.heard("GET /b") == []


async def test_who_leaves_later_holds_the_place_until_the_origin_is_done(tmp_path: Path) -> None:
    slow = Slow()
    async with scene(tmp_path, slow.play, {"max_concurrency": 1, "queue_timeout": "60s"}) as it:
        gone = await it.sends(post("/slow", 1) + b"x")
        await until(lambda: len(it.heard("POST /slow")) == 1)
        gone.leave()
        after = await it.sends(get("/after"))
        await until(lambda: it.it.wired.pipeline.limiter.snapshot().waiting == 1)
        assert it.heard("GET /after") == []
        slow.told.set()
        assert (await whole(after)).body == b"small"
        assert it.origin.accepted <= 2


async def test_an_origin_that_never_ends_loses_a_client_that_left_after_read_timeout(tmp_path: Path) -> None:
    async def drip(line: Line) -> None:
        await line.request()
        await line.say(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n\r\n")
        while True:
            await line.say(b".")
            await asyncio.sleep(0.02)

    async with scene(tmp_path, drip, {"max_concurrency": 1, "queue_timeout": "60s", "read_timeout": "500ms"}) as it:
        gone = await it.sends(get("/events"))
        await gone.reader.readuntil(b"\r\n\r\n")
        gone.leave()
        await until(lambda: it.under_way == 0)


async def test_the_start_of_a_request_that_will_not_end_holds_no_place(tmp_path: Path) -> None:
    slow = Slow()
    async with scene(tmp_path, slow.play) as it:
        for _ in range(PLACES):
            client = await it.sends(get("/slow") + post("/never", 100) + b"x" * 10)
            client.writer.write_eof()
        await until(lambda: len(it.heard("GET /slow")) == 1)
        slow.told.set()
        first = await whole(it.clients[0])
        assert (first.status, first.body) == (200, b"small")
        assert (await it.ask("/a")).body == b"small"
        refused = [await whole(client) for client in it.clients[:1]]
        assert [each.status for each in refused] == [400]
        assert it.heard("POST") == []


async def test_whatever_clients_and_origin_do_nothing_is_left(tmp_path: Path) -> None:
    chance = random.Random(7)
    bodies = [b"small", LARGE[: 2 * MIB], LARGE[: 5 * MIB]]
    over = list[bool]()

    async def play(line: Line) -> None:
        while True:
            await line.request()
            await asyncio.sleep(chance.choice((0, 0, 0.01, 0.05)))
            field = chance.choice(("Cache-Control: no-store", "Cache-Control: max-age=60"))
            said = answer(chance.choice(bodies), field)
            match 4 if over else chance.randrange(5):
                case 0:
                    await line.say(said[: chance.randrange(len(said))])
                    return
                case 1:
                    for at in range(0, len(said), MIB):
                        await line.say(said[at : at + MIB])
                        await asyncio.sleep(0.01)
                case _:
                    await line.say(said)

    async def behave(it: Scene, number: int) -> None:
        client = await it.connect()
        length = chance.choice((10, 100_000, 2 * MIB))
        raw = get(f"/{number % 7}") if chance.random() < 0.6 else post(f"/{number}", length) + LARGE[:length]
        raw = raw.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
        sent = raw[: chance.randrange(len(raw))] if chance.random() < 0.3 else raw
        with contextlib.suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(chance.choice((0.01, 0.1, 20))):
                await client.send(sent)
                if sent == raw and chance.random() < 0.8:
                    await client.reader.read(chance.choice((1, 100_000)))
                    if chance.random() < 0.7:
                        await client.rest()
        client.leave()

    async with scene(tmp_path, play, {"queue_timeout": "1s", "read_timeout": "1s"}) as it:
        for _ in range(2):
            await asyncio.gather(*(behave(it, number) for number in range(60)))
        pipeline = it.it.wired.pipeline
        await until(lambda: len(pipeline.cache.collapser) == 0)
        await until(lambda: it.spilled == 0)
        assert (pipeline.limiter.use, pipeline.access._spools.readers, pipeline.access._spools.spill.used_bytes) == (
            (0, 0),
            0,
            0,
        )
        over.append(True)
        assert (await it.ask("/last")).status == 200

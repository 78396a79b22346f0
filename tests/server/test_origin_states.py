"""What clients get while the origin is away, or has asked for a pause, from a whole daemon before an origin of a test's own (contract §5)."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.outbound.wire import Line, until
from tests.server.raw import Answer
from tests.server.scene import Scene, answer, get, post, scene, whole

STORED = ("Cache-Control: max-age=0, stale-if-error=3600", 'ETag: "v1"')
UPSTREAM = {"queue_timeout": "5s", "read_timeout": "60s"}
ROUTE = {"name": "reads", "match": "/read", "methods": ["GET", "POST"], "ttl": "1s", "stale_if_error": "1h"}


@dataclass
class Moody:
    """An origin whose `mood` tells what it does with a request: answer `well`, `reset`, say `garbage`, stay `silent`, or answer with a status.

    `moods` are those of single paths. `most` is how many requests were under way at once.
    """

    mood: str = "well"
    moods: dict[str, str] = field(default_factory=dict)
    fields: tuple[str, ...] = ("Cache-Control: no-store",)
    pause: str = "2"
    heard: list[str] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def be(self, mood: str) -> None:
        """Changes the mood, and lets go of those that were met with silence."""
        self.mood, before, self.changed = mood, self.changed, asyncio.Event()
        before.set()

    async def play(self, line: Line) -> None:
        while True:
            method, target, _ = (await line.request()).split(b" ", 2)
            self.heard.append(f"{method.decode()} {target.decode()}")
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            try:
                await self._answer(line, target.partition(b"?")[0].decode())
            finally:
                self.under_way -= 1

    async def _answer(self, line: Line, path: str) -> None:
        mood = self.moods.get(path, self.mood)
        if mood == "reset":
            line.reset()
            raise ConnectionError
        if mood == "garbage":
            await line.say(b"SSH-2.0-OpenSSH\r\n\r\n")
            raise ConnectionError
        if mood == "silent":
            await self.changed.wait()
            raise ConnectionError
        if mood == "well":
            await asyncio.sleep(0.01)  # so that those who are under way at once are seen
            await line.say(answer(b"well", *(STORED if path.startswith("/stored") or path == "/read" else self.fields)))
            return
        retry = f"Retry-After: {self.pause}\r\n" if mood == "429" else ""
        await line.say(f"HTTP/1.1 {mood} No\r\n{retry}Content-Length: 0\r\n\r\n".encode())

    def count(self, start: str) -> int:
        return sum(each.startswith(start) for each in self.heard)


def state(it: Scene) -> tuple[str, str, str]:
    """The daemon's state, the origin's, and why."""
    status: Any = it.it.wired.control.status()
    return status["state"], status["origin"]["state"], status["reason"]


async def asked(it: Scene, *targets: str) -> list[Answer]:
    """Answers to GETs that were sent at once."""
    clients = [await it.sends(get(target)) for target in targets]
    return [await whole(client) for client in clients]


async def taken_for_away(it: Scene, origin: Moody, mood: str = "reset") -> None:
    """Two paths in a row without a head."""
    origin.be(mood)
    for path in ("/one", "/two"):
        assert (await it.ask(path)).status in (502, 504)
    assert state(it)[:2] == ("degraded", "away")


async def test_stored_answers_serve_at_once_and_the_origin_is_asked_again_meanwhile(tmp_path: Path) -> None:
    origin = Moody()
    async with scene(tmp_path, origin.play, UPSTREAM) as it:
        assert (await it.ask("/stored")).status == 200
        await taken_for_away(it, origin)
        origin.be("silent")
        origin.heard.clear()
        await serving_stale(it, lambda: bool(origin.heard))
        for _ in range(20):
            assert "STALE_ERROR" in (await it.ask("/stored"))["Cache-Status"]
        assert origin.heard == ["GET /stored"], "one asks, and nobody waits for it"
        origin.be("garbage")
        origin.heard.clear()
        began = time.monotonic()
        await serving_stale(it, lambda: len(origin.heard) >= 2)
        assert len(origin.heard) <= time.monotonic() - began + 1
        origin.be("well")
        async with asyncio.timeout(20):
            while "STALE_ERROR" in (await it.ask("/stored"))["Cache-Status"]:
                await asyncio.sleep(0.02)
        assert state(it)[1] == "answering"


async def serving_stale(it: Scene, enough: Callable[[], bool]) -> None:
    """A client asks again and again, and each time is served at once."""
    async with asyncio.timeout(20):
        while not enough():
            served = (await it.ask("/stored"))["Cache-Status"]
            assert served.startswith("passoproxy; hit; ttl=")
            assert served.endswith("; detail=STALE_ERROR")
            await asyncio.sleep(0.02)


async def test_an_origin_that_says_nothing_costs_the_first_ones_their_time_and_nobody_else(tmp_path: Path) -> None:
    origin = Moody()
    async with scene(tmp_path, origin.play, {**UPSTREAM, "read_timeout": "1s"}) as it:
        assert (await it.ask("/stored")).status == 200
        origin.be("silent")
        assert [each.status for each in await asked(it, "/one", "/two")] == [504, 504]
        origin.heard.clear()
        assert "STALE_ERROR" in (await it.ask("/stored"))["Cache-Status"]
        assert state(it)[:2] == ("degraded", "away")


async def test_those_with_nothing_stored_wait_for_the_one_that_asks_and_share_what_it_gets(tmp_path: Path) -> None:
    origin = Moody()
    async with scene(tmp_path, origin.play, UPSTREAM) as it:
        await taken_for_away(it, origin)
        origin.heard.clear()
        missed = await asked(it, *(f"/m/{number}" for number in range(8)))
        assert Counter((each.status, each["Proxy-Status"]) for each in missed) == {
            (502, "passoproxy; error=destination_unavailable"): 8
        }
        assert len(origin.heard) == 1
        origin.be("well")
        origin.heard.clear()
        found = await asked(it, *(f"/m/{number}" for number in range(8)))
        assert [each.status for each in found] == [200] * 8


async def test_three_failed_connections_in_a_row(tmp_path: Path) -> None:
    origin = Moody()
    async with scene(tmp_path, origin.play, UPSTREAM) as it:
        it.it.wired.pipeline.pool._dialer.endpoint = it.it.wired.pipeline.pool._dialer.endpoint.__class__(
            "http", "127.0.0.1", 9
        )
        statuses = [(await it.ask(f"/{number}")).status for number in range(3)]
        assert statuses == [502] * 3
        assert state(it)[:2] == ("degraded", "away")

        def failures() -> int:
            summary: Any = it.it.wired.telemetry.recent.summary()
            return sum(each["count"] for each in summary["recent_errors"] if "no answer" in each["what"])

        before = failures()
        assert [each.status for each in await asked(it, *(f"/m/{number}" for number in range(8)))] == [502] * 8
        assert failures() == before + 1


async def test_one_path_without_answers_is_away_alone(tmp_path: Path) -> None:
    origin = Moody(moods={"/broken": "garbage"})
    async with scene(tmp_path, origin.play, UPSTREAM) as it:
        for _ in range(3):
            assert [each.status for each in [await it.ask("/broken"), await it.ask("/good")]] == [502, 200]
        origin.heard.clear()
        answers = await asked(it, *["/broken?a", "/broken?b", "/good?a", "/broken?c", "/good?b"])
        assert [each.status for each in answers] == [502, 502, 200, 502, 200]
        assert origin.count("GET /broken") == 1
        assert state(it)[1] in ("answering", "failing")


async def test_head_and_posts_that_read_are_served_and_ask_and_others_wait(tmp_path: Path) -> None:
    origin = Moody()
    async with scene(tmp_path, origin.play, UPSTREAM, routes=[ROUTE]) as it:
        read = post("/read", 2) + b"{}"
        read = read.replace(b"Host:", b"Content-Type: application/json\r\nHost:")
        assert (await whole(await it.sends(read))).status == 200
        assert (await it.ask("/stored")).status == 200
        await asyncio.sleep(1.1)  # the route's ttl
        await taken_for_away(it, origin)
        origin.heard.clear()
        stale = [await whole(await it.sends(read)), await it.ask("/stored")]
        assert ["STALE_ERROR" in each["Cache-Status"] for each in stale] == [True, True]
        head = await it.sends(get("/stored").replace(b"GET", b"HEAD"))
        assert b"STALE_ERROR" in await head.reader.readuntil(b"\r\n\r\n")
        changing = await it.sends(post("/change", 0))
        assert (await whole(changing)).status == 502
        assert origin.count("POST /change") <= 1
        explained = await it.it.wired.control.explain({"url": "/stored"})
        assert any("the origin is away" in each for each in explained["reasons"])  # type: ignore[union-attr]


async def test_during_a_pause_nothing_reaches_the_origin_and_then_one_at_a_time(tmp_path: Path) -> None:
    origin = Moody()
    async with scene(tmp_path, origin.play, UPSTREAM) as it:
        assert (await it.ask("/stored")).status == 200
        origin.be("429")
        assert (await it.ask("/first")).status == 429
        origin.be("well")
        origin.heard.clear()
        origin.most = 0
        clients = [await it.sends(get(f"/m/{number}")) for number in range(20)]
        clients.append(await it.sends(post("/change", 0)))
        await until(lambda: it.it.wired.pipeline.limiter.snapshot().waiting == 21)
        assert state(it)[:2] == ("degraded", "cooling_down")
        assert "STALE_ERROR" in (await it.ask("/stored"))["Cache-Status"]
        assert origin.heard == []
        await until(lambda: len(origin.heard) >= 1)
        assert [each.status for each in [await whole(client) for client in clients]] == [200] * 21
        assert len(origin.heard) == 21
        assert state(it) == ("ready", "answering", "")


async def test_after_a_pause_one_goes_at_a_time_until_one_has_succeeded(tmp_path: Path) -> None:
    origin = Moody(pause="1")
    async with scene(tmp_path, origin.play, UPSTREAM) as it:
        origin.be("429")
        assert (await it.ask("/first")).status == 429
        origin.be("503")
        origin.most, origin.heard = 0, []
        clients = [await it.sends(get(f"/m/{number}")) for number in range(10)]
        assert [each.status for each in [await whole(client) for client in clients]] == [503] * 10
        assert (origin.most, len(origin.heard)) == (1, 10)


async def test_a_pause_that_is_longer_than_may_be_waited_is_told_at_once(tmp_path: Path) -> None:
    origin = Moody(pause="100")
    async with scene(tmp_path, origin.play, UPSTREAM) as it:
        origin.be("429")
        assert (await it.ask("/first")).status == 429
        origin.heard.clear()
        refused = await it.ask("/second")
        assert (refused.status, refused["Content-Type"]) == (429, "application/problem+json")
        assert 90 <= int(refused["Retry-After"]) <= 100
        assert b'"cooling_down"' in refused.body
        assert refused["Cache-Status"] == "passoproxy; fwd=bypass; detail=cooling_down"
        changing = await whole(await it.sends(post("/change", 0)))
        assert (changing.status, origin.heard) == (429, [])


async def test_little_left_of_a_quota_stops_background_work(tmp_path: Path) -> None:
    origin = Moody(
        fields=(
            "Cache-Control: no-store",
            "X-RateLimit-Limit: 100",
            "X-RateLimit-Remaining: 9",
            "X-RateLimit-Reset: 60",
        )
    )
    async with scene(tmp_path, origin.play, UPSTREAM) as it:
        assert (await it.ask("/a"))["X-RateLimit-Remaining"] == "9"
        shown: Any = it.it.wired.control.status()["origin"]
        assert (shown["state"], shown["cool_down_until"]) == ("answering", None)
        assert 0 < shown["background_rests_until"] - time.time() <= 61
        assert (await it.ask("/b")).status == 200


async def test_it_fails_where_most_of_the_last_minutes_answers_were_faults(tmp_path: Path) -> None:
    origin = Moody()
    async with scene(tmp_path, origin.play, UPSTREAM) as it:
        origin.be("503")
        for number in range(9):
            await it.ask(f"/{number}")
        assert state(it)[:2] == ("ready", "answering")
        await it.ask("/9")
        origin.be("404")
        await it.ask("/10")
        assert state(it) == ("degraded", "failing", "the origin fails: answered 503")
        origin.be("well")
        for number in range(10):
            await it.ask(f"/w/{number}")
        assert state(it) == ("ready", "answering", "")


@pytest.mark.slow
async def test_workers_share_what_is_known_of_the_origin(tmp_path: Path) -> None:
    origin = Moody()
    server = {"listen": "127.0.0.1:0", "workers": 2}
    async with scene(tmp_path, origin.play, {**UPSTREAM, "queue_timeout": "10s"}, server=server) as it:
        await taken_for_away(it, origin, "garbage")
        origin.heard.clear()
        missed = await asked(it, *(f"/m/{number}" for number in range(12)))
        assert [each.status for each in missed] == [502] * 12
        assert len(origin.heard) <= 2
        origin.be("429")
        assert (await it.ask("/first")).status == 429
        origin.be("503")
        origin.most, origin.heard = 0, []
        clients = [await it.sends(get(f"/p/{number}")) for number in range(12)]
        await until(lambda: bool(origin.heard))
        assert [each.status for each in [await whole(client) for client in clients]] == [503] * 12
        assert (origin.most, len(origin.heard)) == (1, 12)
        origin.be("well")
        assert {each.status for each in await asked(it, *(f"/w/{number}" for number in range(12)))} == {200}
        assert origin.most > 1

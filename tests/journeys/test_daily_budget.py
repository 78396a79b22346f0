"""`upstream.daily_budget` as its user meets it: background work stops, clients' requests do not; it lasts over a restart and changes live."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.scripted_origin import Asked, Says, Scene, before, origin

STALE = ("Cache-Control", "max-age=0, stale-while-revalidate=600")


def says(asked: Asked) -> Says:
    return Says(200, [STALE], b"x")


def budget(it: Scene) -> dict[str, Any]:
    return it.daemon.wired.control.status()["origin"]["daily_budget"]  # type: ignore[index, no-any-return]


async def used(it: Scene, count: int) -> None:
    async with asyncio.timeout(20):
        while budget(it)["used"] != count:
            await asyncio.sleep(0.01)


async def test_background_work_stops_and_clients_go_on(tmp_path: Path) -> None:
    async with origin(says) as behind:
        async with before(behind, tmp_path / "a", upstream={"daily_budget": 2}) as it:
            await it.ask("/a")
            assert "; hit" in (await it.ask("/a")).cache  # renewed behind it
            await used(it, 2)
            warned = it.daemon.wired.control.status()["warnings"]
            assert [each["code"] for each in warned] == ["daily_budget"]  # type: ignore[attr-defined]
            assert "; hit" in (await it.ask("/a")).cache
            assert (await it.ask("/b")).status == 200
            await used(it, 3)
            assert budget(it)["rests_until"] > it.daemon.wired.clock.wall()
            text, _ = await it.daemon.wired.exposition("")
            assert b"passoproxy_daily_budget_used 3.0" in text
        assert len(behind.of("/a")) == 2
        kept = json.loads((tmp_path / "a" / "state" / "origin_requests.json").read_text())
        assert sum(kept["requests"].values()) == 3
        async with before(behind, tmp_path / "a", upstream={"daily_budget": 2}) as it:
            await used(it, 3)
            it.daemon.place.write(upstream={"daily_budget": 9}, **static())
            await it.daemon.wired.control.reload()
            assert "; hit" in (await it.ask("/a")).cache
            await used(it, 4)
            assert (budget(it)["limit"], budget(it)["rests_until"]) == (9, None)
            it.daemon.place.write(**static())
            await it.daemon.wired.control.reload()
            assert budget(it) is None


def static() -> dict[str, Any]:
    oauth = {"grant": "static", "static_token": "a-static-token"}
    return {"provider": "custom", "oauth": oauth, "cache": {"mode": "http"}}


@pytest.mark.timeout(120)
async def test_what_workers_send_counts_and_they_hear_of_the_end(tmp_path: Path) -> None:
    server = {"listen": "127.0.0.1:0", "workers": 2}
    async with (
        origin(says) as behind,
        before(behind, tmp_path / "a", upstream={"daily_budget": 3}, server=server) as it,
    ):
        for number in range(3):
            await it.ask(f"/{number}")
        await used(it, 3)
        async with asyncio.timeout(20):
            # Until its workers have heard, each hit may still be renewed behind it.
            while True:
                before_it = len(behind.asked)
                assert "; hit" in (await it.ask("/0")).cache
                await asyncio.sleep(0.2)
                if len(behind.asked) == before_it:
                    break

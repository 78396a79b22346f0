"""The cache operated, of a whole daemon before the sandbox: probing, filling, soft purges, explanations."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

from passoproxy.core.passolution import UPDATES
from passoproxy.upkeep.change_probe import ChangeProbe
from tests.whole import CONTENT, Place, Running, running, sandboxed

TURKEY = CONTENT.replace("ZA", "TR")


async def got(it: Running, target: str) -> tuple[int, str, bytes]:
    async with (
        aiohttp.ClientSession(trust_env=False, auto_decompress=False) as session,
        session.get(it.proxy + target, headers={"Accept-Encoding": "identity"}) as answer,
    ):
        return answer.status, answer.headers["Cache-Status"], await answer.read()


async def told(url: str, document: Any) -> None:
    async with aiohttp.ClientSession(trust_env=False) as session, session.post(url, json=document) as answer:
        assert answer.status == 200, await answer.text()


async def journal(place: Place, path: str) -> list[Any]:
    async with (
        aiohttp.ClientSession(trust_env=False) as session,
        session.get(f"{place.origin}/__sandbox/journal") as answer,
    ):
        return [each for each in json.loads(await answer.read())["requests"] if each["path"].startswith(path)]


def probing(it: Running) -> ChangeProbe:
    found = it.wired.probing
    assert found is not None
    return found


async def test_what_changed_at_the_service_is_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as place, running(place, authorised=True) as it:
        await got(it, CONTENT), await got(it, TURKEY)
        await probing(it).round()
        assert (await it.wired.control.cache_stats())["entries"] == 2
        await told(f"{place.origin}/__sandbox/changes", {"countries": ["TR"], "important": False})
        await probing(it).round()
        assert "hit" in (await got(it, TURKEY))[1]
        await told(f"{place.origin}/__sandbox/changes", {"countries": ["TR"], "important": True})
        await probing(it).round()
        assert "fwd=uri-miss" in (await got(it, TURKEY))[1]
        assert "hit" in (await got(it, CONTENT))[1]
        shown = it.wired.control.status()["cache"]["change_probe"]  # type: ignore[index]
        assert (shown["state"], shown["requests"], shown["dropped"]) == ("on", 3, 1)
        assert len(await journal(place, UPDATES)) == 3


async def test_after_a_restart_what_is_stored_is_asked_about_too(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as place:
        async with running(place, authorised=True) as it:
            await got(it, CONTENT)
        await told(f"{place.origin}/__sandbox/changes", {"countries": ["ZA"]})
        async with running(place) as it:
            await probing(it).round()
            assert probing(it).dropped == 1


async def test_of_those_who_share_a_pair_one_asks_about_what_all_have_stored(tmp_path: Path) -> None:
    async with (
        sandboxed(tmp_path) as place,
        running(place, authorised=True) as owner,
        running(Place(tmp_path, place.origin)) as follower,
    ):
        assert follower.wired.keeper.snapshot().role == "following"
        assert (await got(follower, TURKEY))[0] == 200
        await follower.wired.store.settled()
        await probing(follower).round()
        assert "another process" in str(probing(follower).shown()["reason"])
        assert await journal(place, UPDATES) == []
        await probing(owner).round()
        assert len(await journal(place, UPDATES)) == 1
        assert probing(owner).shown()["asked_about"] == 1


async def test_a_purge_is_in_force_in_whoever_shares_the_folder(tmp_path: Path) -> None:
    async with (
        sandboxed(tmp_path) as place,
        running(place, authorised=True) as mine,
        running(Place(tmp_path, place.origin)) as other,
    ):
        await got(mine, CONTENT)
        await mine.wired.store.settled()
        for soft, seen in ((True, "STALE_REVALIDATING"), (False, "uri-miss")) * 2:
            assert "; hit" in (await got(other, CONTENT))[1]
            assert await mine.wired.control.purge({"url": CONTENT, "soft": soft}) == 1
            assert seen in (await got(other, CONTENT))[1]
            while len(other.wired.pipeline.cache.collapser):
                await asyncio.sleep(0.01)
            await other.wired.store.settled()


async def test_a_purge_of_a_url_ends_what_was_stored_under_another_spelling_of_it(tmp_path: Path) -> None:
    path, _, query = CONTENT.partition("?")
    other = f"{path}?{'&'.join(reversed(query.split('&')))}"
    assert other != CONTENT
    async with sandboxed(tmp_path) as place, running(place, authorised=True) as it:
        await got(it, other)
        assert "; hit" in (await got(it, CONTENT))[1]
        shown = await it.wired.control.show(CONTENT, "GET", None)
        assert shown is not None
        assert shown["url"] == other
        assert await it.wired.control.purge({"url": CONTENT}) == 1
        assert "uri-miss" in (await got(it, CONTENT))[1]


async def test_a_route_of_one_s_own_switches_it_off(tmp_path: Path) -> None:
    routes = [{"name": "no-probe", "match": UPDATES}]
    async with sandboxed(tmp_path) as place, running(place, authorised=True, routes=routes) as it:
        await got(it, CONTENT)
        await probing(it).round()
        assert await journal(place, UPDATES) == []
        assert "under route 'no-probe'" in str(probing(it).shown()["reason"])


async def test_a_denied_path_is_not_asked_by_the_proxy_either(tmp_path: Path) -> None:
    upstream = {"deny_paths": ["/api/v2/information/**"]}
    async with sandboxed(tmp_path) as place, running(place, authorised=True, upstream=upstream) as it:
        await got(it, CONTENT)
        await probing(it).round()
        assert await journal(place, UPDATES) == []
        assert probing(it).shown()["state"] == "off"


async def test_offline_asks_nothing(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as place, running(place, cache={"offline": True}) as it:
        assert probing(it).shown()["reason"] == "cache.offline"


async def test_without_the_preset_there_is_no_probe(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as place, running(place, authorised=True, provider="custom") as it:
        assert it.wired.probing is None
        assert "change_probe" not in it.wired.control.status()["cache"]  # type: ignore[operator]


async def test_filling_and_what_would_not_be_stored(tmp_path: Path) -> None:
    post = {"url": "/api/v2/content/visa/json", "body": {"lang": "en", "countries": ["TR"], "nat": ["DE"]}}
    trip = {**post, "body": {**post["body"], "trip": {"name": "x"}}}  # type: ignore[dict-item]
    async with sandboxed(tmp_path) as place, running(place, authorised=True) as it:
        await got(it, CONTENT)
        asked: list[object] = [
            CONTENT,
            place.origin + TURKEY,
            post,
            trip,
            "/__internal/x",
            "http://elsewhere/",
            {"number": 70},
        ]
        found = {each["number"]: each async for each in it.wired.control.warm(asked)}
        outcomes = [found[number]["outcome"] for number in (0, 1, 2, 3, 4, 5, 70)]
        assert outcomes == ["fresh", "fetched", "fetched", "failed", "failed", "failed", "failed"]
        assert "'trip'" in str(found[3]["detail"])
        assert "path_not_allowed" in str(found[4]["detail"])
        assert "neither the proxy's nor the origin's" in str(found[5]["detail"])
        status, member, _ = await got(it, TURKEY)
        assert (status, "; hit" in member) == (200, True)
        assert [each["outcome"] async for each in it.wired.control.warm([CONTENT, TURKEY, post])] == ["fresh"] * 3
        assert all(each["path"] != "/__internal/x" for each in await journal(place, "/"))
        assert len(await journal(place, "/api/v2/content/visa")) == 1


async def test_a_soft_purge_survives_a_restart_and_leaves_what_is_usable(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as place:
        async with running(place, authorised=True) as it:
            first = (await got(it, CONTENT))[2]
            await got(it, TURKEY)
            assert await it.wired.control.purge({"url": CONTENT, "soft": True}) == 1
            listed = [each async for each in it.wired.control.entries(it.wired.control.selector({}), 10)]
            assert sorted(float(str(each["ttl"])) > 0 for each in listed) == [False, True]
        async with running(place) as it:
            explained = await it.wired.control.explain({"url": CONTENT})
            assert explained["freshness"]["fresh_for"] <= 0  # type: ignore[index]
            _, member, body = await got(it, CONTENT)
            assert "detail=STALE_REVALIDATING" in member
            assert body == first
            assert "; hit" in (await got(it, TURKEY))[1]
            assert await it.wired.control.purge({"all": True, "soft": True}) == 2

"""`server.base_path` and a path in `upstream.url`, seen from outside of a whole daemon (contract §3)."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
from yarl import URL

from passoproxy.core.events import OriginAnswered, RequestAnswered
from tests.whole import running, sandboxed

ROUTE = {"name": "countries", "match": "/v2/countries", "ttl": "1h", "override": True}


async def test_both_are_taken_off_and_put_before_everywhere(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as place, aiohttp.ClientSession(trust_env=False) as session:
        sections = {"upstream": {"url": f"{place.origin}/api"}, "server": {"base_path": "/ds"}, "routes": [ROUTE]}
        async with running(place, authorised=True, **sections) as it:
            told: list[object] = []
            it.wired.handler._observe = told.append

            async def get(path: str) -> tuple[int, dict[str, str], str]:
                async with session.get(it.proxy + path, allow_redirects=False) as answer:
                    return answer.status, dict(answer.headers), await answer.text()

            target = "/ds/v2/countries?limit=10&page=1"
            status, fields, body = await get(target)
            assert (status, "stored" in fields["Cache-Status"]) == (200, True), body
            following = json.loads(body)["links"]["next"]
            assert following.startswith(f"{it.proxy}/ds/v2/countries?")
            assert (await get(target))[1]["Cache-Status"].startswith("passoproxy; hit")
            assert (await get(following.removeprefix(it.proxy)))[0] == 200

            assert [(await get(path))[0] for path in ("/v2/countries", "/dsx", "/")] == [404, 404, 404]
            assert json.loads((await get("/api/v2/countries"))[2])["code"] == "not_here"
            assert json.loads((await get("/ds/__internal/x"))[2])["code"] == "path_not_allowed"
            refused = await session.get(URL(f"{it.proxy}/ds/%2e%2e/oauth/authorize", encoded=True))
            assert (refused.status, (await refused.json())["code"]) == (403, "path_not_allowed")

            async with session.get(f"{place.origin}/__sandbox/journal") as journal:
                asked = {each["path"] for each in (await journal.json())["requests"]}
            assert {path for path in asked if "countries" in path} == {"/api/v2/countries"}
            answered = [each for each in told if isinstance(each, RequestAnswered)]
            assert (answered[0].target, answered[0].route) == ("/v2/countries?limit=10&page=1", "countries")
            assert not [each for each in told if isinstance(each, OriginAnswered) and each.target.startswith("/api")]

            for url in (f"{it.proxy}{target}", f"{place.origin}/api/v2/countries?limit=10&page=1"):
                explained = await it.wired.control.explain({"url": url})
                assert (explained["outcome"], explained["target"]) == ("hit", "/v2/countries?limit=10&page=1")
            assert await it.wired.control.purge({"url": f"{it.proxy}{target}"}) == 1
            assert (await get(target))[1]["Cache-Status"].startswith("passoproxy; fwd=uri-miss")
            warmed = [each async for each in it.wired.control.warm([f"{it.proxy}/ds/v2/countries?limit=20&page=1"])]
            assert [each["outcome"] for each in warmed] == ["fetched"], warmed

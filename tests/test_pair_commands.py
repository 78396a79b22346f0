"""What people do to the pair while the daemon itself is at work on it: logout, login, import and export against a refresh under way."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from passoproxy.demo import authorise, decide
from tests.whole import Running, running, sandboxed

SLOW = 1.0
"""Seconds that the provider's answer to a refresh travels here."""


ADMIN_TOKEN = "an-admin-token-of-some-length"


def admin_token(folder: Path) -> str:
    file = folder / "admin_token"
    file.touch(mode=0o600)
    file.write_text(ADMIN_TOKEN)
    return str(file)


class Scene:
    """A whole daemon that is logged in, and the provider's own record of what became of its tokens."""

    def __init__(self, it: Running, session: aiohttp.ClientSession) -> None:
        self.it, self.control, self._session = it, it.wired.control, session

    async def fault(self, *names: str) -> None:
        """Arms faults of the provider, and disarms all others."""
        url = f"{self.it.place.origin}/__sandbox/faults"
        async with self._session.post(url, json={"faults": names}) as answer:
            assert answer.status in (200, 204)

    async def journal(self) -> dict[str, Any]:
        async with self._session.get(f"{self.it.place.origin}/__sandbox/journal") as answer:
            found: dict[str, Any] = await answer.json()
            return found

    async def refreshes(self) -> int:
        """How many refreshes have arrived at the provider."""
        return sum(each["grant_type"] == "refresh_token" for each in (await self.journal())["requests"])

    async def alive(self) -> list[str]:
        """Kinds of the tokens that the provider still takes."""
        tokens, now = (await self.journal())["tokens"], time.time()
        ended = ("revoked_at", "spent_at")
        return [
            each["kind"] for each in tokens if all(each[name] is None for name in ended) and now < each["expires_at"]
        ]

    async def presented(self, refresh_token: str) -> int:
        """What the provider says to a refresh token that somebody else presents."""
        body = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            "client_id": "demo",
            "client_secret": "demo",
        }
        async with self._session.post(f"{self.it.place.origin}/oauth/token", json=body) as answer:
            return answer.status

    async def slow_refresh(self) -> asyncio.Task[Any]:
        """A refresh whose answer is on its way: the provider has rotated already."""
        before = await self.refreshes()
        await self.fault("refresh_slow:1")
        refresh = asyncio.ensure_future(self.control.refresh())
        while await self.refreshes() == before:
            await asyncio.sleep(0.01)
        assert not refresh.done()
        return refresh

    async def another_pair(self) -> dict[str, Any]:
        """One that a person has approved elsewhere, for the same client."""
        from urllib.parse import parse_qs, urlencode, urlsplit

        origin, redirect = self.it.place.origin, "http://127.0.0.1:1/elsewhere"
        asked = {"response_type": "code", "client_id": "demo", "redirect_uri": redirect, "scope": "*", "state": "s"}
        back = await decide(f"{origin}/oauth/authorize?{urlencode(asked)}", "approve")
        body = {
            "grant_type": "authorization_code",
            "code": parse_qs(urlsplit(back).query)["code"][0],
            "redirect_uri": redirect,
            "client_id": "demo",
            "client_secret": "demo",
        }
        async with self._session.post(f"{origin}/oauth/token", json=body) as answer:
            assert answer.status == 200, await answer.text()
            return dict(await answer.json())

    async def imported(self, document: object, query: str = "") -> tuple[int, dict[str, Any]]:
        """Over the admin API: the status, and what was said."""
        url, fields = f"{self.it.admin}/api/token/import{query}", {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with self._session.post(url, data=json.dumps(document), headers=fields) as answer:
            return answer.status, dict(await answer.json(content_type=None))

    async def log_in(self) -> dict[str, Any]:
        """What a person does in a browser; the token's status after it."""
        back = await decide((await self.control.begin_login("cookie")).url, "approve")
        return await self.control.complete_login(back, "cookie")


@contextlib.asynccontextmanager
async def scene_of(it: Running) -> AsyncIterator[Scene]:
    async with aiohttp.ClientSession(trust_env=False) as session:
        yield Scene(it, session)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with (
        sandboxed(tmp_path, slow_seconds=SLOW) as place,
        running(place, authorised=True, admin={"token_file": admin_token(tmp_path)}) as it,
        scene_of(it) as made,
    ):
        yield made


async def test_logout_revokes_what_the_refresh_under_way_brings(scene: Scene) -> None:
    refresh = await scene.slow_refresh()
    done = await scene.control.logout()
    assert done["revocation"] == "revoked at the provider and erased here"
    assert (await refresh)["generation"] == 2
    assert await scene.alive() == []
    assert scene.control.status()["token"]["access"] == "none"


async def test_a_hand_over_gives_what_the_refresh_under_way_brings(scene: Scene) -> None:
    refresh = await scene.slow_refresh()
    given = await scene.control.export_pair()
    assert (await refresh)["generation"] == 2
    assert await scene.presented(str(given["refresh_token"])) == 200  # whoever has it now can renew it


async def test_a_login_takes_the_place_of_what_the_refresh_under_way_brings(scene: Scene) -> None:
    refresh = await scene.slow_refresh()
    login = asyncio.ensure_future(authorise(scene.it.wired))
    assert (await refresh)["generation"] == 2
    await login
    token = scene.control.status()["token"]
    assert (token["generation"], token["chain"]) == (3, "healthy")  # type: ignore[index]
    assert (await scene.control.refresh())["generation"] == 4


# ---- imports over a pair that lives ----------------------------------------------------------------------------------


async def test_garbage_costs_nothing(scene: Scene) -> None:
    before = scene.it.wired.keeper.current()
    status, said = await scene.imported({"access_token": "garbage"})
    assert (status, said["code"], said["exit_code"]) == (409, "import_refused", 1)
    assert "no refresh token" in said["detail"]
    status, said = await scene.imported({"access_token": "garbage", "refresh_token": "garbage"})
    assert (status, said["code"]) == (409, "import_refused")
    assert "invalid_grant" in said["detail"]
    assert scene.it.wired.keeper.current() == before
    assert (await scene.control.refresh())["chain"] == "healthy"


async def test_a_spent_pair_costs_nothing_and_a_good_one_takes_the_place(scene: Scene) -> None:
    spent = await scene.another_pair()
    assert await scene.presented(spent["refresh_token"]) == 200
    assert (await scene.imported(spent))[0] == 409
    assert scene.control.status()["token"]["generation"] == 1  # type: ignore[index]
    good = await scene.another_pair()
    status, token = await scene.imported(good)
    assert (status, token["chain"], token["generation"]) == (200, "healthy", 2)
    assert await scene.presented(good["refresh_token"]) == 400  # it was spent to prove it
    assert (await scene.control.refresh())["generation"] == 3


async def test_a_provider_that_is_away_or_loses_the_answer_leaves_the_pair_in_use(scene: Scene) -> None:
    good = await scene.another_pair()
    await scene.fault("refresh_5xx:1")
    status, said = await scene.imported(good)
    assert (status, said["exit_code"]) == (503, 69)
    await scene.fault("refresh_lost:1")
    status, said = await scene.imported(good)
    assert (status, said["exit_code"]) == (503, 69)
    assert "both pairs are kept" in said["detail"]
    token = scene.control.status()["token"]
    assert (token["generation"], token["chain"]) == (1, "healthy")  # type: ignore[index]
    await scene.fault()
    assert (await scene.control.refresh())["chain"] == "healthy"


async def test_force_takes_what_it_is_given(scene: Scene) -> None:
    status, token = await scene.imported({"access_token": "garbage"}, "?force=1")
    assert (status, token["access"], token["chain"]) == (200, "valid", "none")


async def test_an_import_waits_for_the_refresh_under_way(scene: Scene) -> None:
    good = await scene.another_pair()
    refresh = await scene.slow_refresh()
    order = asyncio.ensure_future(scene.imported(good))
    assert (await refresh)["generation"] == 2
    status, token = await order
    assert (status, token["generation"], token["chain"]) == (200, 3, "healthy")

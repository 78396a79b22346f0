"""What people do to the pair while the daemon itself is at work on it: logout, login, import and export against a refresh under way."""

from __future__ import annotations

import asyncio
import contextlib
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

    async def log_in(self) -> dict[str, Any]:
        """What a person does in a browser; the token's status after it."""
        back = await decide(self.control.begin_login("cookie").url, "approve")
        return await self.control.complete_login(back, "cookie")


@contextlib.asynccontextmanager
async def scene_of(it: Running) -> AsyncIterator[Scene]:
    async with aiohttp.ClientSession(trust_env=False) as session:
        yield Scene(it, session)


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with (
        sandboxed(tmp_path, slow_seconds=SLOW) as place,
        running(place, authorised=True) as it,
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

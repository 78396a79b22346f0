"""The end of a daemon whose provider hangs: within `server.shutdown_grace`, and nothing of the pair is lost by it (contract §4)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from passoproxy.errors import PassoproxyError
from tests.test_pair_commands import Scene, scene_of
from tests.whole import running, sandboxed

GRACE = 4.0
LONG = 60.0
"""What a hung provider took before: as long as a refresh may take at all."""


async def test_a_refresh_that_was_sent_is_waited_for_within_the_grace_and_then_left_as_unknown(tmp_path: Path) -> None:
    settings = {"oauth": {"refresh_on_exit": "always", "lost_answer_replay": "never"}}
    async with sandboxed(tmp_path, slow_seconds=LONG) as place:
        async with contextlib.AsyncExitStack() as daemon:
            it = await daemon.enter_async_context(
                running(place, authorised=True, server={"shutdown_grace": f"{GRACE}s"}, **settings)
            )
            scene = await daemon.enter_async_context(scene_of(it))
            refresh = await scene.slow_refresh()
            began = time.monotonic()
        took = time.monotonic() - began
        with pytest.raises(PassoproxyError, match="shutting down"):
            await refresh
        assert took < 3 * GRACE
        async with running(place, **settings) as it, scene_of(it) as scene:
            token = it.wired.keeper.snapshot()
            assert (token.access, token.chain, token.generation) == ("valid", "unknown", 1)
            assert await scene.refreshes() == 1


@contextlib.asynccontextmanager
async def never_shaking_hands() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """An https address that takes connections and says nothing, and the event of one having come."""
    came = asyncio.Event()

    async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        with contextlib.suppress(ConnectionError):
            while await reader.read(4096):
                pass
        writer.close()

    server = await asyncio.start_server(taken, "127.0.0.1", 0)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/oauth/token", came


async def test_a_refresh_that_is_only_dialing_is_dropped_at_once(tmp_path: Path) -> None:
    async with sandboxed(tmp_path) as place, never_shaking_hands() as (url, came):
        settings = {"oauth": {"refresh_url": url, "refresh_on_exit": "always"}, "upstream": {"connect_timeout": "60s"}}
        async with contextlib.AsyncExitStack() as daemon:
            it = await daemon.enter_async_context(running(place, authorised=True, **settings))
            scene: Scene = await daemon.enter_async_context(scene_of(it))
            refresh = asyncio.ensure_future(scene.control.refresh())
            await asyncio.wait_for(came.wait(), 20)
            began = time.monotonic()
        assert time.monotonic() - began < 10  # of a grace of 20
        with pytest.raises(PassoproxyError, match="shutting down"):
            await refresh
        async with running(place) as it, scene_of(it) as scene:
            assert it.wired.keeper.snapshot().chain == "healthy"
            assert await scene.refreshes() == 0
            assert (await scene.control.refresh())["generation"] == 2


async def test_a_login_whose_code_is_at_the_provider_is_finished(tmp_path: Path) -> None:
    """Its answer comes while the daemon ends; the code is spent, so nobody could log in with it again."""
    async with sandboxed(tmp_path, latency=1.0) as place:
        async with running(place) as it, scene_of(it) as scene:
            login = asyncio.ensure_future(scene.log_in())
            while not any(each["grant_type"] for each in (await scene.journal())["requests"]):
                await asyncio.sleep(0.01)
        assert (await login)["access"] == "valid"
        async with running(place) as it:
            assert it.wired.keeper.snapshot().chain == "healthy"


async def test_a_keeper_that_answers_no_more_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """Its task ended by a fault inside: whoever orders something waits for ever."""
    async with asyncio.timeout(30), sandboxed(tmp_path) as place:
        async with running(place, authorised=True, server={"shutdown_grace": "1s"}) as it:

            async def broken(has_order: bool) -> None:
                raise ZeroDivisionError

            it.wired.keeper._held._step = broken  # type: ignore[union-attr, method-assign]
            order = asyncio.ensure_future(it.wired.control.refresh())
            await asyncio.wait([order], timeout=0.2)
        order.cancel()

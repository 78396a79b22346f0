"""Makes docs/status-page.png, the status page of a daemon in good health, in a real Chromium: `make screenshot`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp.test_utils import TestServer

from tests.chromium import browser
from tests.server.admin_clients import AdminListener
from tests.server.fake_daemon import NOW, FakeDaemon, healthy

PICTURE = Path(__file__).parents[1] / "docs" / "status-page.png"
WIDTH, HEIGHT = 1080, 690


async def make() -> None:
    """Writes the picture: the upper part of the page, as a window shows it."""
    until = NOW + 3_180
    token = healthy(next_refresh_at=NOW + 1_020, runway_seconds=3_180.0, access_until=until, served_until=until)
    listener = AdminListener(FakeDaemon(token | {"recent_errors": []}))
    async with TestServer(listener.app) as server, browser() as page:
        listener.sessions.address = str(server.make_url("")).rstrip("/")
        await page.look(WIDTH)
        await page.open(listener.sessions.link().url)
        await page.until("location.pathname === '/' && document.getElementById('live')")
        await page.picture(PICTURE, HEIGHT)


if __name__ == "__main__":
    asyncio.run(make())

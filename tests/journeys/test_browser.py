"""The status page of a running daemon in a real Chromium: requests appear as they come, a row tells why, and a daemon that is gone is told at once."""

from __future__ import annotations

import pytest

from tests.chromium import browser
from tests.journeys.conftest import Stand

TARGET = "/api/v2/content/all/html?lang=en&countries=TR&nat=DE"


@pytest.mark.slow
@pytest.mark.needs_ci
async def test_the_page_in_a_browser(stand: Stand) -> None:
    stand.begin()
    link = stand.run("page", "--print").stdout.strip()
    async with browser() as page:
        await page.open(stand.admin)
        assert await page.run("[!!document.querySelector('form'), !!document.querySelector('.way-in')]") == [
            False,
            True,
        ]
        await page.open(link)
        await page.until("location.pathname === '/' && document.querySelector('form [name=page_token]')")
        await page.until("source?.readyState === EventSource.OPEN")
        for _ in range(2):
            assert stand.get(TARGET).status == 200
        await page.until("document.querySelectorAll('.stream tbody tr').length >= 2")
        await page.run("document.querySelector('.stream a').click()")
        await page.until("document.querySelector('tr.why')?.textContent.includes('The stored answer serves')")
        assert page.said == []

        stand.stop_daemon()
        await page.until("!document.getElementById('gone').hidden && document.title.includes('does not answer')")
        stand.start_daemon()
        await page.until("document.getElementById('gone').hidden && document.title.startsWith('Renews itself')")

"""A week in a minute: tokens that live six seconds, a client that never stops, and nobody notices anything."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter

import aiohttp
import pytest

from tests.journeys.conftest import Stand

LIFETIME = 6.0
RATE = 50
SPAN = 60.0

RESOURCES = [
    *(
        f"/api/v2/content/{topic}/{form}?lang={lang}&countries={country}&nat={nat}"
        for topic, form in (
            ("all", "html"),
            ("entry", "json"),
            ("visa", "text"),
            ("transit_visa", "html"),
            ("health", "json"),
            ("overview", "json"),
        )
        for lang in ("de", "en")
        for country in ("TR", "ZA", "US", "JP")
        for nat in ("DE", "AT")
    ),
    "/api/v2/countries?limit=20&page=1",
    "/api/v2/countries/de/locations?zip_codes=04109,80331",
    "/api/v2/nationalities",
    "/api/v2/languages",
    "/api/v2/tour-operators",
    "/api/v2/entry/documents?language=en",
    "/api/v2/entry/additional-info?language=en",
    "/api/v2/health/immunizations?language=en",
    "/api/v2/health",
    "/api/v2/version",
    "/api/v2/account/subscription",
    "/api/v2/information/search?lang=en&destco=TR&nat=DE",
    "/api/v2/infosystem/general?lang=en&page=1",
    "/api/v2/infosystem/passolution?limit=10&page=1",
    "/api/v2/individual-content",
    "/api/v2/content/country/html?lang=en&countries=TR",
    "/api/v2/content/all/pdf?lang=en&countries=TR&nat=DE",
]


async def ask_all(proxy: str) -> Counter[str]:
    """RATE requests a second for SPAN seconds, every one with a query of its own now and then so that the origin is asked too."""
    seen: Counter[str] = Counter()

    async def one(session: aiohttp.ClientSession, target: str) -> None:
        try:
            async with session.get(proxy + target) as answer:
                await answer.read()
                seen[str(answer.status)] += 1
        except aiohttp.ClientError as error:
            seen[f"{type(error).__name__} {target}"] += 1

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
        began = time.monotonic()
        for number, target in zip(range(int(RATE * SPAN)), itertools.cycle(RESOURCES), strict=False):
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
            joint = "&" if "?" in target else "?"
            tasks.create_task(one(session, f"{target}{joint}turn={number}" if number % 5 == 0 else target))
    return seen


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(300)
async def test_a_week_in_a_minute(stand: Stand) -> None:
    stand.start_sandbox("--lifetime", f"{LIFETIME:.0f}s")
    stand.configure(upstream={"max_concurrency": 16})
    stand.start_daemon()
    stand.login()
    began = time.time()
    seen = await ask_all(stand.proxy)
    lasted = time.time() - began
    status = stand.status()
    journal = stand.journal()

    print(f"answers: {dict(seen)}")
    assert set(seen) == {"200"}, seen
    assert sum(seen.values()) == RATE * SPAN

    origin = [
        each
        for each in journal["requests"]
        if each["path"].startswith("/api/") and began <= each["time"] <= began + lasted
    ]
    print(f"requests at the origin: {len(origin)}")
    assert len(origin) >= RATE * SPAN / 5
    invalid = [each for each in origin if each["token_valid"] is False]
    assert not invalid, invalid[:3]

    refresh_tokens = [each for each in journal["tokens"] if each["kind"].startswith("refresh")]
    assert all(each["presented"] <= 1 for each in refresh_tokens), [
        each for each in refresh_tokens if each["presented"] > 1
    ]

    refreshes = stand.refreshes()
    in_span = [each for each in refreshes if began <= each["time"] <= began + lasted]
    expected = lasted / (0.4 * LIFETIME)
    print(f"refreshes: {len(in_span)}, by the schedule {expected:.1f}")
    assert all(each["status"] == 200 for each in refreshes)
    assert abs(len(in_span) - expected) <= 1.0 + expected * 0.02, (len(in_span), expected)
    assert status["token"]["chain"] == "healthy"

"""The status page in a real Chromium, in every state: axe finds nothing, no word is cut off, nothing breaks the policy, and the keyboard reaches all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from passoproxy.server.admin import app as app_module
from passoproxy.telemetry.live import dropped_line
from tests.chromium import Page, browser
from tests.conftest import npm_package
from tests.server.admin_clients import Admin, AdminListener
from tests.server.page_states import DOCUMENTS

pytestmark = [pytest.mark.slow, pytest.mark.needs_ci]
LOOKS = ((1280, "light"), (400, "dark"), (1280, "dark"), (400, "light"))
FOUND = """axe.run().then(done => done.passes.length < 10 ? 'few rules ran'
    : done.violations.map(each => [each.id, ...each.nodes.map(node => node.html.slice(0, 200))]))"""
WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with browser() as page:
        yield page


async def let_in(page: Page, listener: AdminListener) -> None:
    """Opens a link, as a person does."""
    await page.open(listener.sessions.link().url)
    await page.until("location.pathname === '/' && document.getElementById('live')")


async def test_axe_finds_nothing_in_any_state(admin: Admin, page: Page) -> None:
    axe = (npm_package("axe-core", "^4") / "node_modules" / "axe-core" / "axe.min.js").read_text()
    listener = await admin()
    found: dict[str, object] = {}

    async def look(name: str, path: str = "/") -> None:
        width, scheme = LOOKS[len(found) % len(LOOKS)]
        await page.look(width, scheme)
        await page.open(f"{listener.origin}{path}")
        await page.run(f"{axe};0")
        found[name] = [await page.run(FOUND), "wider than its window" if await page.run(WIDER) else ""]

    await look("without a session")
    await look("how to get a session", "/page/purge")
    await let_in(page, listener)
    for path in ("/page/purge", "/page/logout", "/page/why?request=1"):
        await look(path, path)
    for name, document in DOCUMENTS.items():
        listener.daemon.document = document
        await look(name)
    assert {name: told for name, told in found.items() if told != [[], ""]} == {}
    refused = [each for each in page.said if "403" not in each]  # of the page that says how to get a session
    assert refused == []


async def test_the_keyboard_reaches_all_in_the_order_in_which_it_is_read(admin: Admin, page: Page) -> None:
    listener = await admin()
    listener.daemon.document = DOCUMENTS["dead"]
    await page.look(1280)
    await let_in(page, listener)
    reached = [await page.tab() for _ in range(24)]
    named = [each for each in reached if each in ("authorise", "purge", "logout", "filter", "pause")]
    assert named[:5] == ["authorise", "purge", "logout", "filter", "pause"]


async def test_without_scripts_the_page_is_whole_and_loads_itself_anew(admin: Admin, page: Page) -> None:
    listener = await admin()
    await let_in(page, listener)
    await page.ask("Emulation.setScriptExecutionDisabled", value=True)
    await page.open(f"{listener.origin}/")
    assert await page.run("document.querySelectorAll('.stream tbody tr').length") == 8
    assert await page.run(
        "[!!document.querySelector('[http-equiv=refresh]'), document.getElementById('stream-tools').hidden]"
    ) == [True, True]
    listener.daemon.document = DOCUMENTS["retrying"]
    await page.open(f"{listener.origin}/")
    await page.run("document.getElementById('refresh').click()")
    await page.until("location.search === '?done=refreshed'")
    assert ("refresh", False) in listener.daemon.calls


async def test_a_page_that_stays_open_keeps_few_rows_and_what_is_being_copied(admin: Admin, page: Page) -> None:
    listener = await admin()
    await page.open(f"{listener.origin}/")
    await page.until("source?.readyState === EventSource.OPEN")
    line = {"time": "2026-01-31T12:00:00.000Z", "event": "said", "level": "info", "message": "a line"}
    told = json.dumps(json.dumps(line))
    await page.run("document.querySelector('.stream a').focus()")
    await page.run(f"for (let n = 0; n < 150; n++) source.onmessage({{data: {told}}})")
    kept = "[stream().rows.length, stream().contains(document.activeElement)]"
    assert await page.run(kept) == [100, True], "the row with the focus stays, the others give way"

    await page.run(f"source.onmessage({{data: {json.dumps(dropped_line(5))}}})")
    assert "5 lines were dropped" in await page.run("stream().rows[0].textContent")

    await page.run("var seen = document.getElementById('live'); getSelection().selectAllChildren(seen)")
    await page.run("copied = 0; refresh()")
    assert await page.run("seen.isConnected") is True
    await page.run("copied = 6; refresh()")
    assert await page.run("seen.isConnected") is False, "half a minute is enough"


async def test_a_page_without_a_stream_asks_seldom_and_outlives_an_error(
    admin: Admin, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "MOST_PAGES", 0)
    listener = await admin()
    await page.open(f"{listener.origin}/")
    await page.until("state.textContent === 'Requests do not come in at present.'")
    await page.run(
        "var tried = 0, Source = EventSource; EventSource = function (url) { tried++; return new Source(url); }; 0"
    )
    for _ in range(4):
        await page.run("refresh()")
        await page.until("source === null")
    assert await page.run("tried") < 3, "what is refused is not asked for again at once"

    listener.daemon.document = None  # type: ignore[assignment]  # it cannot be shown
    await page.run("refresh()")
    await page.until("!document.getElementById('gone').hidden")
    listener.daemon.document = DOCUMENTS["healthy"]
    await page.run("refresh()")
    await page.until("document.getElementById('gone').hidden")


async def test_open_rows_and_the_focus_outlive_a_look(admin: Admin, page: Page, tmp_path: Path) -> None:
    """The page fetches itself anew every five seconds: what a person is at stays."""
    listener = await admin()
    await let_in(page, listener)
    await page.run("document.getElementById('idle').open = true; document.getElementById('purge').focus()")
    listener.daemon.document = DOCUMENTS["origin_away"]
    await page.until("document.getElementById('face').dataset.face === 'origin_away'")
    assert await page.run("[document.getElementById('idle').open, document.activeElement.id]") == [True, "purge"]
    assert await page.run(
        "[document.title, document.body.className, document.getElementById('icon').getAttribute('href')]"
    ) == [
        "(!) The API does not answer · passoproxy",
        "bad",
        "/assets/icon-bad.svg",
    ]
    line = {
        "time": "2026-01-31T12:00:00.000Z",
        "event": "request",
        "request_id": "abc",
        "method": "GET",
        "target": "/live",
        "status": 200,
    }
    told = json.dumps(line | {"route": "r", "cache": "hit", "reason": "", "duration_ms": 0.2})
    listener.daemon.explained = {"target": "/live", "outcome": "hit", "reasons": ["it is fresh"]}
    listener.lines.put_nowait(told)
    await page.until("document.querySelector('.stream a[href$=abc]')")
    await page.run("document.querySelector('.stream a[href$=abc]').click()")
    await page.run(f"fetch('{listener.sessions.link().url}').then(refresh)")  # another session, in another tab
    tokens = "[...document.querySelectorAll('[name=page_token]')].map(each => each.value)"
    assert await page.run(f"[{tokens}.length, new Set({tokens}).size]") == [2, 1]
    await page.until("document.querySelector('tr.why')?.textContent.includes('It is fresh')")
    await page.run("filter.value = 'nothing like it'; filter.dispatchEvent(new Event('input'))")
    assert await page.run("[...document.querySelectorAll('.stream tbody tr')].every(row => row.hidden)")
    assert page.said == []

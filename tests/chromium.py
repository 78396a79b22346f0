"""A Chromium without a window, driven by its own protocol: looks at pages as people see them. One browser serves many pages."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp

from tests.conftest import program

PATIENCE = 120  # seconds that a browser may take, on a busy machine, for all that one test asks of it


class Navigated(Exception):
    """The page went elsewhere while a script of it was waited for."""


class Page:
    """One tab. `run` gives what a script comes to, a promise's end too."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, session: str) -> None:
        self._socket, self._session, self._numbers = socket, session, itertools.count(1)
        self.said: list[str] = []
        """What the console was told, policies that were broken too."""

    async def ask(self, method: str, **params: Any) -> Any:
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "sessionId": self._session, "method": method, "params": params})
        while True:
            told = await _heard(self._socket)
            if told.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.said.append(json.dumps(told["params"]))
            if told.get("id") == number:
                if "navigated" in told.get("error", {}).get("message", ""):
                    raise Navigated
                assert "error" not in told, told
                return told["result"]

    async def run(self, script: str) -> Any:
        asked = await self.ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in asked, asked
        return asked["result"].get("value")

    async def open(self, url: str) -> None:
        await self.ask("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def until(self, condition: str) -> None:
        """Waits until the expression is true, over navigations. Asked from here, because scripts of the page may be switched off."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not await self._is(condition):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"it never came to {condition}; the console said {self.said}") from None

    async def _is(self, condition: str) -> bool:
        with contextlib.suppress(Navigated):
            return bool(await self.run(f"!!({condition})"))
        return False

    async def look(self, width: int, scheme: str = "light") -> None:
        """Has a window so wide, in `light` or `dark`."""
        await self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        await self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def picture(self, path: Path, height: int = 0) -> None:
        """A PNG of the whole page, or of its first `height` pixels."""
        whole = await self.run("[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": whole[0], "height": height or whole[1], "scale": 1}
        shot = await self.ask("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    async def tab(self) -> str:
        """Presses the tab key; what has the focus then, by its id, or its tag and text."""
        for kind in ("keyDown", "keyUp"):
            await self.ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        return str(
            await self.run("(e => e.id || `${e.tagName} ${e.textContent.slice(0, 30)}`)(document.activeElement)")
        )


@contextlib.asynccontextmanager
async def browser() -> AsyncIterator[Page]:
    """A browser with one tab, in a folder of its own; it has ended when the context does."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = [
            *("timeout", "-k", "5", str(PATIENCE), program("chromium"), "--headless", "--no-sandbox", "--disable-gpu"),
            *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-port=0", f"--user-data-dir={folder}"),
            "about:blank",
        ]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
        try:
            address = await _address(Path(folder, "DevToolsActivePort"), process)
            async with aiohttp.ClientSession() as client, client.ws_connect(address, max_msg_size=0) as socket:
                yield await _first_tab(socket)
                await socket.send_json({"id": 0, "method": "Browser.close"})
                await asyncio.to_thread(process.wait)
        finally:
            process.terminate()  # `timeout` passes it on
            await asyncio.to_thread(process.wait)


async def _address(told: Path, process: subprocess.Popen[bytes]) -> str:
    """Where the browser listens, which it writes into a file."""
    while process.poll() is None:
        lines = told.read_text().split("\n") if told.exists() else []
        if len(lines) == 2:
            return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
        await asyncio.sleep(0.05)
    raise AssertionError(f"chromium ended with {process.returncode}")


async def _heard(socket: aiohttp.ClientWebSocketResponse) -> Any:
    message = await socket.receive(timeout=PATIENCE)
    assert message.type is aiohttp.WSMsgType.TEXT, "the browser has ended"
    told = json.loads(message.data)
    assert told.get("method") != "Inspector.targetCrashed", "the tab has crashed"
    return told


async def _first_tab(socket: aiohttp.ClientWebSocketResponse) -> Page:
    async def ask(number: int, method: str, **params: Any) -> Any:
        await socket.send_json({"id": number, "method": method, "params": params})
        while (told := await _heard(socket)).get("id") != number:
            pass
        return told["result"]

    targets = (await ask(1, "Target.getTargets"))["targetInfos"]
    tab = next(each["targetId"] for each in targets if each["type"] == "page")
    page = Page(socket, (await ask(2, "Target.attachToTarget", targetId=tab, flatten=True))["sessionId"])
    for domain in ("Page", "Runtime", "Log"):
        await page.ask(f"{domain}.enable")
    return page

"""Commands in this process: against a daemon and its sandbox in a thread beside, and against folders where no daemon runs."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import logging
import sys
import threading
import webbrowser
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest

from passoproxy.cli import main
from passoproxy.demo import decide
from tests.whole import CONTENT, Place, Running, running, sandboxed

T = TypeVar("T")


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Terminal(io.StringIO):
    """Standard output, or input, that says it is a terminal."""

    def isatty(self) -> bool:
        return True


Run = Callable[..., Said]


@pytest.fixture
def browser(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A browser of this user's: every address that it was led to."""
    found: list[str] = []

    def open_(url: str) -> bool:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=10)
        connection.request("GET", parts.path)
        found.append(connection.getresponse().headers["Location"])
        connection.close()
        return True

    monkeypatch.setattr(webbrowser, "open", open_)
    monkeypatch.delenv("SUDO_UID", raising=False)
    return found


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """An environment that configures nothing, and warnings as they were."""
    import os

    for name in list(os.environ):
        if name.startswith(("PASSOPROXY_", "XDG_", "STATE_", "CACHE_", "CREDENTIALS_", "NOTIFY_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm-256color")
    yield
    logging.captureWarnings(False)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process. `terminal`: standard output is one; `bar`: standard error is one; `text` is standard input."""

    def run(
        *arguments: str, terminal: bool = False, bar: bool = False, text: str | None = None, typed: str | None = None
    ) -> Said:
        out, err = Terminal() if terminal else io.StringIO(), Terminal() if bar else io.StringIO()
        given = Terminal(typed) if typed is not None else io.TextIOWrapper(io.BytesIO((text or "").encode()))
        if typed is not None:
            given.buffer = io.BytesIO(typed.encode())  # type: ignore[attr-defined]
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", out)
            patched.setattr(sys, "stderr", err)
            patched.setattr(sys, "stdin", given)
            code = main(list(arguments))
        return Said(code, out.getvalue(), err.getvalue())

    return run


class Beside:
    """A loop in a thread, with what runs in it until the end."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="beside")
        self._thread.start()
        self._stack = AsyncExitStack()

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.begin(work).result(30)

    def enter(self, context: Any) -> Any:
        return self.do(self._stack.enter_async_context(context))

    def close(self) -> None:
        self.do(self._stack.aclose())
        self.do(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def daemon(self, place: Place, **options: Any) -> Running:
        found: Running = self.enter(running(place, **options))
        return found

    def decided(self, url: str, decision: str = "approve") -> str:
        return self.do(decide(url, decision))

    def fetched(self, url: str) -> tuple[int, str]:
        import aiohttp

        async def fetch() -> tuple[int, str]:
            async with aiohttp.ClientSession(trust_env=False) as session, session.get(url) as answer:
                return answer.status, await answer.text()

        return self.do(fetch())


@pytest.fixture
def beside() -> Iterator[Beside]:
    made = Beside()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Beside]:
    made = Beside()
    yield made
    made.close()


@pytest.fixture
def place(beside: Beside, tmp_path: Path) -> Place:
    """A place of the test's own before a sandbox, its file written."""
    found: Place = beside.enter(sandboxed(tmp_path))
    found.write()
    return found


@pytest.fixture(scope="module")
def it(shared: Beside, tmp_path_factory: pytest.TempPathFactory) -> Running:
    """An authorised daemon with a few entries, shared by tests that leave it as it is."""
    place = shared.enter(sandboxed(tmp_path_factory.mktemp("shared")))
    found: Running = shared.enter(running(place, authorised=True))
    for target in (CONTENT, CONTENT.replace("ZA", "TR")):
        assert shared.fetched(found.proxy + target)[0] == 200
    return found

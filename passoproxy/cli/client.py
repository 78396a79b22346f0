"""A handle on the daemon: over `control.sock` where one runs, else on its folders directly, with the same calls.

Calls give plain data (as the admin API's JSON) and raise a CommandFailure with the exit code of the contract.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import select
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast
from urllib.parse import urlencode

from passoproxy.cli.output import note
from passoproxy.errors import CommandFailure, NotRunning, ServiceUnreachable
from passoproxy.host import control_socket

if TYPE_CHECKING:
    from passoproxy.config.load import Loaded
    from passoproxy.control import Control
    from passoproxy.core.events import Event

Data = dict[str, Any]

T = TypeVar("T")
DEADLINE = 10.0
"""Seconds within which a daemon shows that it lives. One that is stopped takes every connection and answers none."""

PATIENCE = 120.0
"""Seconds that an order may take while the daemon lives: a login's exchange with the provider may take a minute."""


class Handle(Protocol):
    """What a command can ask, wherever it is answered."""

    @property
    def daemon(self) -> Data:
        """Who answers, for `--json`: `pid` (None where no daemon runs), `config`, `state_directory`."""
        ...

    @property
    def in_words(self) -> str:
        """The same for people."""
        ...

    def status(self) -> Data: ...
    def refresh(self, force: bool) -> Data: ...
    def import_pair(self, document: bytes, force: bool) -> Data: ...
    def export_pair(self) -> Data: ...
    def logout(self, keep_cache: bool) -> Data: ...
    def test_alerts(self) -> list[Data]: ...
    def cache_stats(self) -> Data: ...
    def entries(self, chosen: Mapping[str, str], limit: int) -> list[Data]: ...
    def show(self, url: str, method: str, data: bytes | None) -> Data | None: ...
    def purge(self, chosen: Mapping[str, object]) -> int: ...
    def explain(self, described: Mapping[str, object]) -> Data: ...


class Refused(CommandFailure):
    """The daemon's own refusal, with its exit code. `word` is the code of its problem document."""

    def __init__(self, text: str, word: str, exit_code: int) -> None:
        super().__init__(text)
        self.word = word
        self.exit_code = exit_code  # type: ignore[misc]  # this one's is not the class's


class _UnixConnection(http.client.HTTPConnection):
    """`timeout` bounds each of connecting, sending and reading, in seconds."""

    def __init__(self, folder: Path, timeout: float, name: str) -> None:
        super().__init__("localhost", timeout=timeout)
        self._folder, self._seconds, self._name = folder, timeout, name

    def connect(self) -> None:
        self.sock = control_socket.connect(self._folder, self._seconds, self._name)

    def has_answer(self, seconds: float) -> bool:
        """Whether there is something to read within so many seconds."""
        return bool(select.select([self.sock], [], [], seconds)[0])


class Remote:
    """The daemon that serves a state folder, over its control socket."""

    def __init__(self, folder: Path, deadline: float = DEADLINE, name: str = "") -> None:
        """`deadline` is how long the daemon may give no sign of life, in seconds; `name` is that of another socket than the owner's."""
        self._folder, self._deadline, self._name = folder, deadline, name
        self._daemon: Data | None = None

    @property
    def daemon(self) -> Data:
        if self._daemon is None:
            self._daemon = dict(self.ask("GET", "/api/daemon"))
        return self._daemon

    @property
    def in_words(self) -> str:
        said = self.daemon
        config = f"configuration {said['config']}" if said.get("config") else "no configuration file"
        return f"pid {said.get('pid')}, {config}, state {said.get('state_directory')}"

    def ask(self, method: str, path: str, body: bytes | Mapping[str, object] | None = None) -> Any:
        """One call of the control API; its JSON. Raises NotRunning, ServiceUnreachable where the daemon gives no sign of life, or its own
        refusal with its exit code."""
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        fields = {"Content-Type": "application/json"} if content is not None else {}
        with self._asked(method, path, content, fields) as answer:
            text = answer.read()
        return _understood(answer.status, text)

    @contextlib.contextmanager
    def _asked(
        self, method: str, path: str, content: bytes | None, fields: Mapping[str, str]
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to one request, to be read inside."""
        connection = _UnixConnection(self._folder, self._deadline, self._name)
        try:
            connection.request(method, path, content, dict(fields))
            end = time.monotonic() + PATIENCE
            while not connection.has_answer(self._deadline / 2):
                self._look()
                if time.monotonic() >= end:
                    raise ServiceUnreachable(f"the daemon was not done within {PATIENCE:g} s; see its log")
            yield connection.getresponse()
        except TimeoutError as error:
            raise self._silent() from error
        except (OSError, http.client.HTTPException) as error:
            raise CommandFailure(f"the daemon ended the conversation ({error}); see its log") from error
        finally:
            connection.close()

    def _look(self) -> None:
        """Makes sure that the daemon lives."""
        connection = _UnixConnection(self._folder, self._deadline / 2, self._name)
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
        except NotRunning:
            pass  # it has just ended, and so has the conversation
        finally:
            connection.close()

    def _silent(self) -> ServiceUnreachable:
        path = self._folder / (self._name or control_socket.NAME)
        return ServiceUnreachable(
            f"{path}: the daemon did not answer within {self._deadline:g} s; it is stopped, or too busy: see its log"
        )

    def followers(self) -> list[Remote]:
        """The daemons that follow this one, on the same folder."""
        return [Remote(self._folder, self._deadline, name) for name in control_socket.followers(self._folder)]

    def status(self) -> Data:
        return dict(self.ask("GET", "/api/status"))

    def refresh(self, force: bool) -> Data:
        return dict(self.ask("POST", "/api/token/refresh", {"force": True} if force else b""))

    def import_pair(self, document: bytes, force: bool) -> Data:
        return dict(self.ask("POST", f"/api/token/import{'?force=1' if force else ''}", document))

    def export_pair(self) -> Data:
        return dict(self.ask("GET", "/api/token/export"))

    def logout(self, keep_cache: bool) -> Data:
        return dict(self.ask("POST", "/api/logout", {"keep_cache": keep_cache}))

    def test_alerts(self) -> list[Data]:
        return list(self.ask("POST", "/api/alert/test", b"")["results"])

    def cache_stats(self) -> Data:
        return dict(self.ask("GET", "/api/cache/stats"))

    def entries(self, chosen: Mapping[str, str], limit: int) -> list[Data]:
        return list(self.ask("GET", f"/api/cache/entries?{urlencode({**chosen, 'limit': limit})}"))

    def show(self, url: str, method: str, data: bytes | None) -> Data | None:
        body = {"url": url, "method": method, "data": None if data is None else data.decode()}
        try:
            return dict(self.ask("POST", "/api/cache/show", body))
        except Refused as refused:
            if refused.word == "not_found":
                return None
            raise

    def purge(self, chosen: Mapping[str, object]) -> int:
        return int(self.ask("POST", "/api/cache/purge", chosen)["purged"])

    def explain(self, described: Mapping[str, object]) -> Data:
        return dict(self.ask("POST", "/api/explain", described))

    def warm(self, described: Sequence[object]) -> Iterator[Data]:
        """What came of each request that is described, as it comes; the daemon sends an empty line now and then. Raises as `ask` does."""
        fields = {"Content-Type": "application/json", "Accept": "application/jsonl"}
        content = json.dumps({"urls": list(described)}).encode()
        with self._asked("POST", "/api/cache/warm", content, fields) as answer:
            if answer.status != 200:
                _understood(answer.status, answer.read())
            while line := answer.readline():
                if line.strip():
                    yield _line(line)


def _line(text: bytes) -> Data:
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise CommandFailure(f"the daemon ended the conversation ({error}); see its log") from error


def _understood(status: int, text: bytes) -> Any:
    try:
        data = json.loads(text) if text else {}
    except ValueError as error:
        raise CommandFailure(
            f"the daemon answered {status} with something that is no JSON; is another program on control.sock?"
        ) from error
    if status < 400:
        return data
    lines = data.get("faults") or [data.get("detail") or data.get("title") or f"the daemon answered {status}"]
    raise Refused("\n".join(map(str, lines)), str(data.get("code", "")), int(data.get("exit_code", 1)))


async def in_thread(work: Callable[[], T]) -> T:
    """What `work` comes to, in a thread that nobody waits for where the command ends before."""
    import asyncio
    import threading

    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, fault: BaseException | None) -> None:
        if not done.cancelled():
            done.set_exception(fault) if fault is not None else done.set_result(cast(T, result))

    def run() -> None:
        result, fault = None, None
        try:
            result = work()
        except BaseException as error:
            fault = error
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, fault)

    threading.Thread(target=run, daemon=True).start()
    return await done


def tell(event: Event) -> None:
    """Says on standard error what an operator would find in the daemon's log."""
    from passoproxy.core.events import PairFileDamaged, PairNotSaved, StoreFailed, Warned

    if isinstance(event, PairFileDamaged | PairNotSaved | StoreFailed | Warned):
        note(f"passoproxy: warning: {event.detail}")


class Local:
    """The same calls on the folders of a daemon that does not run: opened for one call, closed after it."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded

    @property
    def daemon(self) -> Data:
        settings, path = self.loaded.settings, self.loaded.path
        return {
            "pid": None,
            "config": str(path.absolute()) if path else None,
            "state_directory": str(settings.state.folder),
            "cache_directory": None if settings.store.url else str(settings.cache.folder),
        }

    @property
    def in_words(self) -> str:
        settings = self.loaded.settings
        cache = f"folders {settings.state.folder} and {settings.cache.folder}"
        return cache if settings.store.url is None else f"folder {settings.state.folder} and on store.url"

    def _with(self, work: Callable[[Control], Awaitable[Any]], *, keep: bool = False) -> Any:
        import asyncio

        from passoproxy.compose import standing_still

        async def whole() -> Any:
            async with standing_still(self.loaded, keep=keep, observer=tell) as control:
                return await work(control)

        return asyncio.run(whole())

    def status(self) -> Data:
        async def work(control: Control) -> Data:
            return control.status()

        return dict(self._with(work))

    def refresh(self, force: bool) -> Data:
        return dict(self._with(lambda control: control.refresh(force), keep=True))

    def import_pair(self, document: bytes, force: bool) -> Data:
        return dict(self._with(lambda control: control.import_pair(document, force), keep=True))

    def export_pair(self) -> Data:
        return dict(self._with(lambda control: control.export_pair(), keep=True))

    def logout(self, keep_cache: bool) -> Data:
        return dict(self._with(lambda control: control.logout(keep_cache), keep=True))

    def test_alerts(self) -> list[Data]:
        import asyncio
        import os

        from passoproxy.compose.wiring import tried_alone

        return asyncio.run(tried_alone(self.loaded, os.environ))

    def cache_stats(self) -> Data:
        return dict(self._with(lambda control: control.cache_stats()))

    def entries(self, chosen: Mapping[str, str], limit: int) -> list[Data]:
        async def work(control: Control) -> list[Data]:
            return [entry async for entry in control.entries(control.selector(chosen), limit)]

        return list(self._with(work))

    def show(self, url: str, method: str, data: bytes | None) -> Data | None:
        found = self._with(lambda control: control.show(url, method, data))
        return dict(found) if found else None

    def purge(self, chosen: Mapping[str, object]) -> int:
        return int(self._with(lambda control: control.purge(chosen)))

    def explain(self, described: Mapping[str, object]) -> Data:
        return dict(self._with(lambda control: control.explain(described)))

"""The daemon that a command speaks to (contract §2): over its control socket, or, if none runs, directly on its folders.

`handle` and `running` find it. A call gives plain data, as the admin API's JSON, and raises CommandFailure with the contract's exit code.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import inspect
import json
import os
import select
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from passoproxy.cli.options import load
from passoproxy.cli.output import note, say, say_json
from passoproxy.errors import (
    AccessDenied,
    CommandFailure,
    ConfigurationError,
    NotRunning,
    ServiceUnreachable,
    UsageFailure,
)
from passoproxy.folders import weak_step
from passoproxy.host import control_socket
from passoproxy.peer_credentials import peer_process

if TYPE_CHECKING:
    from passoproxy.config.load import Loaded
    from passoproxy.control import Control
    from passoproxy.core.events import Event

Data = dict[str, Any]
Body = bytes | Mapping[str, object] | None

T = TypeVar("T")
DEADLINE = 10.0
"""Seconds within which a daemon shows that it lives. One that is stopped takes every connection and answers none."""

PATIENCE = 120.0
"""Seconds that an order may take while the daemon lives: a login's exchange with the provider may take a minute."""


# ---- a running daemon ------------------------------------------------------------------------------------------------


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
        """For `--json`: `pid`, `config`, `state_directory`."""
        if self._daemon is None:
            self._daemon = dict(self.ask("GET", "/api/daemon"))
        return self._daemon

    @property
    def in_words(self) -> str:
        """The same for people."""
        said = self.daemon
        config = f"configuration {said['config']}" if said.get("config") else "no configuration file"
        return f"pid {said.get('pid')}, {config}, state {said.get('state_directory')}"

    def ask(self, method: str, path: str, body: Body = None) -> Any:
        """One call of the control API; its JSON. Raises NotRunning, ServiceUnreachable if the daemon gives no sign of life, or Refused."""
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        with self._asked(method, path, content) as answer:
            return _understood(answer.status, answer.read())

    def call(
        self, method: str, path: str, body: Body, local: Callable[[Control], object], *, keep: bool = False
    ) -> Any:
        """As `ask`; what Local would do instead is not needed."""
        return self.ask(method, path, body)

    def warm(self, described: Sequence[object]) -> Iterator[Data]:
        """The outcome of each request that is described, as it comes; the daemon sends an empty line now and then. Raises as `ask` does."""
        content = json.dumps({"urls": list(described)}).encode()
        for line in filter(None, self.lines("/api/cache/warm", "POST", content)):
            try:
                yield dict(json.loads(line))
            except (ValueError, TypeError) as error:
                raise _ended(error) from error

    def lines(self, path: str, method: str = "GET", content: bytes | None = None) -> Iterator[str]:
        """The lines of a stream as they come, until the daemon ends it; empty ones are signs of life. Raises as `ask` does."""
        with self._asked(method, path, content, {"Accept": "application/jsonl"}) as answer:
            if answer.status != 200:
                _understood(answer.status, answer.read())
            while line := answer.readline():
                yield line.decode("utf-8", "replace").strip()

    @contextlib.contextmanager
    def _asked(
        self, method: str, path: str, content: bytes | None, fields: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to one request, to be read inside."""
        connection = _UnixConnection(self._folder, self._deadline, self._name)
        try:
            kind = {"Content-Type": "application/json"} if content is not None else {}
            connection.request(method, path, content, {**kind, **(fields or {})})
            end = time.monotonic() + PATIENCE
            while not connection.has_answer(self._deadline / 2):
                self._look()
                if time.monotonic() >= end:
                    raise ServiceUnreachable(f"the daemon was not done within {PATIENCE:g} s; see its log")
            yield connection.getresponse()
        except TimeoutError as error:
            at, within = self._folder / (self._name or control_socket.NAME), f"{self._deadline:g} s"
            raise ServiceUnreachable(
                f"{at}: the daemon did not answer within {within}; it is stopped, or too busy: see its log"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise _ended(error) from error
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

    def ready(self) -> tuple[bool, str]:
        """Whether `/readyz` is 200, and its first line. Raises as `ask` does."""
        with self._asked("GET", "/readyz", None) as answer:
            return answer.status == 200, answer.readline().decode("utf-8", "replace").strip()

    def quit(self) -> None:
        """Ends the daemon, and returns when its process has ended; if that cannot be watched (it is of another pid namespace, or a filter of
        system calls forbids it), when its socket has gone.

        Raises as `ask` does, and CommandFailure if it takes longer than PATIENCE.
        """
        with contextlib.closing(control_socket.connect(self._folder, self._deadline, self._name)) as at:
            pid = peer_process(at)
        with contextlib.ExitStack() as stack:
            process = None
            if pid and hasattr(os, "pidfd_open"):
                with suppress(OSError):
                    process = os.pidfd_open(pid)
                    stack.callback(os.close, process)
            began = None if process is not None or pid else self._began_at()
            self.ask("POST", "/api/quit")
            end = time.monotonic() + PATIENCE
            while not (select.select([process], [], [], 0.2)[0] if process is not None else self._has_gone(pid, began)):
                if time.monotonic() >= end:
                    raise CommandFailure(f"the daemon has not ended within {PATIENCE:g} s; see its log")

    def _began_at(self) -> object:
        """When the daemon began, which tells it from others where its process cannot be seen."""
        return self.ask("GET", "/api/status").get("started_at")

    def _has_gone(self, pid: int, began: object) -> bool:
        """Whether the process `pid` (0: unknown, it began at `began`) listens no more; another one may have taken its place."""
        try:
            with contextlib.closing(control_socket.connect(self._folder, self._deadline, self._name)) as at:
                if peer_process(at) != pid:
                    return True
            if not pid and self._began_at() != began:
                return True
        except NotRunning:
            return True
        except CommandFailure:
            pass  # it ends just now
        time.sleep(0.2)
        return False

    def again(self) -> Remote | None:
        """The same daemon, at another socket perhaps: another process may own the pair now. None if it has ended."""
        for other in (Remote(self._folder, self._deadline), *self.followers()):
            with suppress(CommandFailure):
                if other.daemon == self.daemon:
                    return other
        return None

    def followers(self) -> list[Remote]:
        """The daemons that follow this one, on the same folder."""
        return [Remote(self._folder, self._deadline, name) for name in control_socket.followers(self._folder)]


def _ended(error: Exception) -> CommandFailure:
    return CommandFailure(f"the daemon ended the conversation ({error}); see its log")


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


# ---- the folders of a daemon that does not run -----------------------------------------------------------------------


class Local:
    """The folders of a daemon that does not run: opened for one call, closed after it."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded

    @property
    def daemon(self) -> Data:
        """As Remote's, without a pid."""
        settings, path = self.loaded.settings, self.loaded.path
        return {
            "pid": None,
            "config": str(path.absolute()) if path else None,
            "state_directory": str(settings.state.folder),
            "cache_directory": None if settings.store.url else str(settings.cache.folder),
        }

    @property
    def in_words(self) -> str:
        """The same for people."""
        settings = self.loaded.settings
        cache = f"folders {settings.state.folder} and {settings.cache.folder}"
        return cache if settings.store.url is None else f"folder {settings.state.folder} and on store.url"

    def call(
        self, method: str, path: str, body: Body, local: Callable[[Control], object], *, keep: bool = False
    ) -> Any:
        """The result of `local`. `keep` is for work that changes or sends the pair."""
        import asyncio

        from passoproxy.compose import standing_still

        async def whole() -> Any:
            async with standing_still(self.loaded, keep=keep, observer=tell) as control:
                found = local(control)
                return await found if inspect.isawaitable(found) else found

        from passoproxy.server.admin.actions import ACTIONS, target_of

        if not (action := ACTIONS.get((method, path.partition("?")[0]), "")):
            return asyncio.run(whole())
        told = body if isinstance(body, Mapping) else {"force": path.endswith("?force=1")}
        with self.audited(action, target_of(told)):
            return asyncio.run(whole())

    @contextlib.contextmanager
    def audited(self, action: str, target: str = "") -> Iterator[None]:
        """Writes the audit line of what was done inside to standard error, as the daemon would write it; a failure has its own line there."""
        from passoproxy.compose.instance import telemetry
        from passoproxy.core.events import Audited

        yield
        logs = telemetry(self.loaded).logs
        logs.open()
        logs.write(Audited(action, f"uid {os.getuid()}, pid {os.getpid()}", "a command", target))
        logs.close()


def tell(event: Event) -> None:
    """Says on standard error what an operator would find in the daemon's log."""
    from passoproxy.core.events import AlertFailed, PairFileDamaged, PairNotSaved, StoreFailed, Warned

    if isinstance(event, AlertFailed | PairFileDamaged | PairNotSaved | StoreFailed | Warned):
        note(f"passoproxy: warning: {event.detail}")


async def in_thread(work: Callable[[], T]) -> T:
    """The result of `work` in a thread that ends with the process: a command that is stopped does not wait for it."""
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
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, fault)

    threading.Thread(target=run, daemon=True).start()
    return await done


# ---- which one -------------------------------------------------------------------------------------------------------

_GIVEN = ("default", "environment STATE_DIRECTORY", "environment XDG_STATE_HOME")
"""Sources of a state folder that is not configured."""


def handle(config: Path | None, state: Path | None) -> Remote | Local:
    """The running daemon, or its folders; only these need the daemon's secrets.

    Raises as `running` does, but for NotRunning, and AccessDenied for folders of another user.
    """
    try:
        return running(config, state)
    except NotRunning:
        loaded = load(config, state=state)
    folder = loaded.settings.state.folder
    with suppress(OSError):
        # An ordinary user has a folder of his own in there; root's would be beside the one that the daemon has.
        if os.geteuid() == 0 and (owner := os.stat(folder).st_uid) != 0 and (folder / "lock").exists():
            raise AccessDenied(f"{folder}: belongs to user {owner}, whose daemon is not running", user=owner)
    return Local(loaded)


def running(config: Path | None, state: Path | None) -> Remote:
    """The one daemon that is meant: that of the folder `state`, of the configuration's folder, or of a usual folder.

    Raises NotRunning, UsageFailure if two run and none is named, AccessDenied if it cannot be told whether one runs, and
    ConfigurationError.
    """
    from passoproxy.config.load import chosen_file
    from passoproxy.config.sources import state_folders

    if state is not None:
        return _the_one([state.absolute()])
    try:
        loaded = load(config, secrets=False)
    except ConfigurationError:
        # without a file, the environment alone need not make a configuration
        if chosen_file(config, os.environ, Path.cwd()) is not None:
            raise
        return _the_one(state_folders(os.environ))
    if loaded.sources.get("state.directory", "default") in _GIVEN:
        return _the_one(state_folders(os.environ))
    try:
        return _the_one([loaded.settings.state.folder])
    except NotRunning:
        # its environment may have put the same configuration's daemon elsewhere
        with suppress(CommandFailure):
            if loaded.path is not None:
                return _the_one(state_folders(os.environ), loaded.path)
        raise


def meant(config: Path | None, state: Path | None) -> Remote:
    """As `running`; if several daemons share a folder, the one whose configuration is named, else the one that owns the pair."""
    from passoproxy.config.load import chosen_file

    remote, path = running(config, state), chosen_file(config, os.environ, Path.cwd())
    if path is not None and remote.daemon["config"] != str(path.absolute()):
        for other in remote.followers():
            with suppress(CommandFailure):  # it has gone
                if other.daemon["config"] == str(path.absolute()):
                    return other
    return remote


def _the_one(folders: list[Path], path: Path | None = None) -> Remote:
    """The daemon of these folders, and of the configuration `path` if that is given."""
    denied = list[AccessDenied]()
    found = _alive(folders, denied)
    if path is not None:
        found = [each for each in found if each.daemon["config"] == str(path.absolute())]
    if len(found) > 1:
        named = "; ".join(f"--state {each.daemon['state_directory']} ({each.in_words})" for each in found)
        raise UsageFailure(f"{len(found)} daemons are running; name one: {named}")
    if found:
        return found[0]
    if denied:
        raise denied[0]
    shown = " or ".join(map(str, folders))
    raise NotRunning(
        f"no daemon is running on {shown}; start one with 'passoproxy serve', or name its folder with --state"
    )


def _alive(folders: Iterable[Path], denied: list[AccessDenied]) -> list[Remote]:
    """The daemons that run on these folders. A folder that this user may not look at goes to `denied`."""
    found, seen = list[Remote](), set[tuple[int, int]]()
    for folder in folders:
        try:
            there = os.stat(folder)
            weak_step(folder, there.st_uid)  # a link of another user leads nowhere
            if (there.st_dev, there.st_ino) in seen:
                continue
            seen.add((there.st_dev, there.st_ino))
            remote = Remote(folder)
            remote.daemon  # noqa: B018 the first word between us: does one answer?
            found.append(remote)
        except (FileNotFoundError, NotADirectoryError, NotRunning):
            pass
        except PermissionError as fault:
            user = 0 if fault.errno == errno.EACCES else None
            denied.append(AccessDenied(f"{folder}: {fault.strerror}", user=user, state=folder))
        except OSError as fault:
            raise CommandFailure(f"{folder}: cannot be looked at ({fault.strerror}); name another folder") from fault
        except AccessDenied as fault:
            denied.append(fault)
    return found


def report(held: Remote | Local, data: Mapping[str, object], as_json: bool, *lines: str) -> None:
    """The outcome of a command that changed something: JSON, or `lines`; and the daemon or the folders that it changed."""
    if as_json:
        say_json({**data, "daemon": held.daemon})
        return
    for line in lines:
        say(line)
    say_who(held)


def say_who(held: Remote | Local) -> None:
    """Names, on standard error, the daemon or the folders that a command has changed."""
    if isinstance(held, Local):
        note(f"passoproxy: no daemon is running; worked on the {held.in_words}")
    else:
        note(f"passoproxy: done by the daemon with {held.in_words}")

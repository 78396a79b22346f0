"""One rehearsal's environment: the user's configuration pointed at a sandbox, daemons in processes of their own, and a client that keeps asking.

The margins of the configuration stay; everything that could reach the real pair, state, origin or people goes.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import resource
import secrets
import signal
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web

from passoproxy.config.settings import Settings
from passoproxy.core.routes import RouteTable
from passoproxy.drill.time_compression import Pace, SharedSeconds
from passoproxy.errors import CannotCreate, ServiceUnreachable
from passoproxy.host.system import free_ports
from passoproxy.sandbox.app import Sandbox
from passoproxy.sandbox.options import SandboxOptions

_KEPT = {
    "upstream": (
        "connect_timeout",
        "read_timeout",
        "max_connections",
        "max_concurrency",
        "queue_timeout",
        "user_agent",
    ),
    "oauth": ("client_auth", "scope", "pkce", "refresh_at", "lost_answer_replay", "refresh_on_exit"),
    "server": ("limits", "shutdown_grace"),
    "cache": ("max_size", "memory_size", "max_entry_size", "mode", "shared", "on_revoked"),
}
"""What a rehearsal takes over. All else is the default, so that a key of a later version cannot reach anything real."""


def configuration(
    settings: Settings, folder: Path, *, origin: str, provider: str, proxy_port: int, admin_port: int
) -> dict[str, Any]:
    """The rehearsal's configuration. `origin` and `provider` are the sandbox's base URLs, `folder` that of the rehearsal."""
    own = settings.plain()
    told = settings.oauth.refresh_token_lifetime
    tree: dict[str, Any] = {section: {name: own[section][name] for name in names} for section, names in _KEPT.items()}
    tree["provider"] = own["provider"]
    tree["routes"] = own["routes"]
    tree["upstream"] |= {"url": origin, "proxy": "none"}
    tree["oauth"] |= {
        "authorization_url": f"{provider}/oauth/authorize",
        "token_url": f"{provider}/oauth/token",
        "client_id": "demo",
        "client_secret": "demo",
        "redirect_url": f"http://127.0.0.1:{admin_port}/oauth/callback",
        # the sandbox's refresh tokens live as long as its access tokens
        "refresh_token_lifetime": told if isinstance(told, str) else "same",
    }
    tree["server"] |= {"listen": f"127.0.0.1:{proxy_port}"}
    tree["admin"] = {"listen": f"127.0.0.1:{admin_port}"}
    tree["state"] = {"directory": str(folder / "state")}
    if settings.state.key is not None or settings.state.key_file is not None:
        tree["state"]["key"] = base64.b64encode(secrets.token_bytes(32)).decode()
    tree["cache"] |= {"directory": str(folder / "cache")}
    tree["log"] = {"level": "warning", "access": False}
    return tree


_SAMPLES = (
    "/api/v2/infosystem/general?lang=en",
    "/api/v2/content/entry/json?lang=en&countries=ZA&nat=DE",
    "/api/v2/content/health/json?lang=en&countries=KE",
    "/api/v2/countries?limit=10",
    "/api/v2/account/subscription",
)


def stored_target(settings: Settings) -> str | None:
    """A target that the sandbox answers and the user's routes store, of the shortest `ttl` so that its stale windows are rehearsed; None if there is none."""
    table = RouteTable(settings.policies(), settings.cache.as_mode())
    found = [(table.find(target.partition("?")[0]), target) for target in _SAMPLES]
    kept = [(route.ttl, target) for route, target in found if route.override and route.ttl and "GET" in route.methods]
    return min(kept)[1] if kept else None


def write(tree: dict[str, Any], path: Path) -> None:
    """`tree` as a file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(tree, sort_keys=False))


def stage_folder(state: Path) -> tempfile.TemporaryDirectory[str]:
    """A temporary folder on the disk where the real pair lives, so that the disk behaves as it would. Raises CannotCreate."""
    beside = next(each for each in (state, *state.parents) if each.is_dir())
    choices = [beside.parent, beside] if beside == state else [beside]
    device = beside.stat().st_dev
    for each in choices:
        if each.stat().st_dev == device:
            with contextlib.suppress(OSError):
                return tempfile.TemporaryDirectory(prefix=".passoproxy-drill-", dir=each, ignore_cleanup_errors=True)
    raise CannotCreate(
        f"{beside}: no folder can be made there or beside it for the rehearsal; run 'passoproxy drill' as the user of the daemon"
    )


def environment() -> dict[str, str]:
    """The environment without what configures the user's own daemon or names its service manager."""
    gone = ("PASSOPROXY_", "CREDENTIALS_", "NOTIFY_", "LISTEN_", "WATCHDOG_", "STATE_DIRECTORY", "CACHE_DIRECTORY")
    return {name: value for name, value in os.environ.items() if not name.startswith(gone)}


class ProviderDoor:
    """The provider's address: the sandbox on a port of its own. While it is closed, connections are refused."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox, self.port = sandbox, 0
        self._site: web.BaseSite | None = None

    async def open(self) -> None:
        """Listens, on the same port each time."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = int(listener.getsockname()[1])
        self._site = await self._sandbox.listen(listener)

    async def close(self) -> None:
        """Stops listening; connections under way go on."""
        if self._site is not None:
            await self._site.stop()
            self._site = None


ASKED_EVERY = 0.1
"""Real seconds between two requests of the client."""

START = 30.0
"""Real seconds that a daemon may take to start on a busy machine."""

USUAL_START = 1.0
"""Real seconds of a start on a machine that is not too busy; the rest is lateness of the machine."""

NEW = "/api/v2/account/subscription?turn={turn}"
"""What only the origin can answer: another address each time."""


@dataclass(slots=True)
class DaemonProcess:
    """A rehearsed daemon. `is_up`: it has started, so that clients may ask it."""

    name: str
    proxy_port: int
    admin_port: int
    process: asyncio.subprocess.Process
    is_up: bool = False

    @property
    def is_alive(self) -> bool:
        return self.process.returncode is None

    def send(self, how: signal.Signals) -> None:
        if self.is_alive:
            self.process.send_signal(how)

    async def end(self, how: signal.Signals) -> None:
        """Ends it by a signal, and waits."""
        self.send(how)
        try:
            await asyncio.wait_for(self.process.wait(), START)
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self.process.wait()

    def limit_files(self, most: int) -> None:
        """Lets it write no file over `most` bytes: 0 is a full disk, -1 no limit."""
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


@dataclass(slots=True)
class Stage:
    """What one trial works with. Times are seconds of the rehearsal unless they say real."""

    settings: Settings
    folder: Path
    pace: Pace
    lifetime: float
    sandbox: Sandbox
    provider: ProviderDoor
    steps: SharedSeconds
    """By how much the daemons' wall clock is wrong."""
    late: SharedSeconds
    """By how many real seconds daemons or client were late at most: if it is much, a verdict says more of the machine."""
    session: aiohttp.ClientSession
    stored: str | None
    """The target that the client asks for again and again, because the user's routes store it."""
    daemons: list[DaemonProcess] = field(default_factory=list)
    seen: Counter[str] = field(default_factory=Counter)
    """Answers to requests that only the origin can answer, by status, or `away` or `broken` if there was none."""
    seen_stored: Counter[str] = field(default_factory=Counter)
    """The same for `stored`."""
    generation: int = 0
    """The generation that the trial began with; recovery means a newer one."""
    lowest_runway: float | None = None
    last: dict[str, Any] = field(default_factory=dict)
    """The last status of the pair that a daemon gave."""
    began: float = 0.0
    start_took: float = 0.0
    """Real seconds that the last daemon took to start."""

    # ---- daemons -------------------------------------------------------------------------------------------------------

    @property
    def first(self) -> DaemonProcess:
        return self.daemons[0]

    async def begin(self) -> None:
        """Starts the first daemon, gives it a pair, and waits until the client got an answer of each kind. Raises ServiceUnreachable."""
        daemon = await self._start("first", pair=True)
        # issued only now, so that a slow start takes nothing from the pair's life
        self.began = self.pace.now()
        _leave(self.folder / "pair.json", json.dumps(self.sandbox.issue_pair()))
        if not await self.comes(lambda: self._has_pair(daemon), START):
            raise self._not_started("first")
        if self.stored is not None:
            await self.comes(lambda: self._is_stored(daemon), START)
        daemon.is_up = True
        # On a busy machine the trial would strike before the client has asked for anything.
        await self.comes(
            lambda: self._answered(self.seen) and (self.stored is None or self._answered(self.seen_stored)), START
        )
        self.generation = int((await self.status(daemon)).get("generation", 0))

    async def start(self, name: str = "first") -> DaemonProcess:
        """Starts a daemon on the one state folder. Raises ServiceUnreachable if it does not come up."""
        daemon = await self._start(name)
        daemon.is_up = True
        return daemon

    async def _start(self, name: str, *, pair: bool = False) -> DaemonProcess:
        ports = free_ports(2)
        tree = configuration(
            self.settings,
            self.folder,
            origin=self.sandbox.base_url,
            provider=f"http://127.0.0.1:{self.provider.port}",
            proxy_port=ports[0],
            admin_port=ports[1],
        )
        if name != "first":
            tree["cache"]["directory"] += f"-{name}"
        config, part = self.folder / f"{name}.yaml", self.folder / f"{name}.json"
        write(tree, config)
        words = {
            "pace": [self.pace.speed, self.pace.begun_at, self.pace.wall],
            "steps": str(self.folder / "steps"),
            "late": str(self.folder / "late"),
            "config": str(config),
            "pair": str(self.folder / "pair.json") if pair else None,
        }
        part.write_text(json.dumps(words))
        starting = self.pace.now()
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "passoproxy.drill.process", str(part),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), start_new_session=True,
            )  # fmt: skip
        daemon = DaemonProcess(name, ports[0], ports[1], process)
        self.daemons = [each for each in self.daemons if each.is_alive] + [daemon]
        is_up = await self.comes(lambda: self.status(daemon), START)
        self.start_took = self.pace.real(self.pace.now() - starting)
        self.late.raise_to(self.start_took - USUAL_START)
        if not is_up:
            raise self._not_started(name)
        return daemon

    def _not_started(self, name: str) -> ServiceUnreachable:
        said = (self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return ServiceUnreachable(f"the daemon of the rehearsal did not start: {said[-1] if said else 'no message'}")

    async def status(self, daemon: DaemonProcess) -> dict[str, Any]:
        """A daemon's status of the pair; {} if there is no answer."""
        if not daemon.is_alive:
            return {}
        url = f"http://127.0.0.1:{daemon.admin_port}/api/status"
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError):
            async with self.session.get(url, timeout=aiohttp.ClientTimeout(2)) as answer:
                return dict((await answer.json())["token"])
        return {}

    async def _has_pair(self, daemon: DaemonProcess) -> bool:
        return bool((await self.status(daemon)).get("generation"))

    async def _is_stored(self, daemon: DaemonProcess) -> bool:
        url = f"http://127.0.0.1:{daemon.proxy_port}{self.stored}"
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with self.session.get(url, timeout=aiohttp.ClientTimeout(START)) as answer:
                await answer.read()
                return answer.headers.get("Cache-Status", "").startswith("passoproxy; hit")
        return False

    @staticmethod
    def _answered(seen: Counter[str]) -> bool:
        return any(word.isdigit() and int(word) < 400 for word in seen)

    # ---- time ----------------------------------------------------------------------------------------------------------

    async def at(self, share: float) -> None:
        """Waits until `share` of the first pair's lifetime is over."""
        await self.pace.sleep(max(0.0, self.began + share * self.lifetime - self.pace.now()))

    async def comes(self, condition: Callable[[], Any], real_seconds: float) -> Any:
        """The first true value of `condition` (awaited if it can be), or the last one."""
        loop = asyncio.get_running_loop()
        end = loop.time() + real_seconds
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value or loop.time() >= end:
                return value
            await asyncio.sleep(0.02)

    async def recovers(self) -> dict[str, Any]:
        """Waits for a healthy chain of a newer generation than `generation`, or a dead one, for up to a lifetime; the last status."""

        async def seen() -> bool:
            for daemon in self.daemons:
                token = await self.status(daemon)
                self.last = token or self.last
                is_newer = token.get("generation", 0) > self.generation and token.get("saved", True)
                if token.get("chain") == "dead" or (token.get("chain") == "healthy" and is_newer):
                    return True
            return False

        await self.comes(seen, max(START / 3, self.pace.real(self.lifetime)))
        return self.last

    # ---- what is seen --------------------------------------------------------------------------------------------------

    def refreshes(self) -> list[Any]:
        """Every refresh that the provider saw."""
        return [each for each in self.sandbox.journal.requests() if each.grant_type == "refresh_token"]

    async def keep_asking(self) -> None:
        """A client, until it is cancelled: it asks the daemon that started last, in turn for what is stored and for what only the origin has."""
        turn, loop = 0, asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(ASKED_EVERY)
            self.late.raise_to(loop.time() - began - ASKED_EVERY)
            up = [each for each in self.daemons if each.is_up and each.is_alive]
            if not up and not turn:
                continue  # the trial has not begun
            turn += 1
            target, seen = NEW.format(turn=turn), self.seen
            if self.stored is not None and turn % 2:
                target, seen = self.stored, self.seen_stored
            seen[await self._asked(up[-1], target) if up else "away"] += 1
            runway = (await self.status(up[-1])).get("runway_seconds") if up else None
            if isinstance(runway, int | float):
                self.lowest_runway = runway if self.lowest_runway is None else min(self.lowest_runway, runway)

    async def _asked(self, daemon: DaemonProcess, target: str) -> str:
        url = f"http://127.0.0.1:{daemon.proxy_port}{target}"
        try:
            async with self.session.get(url, timeout=aiohttp.ClientTimeout(START)) as answer:
                await answer.read()
                return str(answer.status)
        except (aiohttp.ClientConnectorError, ConnectionError):
            return "away"
        except (aiohttp.ClientError, TimeoutError):
            return "broken"


@contextlib.asynccontextmanager
async def set_up(settings: Settings, folder: Path, pace: Pace, options: SandboxOptions) -> AsyncIterator[Stage]:
    """A stage without daemons; everything on it has ended afterwards."""
    sandbox = Sandbox(options, clock=pace.now, sleep=pace.sleep)
    async with contextlib.AsyncExitStack() as stack:
        await sandbox.start()
        stack.push_async_callback(sandbox.close)
        provider = ProviderDoor(sandbox)
        await provider.open()
        steps, late = (SharedSeconds(folder / name) for name in ("steps", "late"))
        stack.callback(steps.close)
        stack.callback(late.close)
        session = aiohttp.ClientSession(trust_env=False, connector=aiohttp.TCPConnector(force_close=True))
        await stack.enter_async_context(session)
        stage = Stage(
            settings, folder, pace, options.lifetime, sandbox, provider, steps, late, session, stored_target(settings)
        )
        try:
            yield stage
        finally:
            for daemon in stage.daemons:
                await daemon.end(signal.SIGKILL)


def _leave(path: Path, text: str) -> None:
    """A file that only its owner can read, and that is whole as soon as it is there."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.rename(path)

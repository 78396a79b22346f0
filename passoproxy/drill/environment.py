"""The user's own configuration, pointed at a sandbox: margins stay, everything that could reach the real pair, state, origin or people goes.

A way to the provider that can be closed: while it is, connections are refused as if nobody were there.

One rehearsal's stage: a sandbox of its own, daemons that can be killed, frozen and starved of disk, and a client that never stops asking.
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
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import yaml

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
"""What a rehearsal takes over. All else is the default, so that a key of a later version reaches nobody by being forgotten here."""


def configuration(
    settings: Settings, folder: Path, *, origin: str, provider: str, proxy_port: int, admin_port: int
) -> dict[str, Any]:
    """The tree of the rehearsal's file. `origin` and `provider` are the sandbox's base URLs, `folder` that of the rehearsal."""
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
    """What the sandbox answers and the user's routes store, of the shortest `ttl` so that its stale windows are rehearsed too; None where nothing is."""
    table = RouteTable(settings.policies(), settings.cache.as_mode())
    found = [(table.find(target.partition("?")[0]), target) for target in _SAMPLES]
    kept = [(route.ttl, target) for route, target in found if route.override and route.ttl and "GET" in route.methods]
    return min(kept)[1] if kept else None


def write(tree: dict[str, Any], path: Path) -> None:
    """`tree` as a file that only we can read."""
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
    """Ours, without what configures a daemon of the person's own or tells a service manager of it."""
    gone = ("PASSOPROXY_", "CREDENTIALS_", "NOTIFY_", "LISTEN_", "WATCHDOG_", "STATE_DIRECTORY", "CACHE_DIRECTORY")
    return {name: value for name, value in os.environ.items() if not name.startswith(gone)}


class Relay:
    """Passes connections to a port on loopback on to another one there."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._passing: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self) -> None:
        """Listens, on the same port each time."""
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stops listening; connections under way go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def end(self) -> None:
        """Stops listening, and ends what is under way."""
        await self.close()
        left = tuple(self._passing)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await asyncio.sleep(0)  # closed transports let go of their sockets in the loop's next turn

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        try:
            await asyncio.gather(_pour(reader, back), _pour(there, writer))
        finally:
            for each in (writer, back):
                each.close()


async def _pour(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(64 * 1024):
            target.write(data)
            await target.drain()
        # an end is passed on as an end, so that a dropped connection is seen as dropped
        if target.can_write_eof():
            target.write_eof()


ASKED_EVERY = 0.1
"""Real seconds between two requests of the client."""

START = 30.0
"""Real seconds that a daemon may take to be there on a busy machine."""

USUAL_START = 1.0
"""Real seconds within which a daemon is there on a machine that is not too busy; what it takes beyond that, the machine was late."""

NEW = "/api/v2/account/subscription?turn={turn}"
"""What only the origin can answer: another address each time."""


@dataclass(slots=True)
class Actor:
    """A daemon on the stage; `name` tells two of them apart."""

    name: str
    proxy_port: int
    admin_port: int
    process: asyncio.subprocess.Process
    up: bool = False

    @property
    def alive(self) -> bool:
        return self.process.returncode is None

    def send(self, how: signal.Signals) -> None:
        if self.alive:
            self.process.send_signal(how)

    async def end(self, how: signal.Signals) -> None:
        """Ends it by a signal, and waits."""
        self.send(how)
        try:
            await asyncio.wait_for(self.process.wait(), START)
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self.process.wait()


@dataclass(slots=True)
class Stage:
    """Where one trial is played. Times are seconds of the rehearsal unless they say real."""

    settings: Settings
    folder: Path
    pace: Pace
    lifetime: float
    sandbox: Sandbox
    relay: Relay
    steps: SharedSeconds
    """By how much the daemons' wall clock is wrong."""
    late: SharedSeconds
    """By how many real seconds the daemons, or whoever plays beside them, were late at most: where it is much, a verdict says more of the machine."""
    session: aiohttp.ClientSession
    actors: list[Actor] = field(default_factory=list)
    stored: str | None = None
    """What the user's routes store and the client asks for again and again; None where they store nothing of the sandbox's."""
    seen: Counter[str] = field(default_factory=Counter)
    """Answers to requests that only the origin can answer, by status, or by what came in the place of an answer."""
    seen_stored: Counter[str] = field(default_factory=Counter)
    """The same for `stored`."""
    lowest_runway: float | None = None
    last: dict[str, Any] = field(default_factory=dict)
    began: float = 0.0
    start_took: float = 0.0
    """Real seconds that the last daemon took to be there."""
    opened: bool = False
    """Whether a daemon with a pair has been there: what the client sees counts from then on."""

    # ---- daemons -------------------------------------------------------------------------------------------------------

    async def enter(self, name: str = "first", *, pair: bool = False) -> Actor:
        """Starts a daemon on the one state folder. Raises ServiceUnreachable where it does not come up."""
        document = self.folder / "pair.json"
        ports = free_ports(2)
        tree = configuration(
            self.settings,
            self.folder,
            origin=self.sandbox.base_url,
            provider=f"http://127.0.0.1:{self.relay.port}",
            proxy_port=ports[0],
            admin_port=ports[1],
        )
        if name != "first":
            tree["cache"]["directory"] += f"-{name}"
        config, part = self.folder / f"{name}.yaml", self.folder / f"{name}.json"
        write(tree, config)
        pace = [self.pace.speed, self.pace.begun_at, self.pace.wall]
        words = {
            "pace": pace,
            "steps": str(self.folder / "steps"),
            "late": str(self.folder / "late"),
            "config": str(config),
        }
        part.write_text(json.dumps({**words, "pair": str(document) if pair else None}))
        starting = self.pace.now()
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "passoproxy.drill.process", str(part),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), start_new_session=True,
            )  # fmt: skip
        actor = Actor(name, ports[0], ports[1], process)
        self.actors = [each for each in self.actors if each.alive] + [actor]
        up = await self.comes(lambda: self.status(actor), START)
        self.start_took = self.pace.real(self.pace.now() - starting)
        self.late.raise_to(self.start_took - USUAL_START)
        if up and pair:
            # issued only now, so that a slow start of ours takes nothing from its life
            self.began = self.pace.now()
            _leave(document, json.dumps(self.sandbox.issue_pair()))
            up = await self.comes(lambda: self._has_pair(actor), START)
            if up and self.stored is not None:
                await self.comes(lambda: self._is_stored(actor), START)
        if not up:
            said = (self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
            raise ServiceUnreachable(
                f"the daemon of the rehearsal did not start: {said[-1] if said else 'it said nothing'}"
            )
        actor.up = self.opened = True
        return actor

    async def status(self, actor: Actor) -> dict[str, Any]:
        """What a daemon says of the pair; {} while it says nothing."""
        if not actor.alive:
            return {}
        url = f"http://127.0.0.1:{actor.admin_port}/api/status"
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError):
            async with self.session.get(url, timeout=aiohttp.ClientTimeout(2)) as answer:
                return dict((await answer.json())["token"])
        return {}

    async def generation(self, actor: Actor) -> int:
        """The generation that it holds. Raises ServiceUnreachable where it does not say."""
        token = await self.comes(lambda: self.status(actor), START)
        if "generation" not in token:
            raise ServiceUnreachable(f"the {actor.name} daemon of the rehearsal does not answer")
        return int(token["generation"])

    async def _has_pair(self, actor: Actor) -> bool:
        return bool((await self.status(actor)).get("generation"))

    async def _is_stored(self, actor: Actor) -> bool:
        url = f"http://127.0.0.1:{actor.proxy_port}{self.stored}"
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with self.session.get(url, timeout=aiohttp.ClientTimeout(START)) as answer:
                await answer.read()
                return answer.headers.get("Cache-Status", "").startswith("passoproxy; hit")
        return False

    def limit_files(self, actor: Actor, most: int) -> None:
        """Lets a daemon write no file over `most` bytes: 0 is a full disk, -1 no limit."""
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(actor.process.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    # ---- time ----------------------------------------------------------------------------------------------------------

    async def at(self, share: float) -> None:
        """Waits until `share` of the first pair's lifetime is over."""
        await self.pace.sleep(max(0.0, self.began + share * self.lifetime - self.pace.now()))

    async def comes(self, condition: Callable[[], Any], real_seconds: float) -> Any:
        """The first true value of `condition` (awaited where it can be), or the last one."""
        loop = asyncio.get_running_loop()
        end = loop.time() + real_seconds
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value or loop.time() >= end:
                return value
            await asyncio.sleep(0.02)

    async def recovers(self, than: int, share: float = 0.5) -> dict[str, Any]:
        """Waits for a healthy chain of a generation over `than`, or a dead one, for up to `share` of a lifetime; what was seen last."""

        async def seen() -> dict[str, Any]:
            for actor in self.actors:
                token = await self.status(actor)
                self.last = token or self.last
                if token.get("chain") == "dead" or (
                    token.get("chain") == "healthy" and token.get("generation", 0) > than and token.get("saved", True)
                ):
                    return token
            return {}

        await self.comes(seen, max(START / 3, self.pace.real(share * self.lifetime)))
        return self.last

    # ---- what is seen --------------------------------------------------------------------------------------------------

    def refreshes(self) -> list[Any]:
        """Every refresh that the provider saw."""
        return [each for each in self.sandbox.journal.requests() if each.grant_type == "refresh_token"]

    async def keep_asking(self) -> None:
        """A client, until it is cancelled: it asks the daemon that came last, in turn for what is stored and for what only the origin can answer."""
        turn, loop = 0, asyncio.get_running_loop()
        while True:
            began = loop.time()
            await asyncio.sleep(ASKED_EVERY)
            self.late.raise_to(loop.time() - began - ASKED_EVERY)
            if not self.opened:
                continue
            turn += 1
            there = [each for each in self.actors if each.up and each.alive]
            target, seen = NEW.format(turn=turn), self.seen
            if self.stored is not None and turn % 2:
                target, seen = self.stored, self.seen_stored
            seen[await self._asked(there[-1], target) if there else "away"] += 1
            runway = (await self.status(there[-1])).get("runway_seconds") if there else None
            if isinstance(runway, int | float):
                self.lowest_runway = runway if self.lowest_runway is None else min(self.lowest_runway, runway)

    async def _asked(self, actor: Actor, target: str) -> str:
        url = f"http://127.0.0.1:{actor.proxy_port}{target}"
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
    """A stage with nobody on it yet; everything on it has ended afterwards."""
    sandbox = Sandbox(options, clock=pace.now, sleep=pace.sleep)
    await sandbox.start()
    relay = Relay(int(sandbox.base_url.rpartition(":")[2]))
    await relay.open()
    steps, late = SharedSeconds(folder / "steps"), SharedSeconds(folder / "late")
    session = aiohttp.ClientSession(trust_env=False, connector=aiohttp.TCPConnector(force_close=True))
    stage = Stage(
        settings, folder, pace, options.lifetime, sandbox, relay, steps, late, session, stored=stored_target(settings)
    )
    try:
        yield stage
    finally:
        for actor in stage.actors:
            await actor.end(signal.SIGKILL)
        await session.close()
        await relay.end()
        await sandbox.close()
        steps.close()
        late.close()


def _leave(path: Path, text: str) -> None:
    """A file that only we can read, and that is whole as soon as it is there."""
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_text(text)
    new.rename(path)

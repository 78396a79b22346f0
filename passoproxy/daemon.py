"""Runs a daemon: listeners, tasks, signals, readiness, and an orderly end. What it consists of is `compose`'s business."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from passoproxy.compose import Wired, telemetry, wire
from passoproxy.compose.reloading import Reloading
from passoproxy.compose.telling import authorities
from passoproxy.config.addresses import Address, FdAddress, TcpAddress, UnixAddress
from passoproxy.config.reading import Loaded, load
from passoproxy.control import keep_looking
from passoproxy.core.events import Lifecycle, TaskFailed, Warned
from passoproxy.core.peers import NetworkRule
from passoproxy.errors import ConfigurationError, Fault, PassoproxyError, ServiceUnreachable
from passoproxy.host import control_socket, systemd
from passoproxy.host.volatile import volatile
from passoproxy.server.admin_runner import AdminLimits, AdminRunner
from passoproxy.server.listeners import TlsFiles, inherit, open_tcp, open_unix, serve, tls_context
from passoproxy.server.peers import network_check, user_check, user_rule
from passoproxy.server.protocol import ProxyConnection

STATUS_EVERY = 5.0
"""Seconds between two lines for the service manager."""


def run(loaded: Loaded) -> int:
    """Runs the daemon until SIGTERM or SIGINT; the exit code. Raises PassoproxyError where it cannot start."""
    if sys.platform == "win32":  # pragma: no cover - refused before
        raise ConfigurationError(
            Fault("", "", "passoproxy does not run on native Windows", "use WSL2, a container or a Linux host")
        )
    import uvloop

    return uvloop.run(_serve(loaded))


async def _serve(loaded: Loaded) -> int:
    daemon = Daemon(loaded)
    stop = asyncio.Event()
    async with daemon.running():
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, stop.set)
        loop.add_signal_handler(signal.SIGHUP, daemon.reload_soon)
        await stop.wait()
    return 0


@dataclass(slots=True)
class Bound:
    """Where a daemon listens: sockets with the addresses that people use."""

    proxy: list[socket.socket] = field(default_factory=list)
    admin: list[socket.socket] = field(default_factory=list)
    probes: list[socket.socket] = field(default_factory=list)
    control: socket.socket | None = None

    def close(self) -> None:
        """Closes what was not handed to a server."""
        for each in (*self.proxy, *self.admin, *self.probes, *([self.control] if self.control else [])):
            each.close()


class Daemon:
    """One daemon in this process. `running` is a context: in it requests are answered, after it everything has ended."""

    def __init__(self, loaded: Loaded, *, reading: Callable[[], Loaded] | None = None) -> None:
        self.loaded = loaded
        self._reading = reading or (lambda: load(loaded.path))
        self.wired: Wired | None = None
        self.bound = Bound()
        self._tasks: list[asyncio.Task[None]] = []
        self._reloading: asyncio.Task[None] | None = None
        self._servers: list[asyncio.Server] = []
        self._runners: list[web.AppRunner] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Wired]:
        """Starts, yields the wired daemon, and ends it in order. Raises PassoproxyError where it cannot start."""
        told = telemetry(self.loaded)
        told.logs.open()
        try:
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(self.bound.close)
                self._bind()
                self.wired = wired = wire(self.loaded, told)
                await self._open(wired, stack)
                wired.observer(
                    Lifecycle("starting", f"configuration: {self.loaded.path or 'defaults and environment'}")
                )
                self._warn(wired)
                await self._listen(wired, stack)
                self._go(wired, stack)
                stack.push_async_callback(self._drain, wired)
                wired.control.facts.starting = False
                await wired.control.look_at_store()
                wired.observer(Lifecycle("ready", ", ".join(wired.control.facts.listeners)))
                systemd.ready(self._status_line(wired))
                yield wired
            wired.observer(Lifecycle("stopped"))
        finally:
            told.logs.close()

    # ---- starting ----------------------------------------------------------------------------------------------------

    def _bind(self) -> None:
        """Listeners first: a port in use must be told before a pair's folder is taken."""
        settings = self.loaded.settings
        inherited = systemd.listen_fds()
        wanted = list(settings.server.listen)
        if self.loaded.is_default("server.listen") and not _has_ipv6():
            wanted = [each for each in wanted if not (isinstance(each, TcpAddress) and ":" in each.host)]
        everyone = bool(settings.server.unix_peers)
        for address in wanted:
            self.bound.proxy += _opened(address, inherited, "server.listen", everyone=everyone)
        for address in settings.admin.listen:
            self.bound.admin += _opened(address, inherited, "admin.listen")
        for address in settings.admin.probe_listen:
            self.bound.probes += _opened(address, inherited, "admin.probe_listen")

    async def _open(self, wired: Wired, stack: contextlib.AsyncExitStack) -> None:
        stack.push_async_callback(wired.store.close)
        stack.push_async_callback(wired.road.caching.close)
        stack.push_async_callback(wired.road.pool.close)
        await wired.keeper.open()
        stack.push_async_callback(wired.keeper.close)
        self.bound.control = control_socket.listen(wired.state_folder)
        stack.callback(control_socket.remove, wired.state_folder)
        wired.control.reloading = Reloading(wired, self._reading)

    def _warn(self, wired: Wired) -> None:
        for warning in self.loaded.warnings:
            wired.observer(Warned(warning.code, str(warning)))
        folder = wired.state_folder
        if self.loaded.settings.oauth.grant == "authorization_code" and (why := volatile(folder)):
            text = f"state.directory {folder} {why}: the pair is gone with a restart of the machine or container; give it a durable folder"
            wired.observer(Warned("state_volatile", text))

    async def _listen(self, wired: Wired, stack: contextlib.AsyncExitStack) -> None:
        settings, shared = self.loaded.settings, wired.connections
        tls = settings.server.tls
        context = None
        if tls.cert_file is not None and tls.key_file is not None:
            context = tls_context(TlsFiles(tls.cert_file, tls.key_file, tls.client_ca_file, tls.min_version))
        try:
            peers = network_check(NetworkRule(settings.server.allowed_peers))
            users = user_check(user_rule(settings.server.unix_peers))
        except ValueError as error:
            raise ConfigurationError(Fault("", "", str(error))) from error
        for sock in self.bound.proxy:
            check = users if sock.family == socket.AF_UNIX else peers
            server = await serve(sock, lambda check=check: ProxyConnection(shared, check), context)  # type: ignore[misc]
            stack.callback(server.close)
            self._servers.append(server)
        given = settings.server.limits
        limits = AdminLimits(given.header_bytes, given.header_timeout, given.idle_timeout, given.connections)
        for app, sockets in ((wired.admin_app, self.bound.admin), (wired.probe_app, self.bound.probes)):
            if sockets:
                await self._site(AdminRunner(app, limits, wired.observer), sockets, stack)
        assert self.bound.control is not None
        await self._site(
            web.AppRunner(wired.control_app, access_log=None, shutdown_timeout=5.0), [self.bound.control], stack
        )
        facts = wired.control.facts
        facts.listeners = (
            *(f"proxy {_named(sock, 'https' if context else 'http')}" for sock in self.bound.proxy),
            *(f"admin {_named(sock, 'http')}" for sock in self.bound.admin),
            *(f"probes {_named(sock, 'http')}" for sock in self.bound.probes),
        )
        facts.authorities = authorities(
            settings, tuple(_port(sock) for sock in self.bound.proxy if sock.family != socket.AF_UNIX)
        )

    async def _site(
        self, runner: web.AppRunner, sockets: list[socket.socket], stack: contextlib.AsyncExitStack
    ) -> None:
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        for sock in sockets:
            await web.SockSite(runner, sock).start()

    def _go(self, wired: Wired, stack: contextlib.AsyncExitStack) -> None:
        """Begins the tasks that live as long as the daemon."""
        work: tuple[tuple[str, Coroutine[object, object, None]], ...] = (
            ("keeper", wired.keeper.run()),
            ("store", keep_looking(wired.control, wired.clock)),
            ("service manager", self._tell_manager(wired)),
        )
        for name, coroutine in work:
            task = asyncio.create_task(coroutine, name=name)
            task.add_done_callback(lambda done, name=name: self._ended(done, name))  # type: ignore[misc]
            self._tasks.append(task)
        stack.push_async_callback(self._end_tasks)

    def _ended(self, task: asyncio.Task[None], name: str) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and self.wired is not None:
            self.wired.observer(TaskFailed(name, f"{type(error).__name__}; it is not running any more"))

    # ---- living ------------------------------------------------------------------------------------------------------

    def reload_soon(self) -> None:
        """Re-reads the configuration; for SIGHUP."""
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.get_running_loop().create_task(self._reload())

    async def _reload(self) -> None:
        assert self.wired is not None
        systemd.reloading()
        with contextlib.suppress(PassoproxyError):  # told as an event already
            await self.wired.control.reload()
        systemd.ready(self._status_line(self.wired))

    async def _tell_manager(self, wired: Wired) -> None:
        interval = systemd.watchdog_interval()
        pause = min(STATUS_EVERY, interval / 2) if interval else STATUS_EVERY
        while True:
            if interval:
                systemd.alive()
            systemd.status(self._status_line(wired))
            await wired.clock.sleep(pause)

    def _status_line(self, wired: Wired) -> str:
        _, word, reason = wired.control.readiness(strict=False)
        token = wired.keeper.snapshot()
        runway = "no person needed" if token.runway_seconds is None else f"runway {token.runway_seconds / 60:.0f} min"
        return f"{word}{f' ({reason})' if reason else ''}; access token {token.access}, chain {token.chain}, {runway}"

    # ---- ending ------------------------------------------------------------------------------------------------------

    async def _drain(self, wired: Wired) -> None:
        wired.control.facts.draining = True
        wired.observer(Lifecycle("draining"))
        systemd.stopping("draining")
        for server in self._servers:
            server.close()
        await wired.connections.drain(self.loaded.settings.server.shutdown_grace)

    async def _end_tasks(self) -> None:
        """The keeper ends by itself when it is closed, after the step that it is in; the others are cancelled."""
        keeper, *others = self._tasks
        assert self.wired is not None
        for task in others:
            task.cancel()
        await self.wired.keeper.close()
        await asyncio.gather(keeper, *others, return_exceptions=True)
        if self._reloading is not None:
            await asyncio.gather(self._reloading, return_exceptions=True)


def _opened(
    address: Address, inherited: dict[str, list[int]], key: str, *, everyone: bool = False
) -> list[socket.socket]:
    match address:
        case TcpAddress(host, port):
            try:
                return [open_tcp(host, port)]
            except PassoproxyError as error:
                if key == "server.listen":
                    raise
                raise type(error)(str(error).replace("server.listen", key)) from error
        case UnixAddress(path):
            return [open_unix(Path(path), everyone=everyone)]
        case FdAddress(name):
            if name not in inherited:
                known = ", ".join(sorted(inherited)) or "none"
                raise ServiceUnreachable(
                    f"{key}: no socket named {name!r} was passed by the service manager (passed: {known}); check FileDescriptorName"
                )
            return [inherit(descriptor) for descriptor in inherited[name]]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def _named(sock: socket.socket, scheme: str) -> str:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"{scheme}://[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{scheme}://{name[0]}:{name[1]}"

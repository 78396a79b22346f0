"""Runs a daemon: listeners, tasks, signals, readiness, and an orderly end. What it consists of is `compose`'s business."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine

from aiohttp import web

from passoproxy.compose import Wired, telemetry, wire
from passoproxy.compose.binding import Bound, bind, name_of, ports_of
from passoproxy.compose.reloading import Reloading, keep_following
from passoproxy.compose.road import admin_limits_of
from passoproxy.compose.telling import authorities
from passoproxy.config.reading import Loaded, load
from passoproxy.control import keep_looking
from passoproxy.core.events import Lifecycle, TaskFailed, Warned
from passoproxy.core.peers import NetworkRule
from passoproxy.errors import ConfigurationError, Fault, PassoproxyError
from passoproxy.host import control_socket, systemd
from passoproxy.host.volatile import volatile
from passoproxy.ports import Clock
from passoproxy.server.admin_runner import AdminRunner
from passoproxy.server.certificates import Certificate
from passoproxy.server.listeners import TlsFiles, serve
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
    # Before the start, so that a signal during it ends in order too, and a reload then does not kill.
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload_soon)
    async with daemon.running():
        await stop.wait()
    return 0


class Daemon:
    """One daemon in this process. `running` is a context: in it requests are answered, after it everything has ended."""

    def __init__(
        self, loaded: Loaded, *, reading: Callable[[], Loaded] | None = None, clock: Clock | None = None
    ) -> None:
        """`clock` is for rehearsals and tests, which have a time of their own."""
        self.loaded = loaded
        self._clock = clock
        self._reading = reading or (lambda: load(loaded.path))
        self.wired: Wired | None = None
        self.bound = Bound()
        self._certificate: Certificate | None = None
        self._control: socket.socket | None = None
        self._control_hidden = False
        self._tasks: list[asyncio.Task[None]] = []
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False
        self._may_reload = False
        self._servers: list[asyncio.Server] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Wired]:
        """Starts, yields the wired daemon, and ends it in order. Raises PassoproxyError where it cannot start."""
        told = telemetry(self.loaded)
        told.logs.open()
        try:
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(self.bound.close)
                # Listeners first: a port in use must be told before a pair's folder is taken.
                bind(self.loaded, self.bound, systemd.listen_fds())
                self.wired = wired = wire(self.loaded, told, clock=self._clock)
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
                self._may_reload = True
                if self._reload_again:
                    self.reload_soon()
                yield wired
            wired.observer(Lifecycle("stopped"))
        finally:
            told.logs.close()

    # ---- starting ----------------------------------------------------------------------------------------------------

    async def _open(self, wired: Wired, stack: contextlib.AsyncExitStack) -> None:
        stack.push_async_callback(wired.store.close)
        stack.push_async_callback(wired.road.caching.close)
        stack.push_async_callback(wired.road.pool.close)
        await wired.keeper.open()
        stack.push_async_callback(self._end_keeper, wired)
        self._control = control_socket.listen(wired.state_folder)
        stack.callback(self._control.close)
        stack.callback(self._hide_control, wired)
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
            self._certificate = Certificate(TlsFiles(tls.cert_file, tls.key_file, tls.client_ca_file, tls.min_version))
            context = self._certificate.context
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
        for app, sockets in ((wired.admin_app, self.bound.admin), (wired.probe_app, self.bound.probes)):
            if sockets:
                runner = AdminRunner(app, admin_limits_of(settings), wired.observer)
                wired.admin_runners.append(runner)
                await self._site(runner, sockets, stack)
                stack.callback(self.bound.forget, sockets)
        assert self._control is not None
        control = web.AppRunner(wired.control_app, access_log=None, shutdown_timeout=5.0)
        await self._site(control, [self._control], stack)
        stack.callback(self._hide_control, wired)
        facts = wired.control.facts
        facts.listeners = (
            *(f"proxy {name_of(sock, 'https' if context else 'http')}" for sock in self.bound.proxy),
            *(f"admin {name_of(sock, 'http')}" for sock in self.bound.admin),
            *(f"probes {name_of(sock, 'http')}" for sock in self.bound.probes),
        )
        facts.ports = ports_of(self.bound.proxy)
        facts.authorities = authorities(settings, facts.ports)

    async def _site(
        self, runner: web.AppRunner, sockets: list[socket.socket], stack: contextlib.AsyncExitStack
    ) -> None:
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        for sock in sockets:
            await web.SockSite(runner, sock).start()

    def _go(self, wired: Wired, stack: contextlib.AsyncExitStack) -> None:
        """Begins the tasks that live as long as the daemon."""
        work: list[tuple[str, Coroutine[object, object, None]]] = [
            ("keeper", wired.keeper.run()),
            ("store", keep_looking(wired.control, wired.clock)),
            ("secrets", keep_following(wired)),
            ("service manager", self._tell_manager(wired)),
        ]
        if self._certificate is not None:
            work.append(("certificate", self._certificate.keep_following(wired.clock, wired.observer)))
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
        """Re-reads the configuration; for SIGHUP. During the start, as soon as that is done."""
        self._reload_again = True
        if self.wired is not None and self._may_reload and (self._reloading is None or self._reloading.done()):
            self._reloading = asyncio.get_running_loop().create_task(self._reload(self.wired))

    async def _reload(self, wired: Wired) -> None:
        while self._reload_again:  # asked for during a reload: the file may have changed after it was read
            self._reload_again = False
            systemd.reloading()
            try:
                await wired.control.reload()
            except PassoproxyError:
                pass  # told as an event already
            except Exception as fault:  # the daemon lives on, and its manager waits for the end of the reload
                wired.observer(TaskFailed("reload", f"{type(fault).__name__}; see 'passoproxy config check'"))
            systemd.ready(self._status_line(wired))

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
        self._may_reload, wired.control.facts.draining = False, True
        wired.observer(Lifecycle("draining"))
        systemd.stopping("draining")
        self.bound.forget(self.bound.proxy)
        for server in self._servers:
            server.close()
        await wired.connections.drain(wired.loaded.settings.server.shutdown_grace)

    def _hide_control(self, wired: Wired) -> None:
        """Takes the control socket's file away, once, while it listens and the pair is ours: later it could be another daemon's."""
        if not self._control_hidden:
            self._control_hidden = True
            control_socket.remove(wired.state_folder)

    async def _end_tasks(self) -> None:
        """All but the keeper's, which ends by itself when nobody can ask it any more, after the step that it is in."""
        _, *others = self._tasks
        for task in others:
            task.cancel()
        waited = [*others, *([self._reloading] if self._reloading is not None else [])]
        await asyncio.gather(*waited, return_exceptions=True)

    async def _end_keeper(self, wired: Wired) -> None:
        await wired.keeper.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

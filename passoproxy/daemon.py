"""Runs a daemon: listeners, tasks, signals, readiness, and an orderly end. `compose` puts its parts together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from importlib import import_module

from passoproxy.compose import Wired, telemetry
from passoproxy.compose.instance import authorities
from passoproxy.compose.listeners import (
    Bound,
    Served,
    bind,
    certificate_of,
    name_of,
    page_address,
    ports_of,
    serve_proxy,
    takes_redirect,
)
from passoproxy.compose.reload import Reloading, keep_following
from passoproxy.compose.stores import leaves_full, rests_full
from passoproxy.compose.topology import Part
from passoproxy.compose.workers import Parent
from passoproxy.config.load import Loaded, load
from passoproxy.config.secrets import inside_container
from passoproxy.control import keep_looking
from passoproxy.core.events import Lifecycle, TaskFailed, Warned
from passoproxy.errors import CommandFailure, ConfigurationError, Fault, PassoproxyError
from passoproxy.folders import weak_step
from passoproxy.host import logind, systemd
from passoproxy.host.control_server import ControlSite
from passoproxy.host.gc import collected
from passoproxy.host.logind import BeforeSleep
from passoproxy.host.system import collect_orphans, raise_descriptor_limit, run_loop, volatile
from passoproxy.ports import Clock
from passoproxy.tokens.commands import Leave, Refill
from passoproxy.tokens.failover import Custody
from passoproxy.tokens.waits import first_of

STATUS_EVERY = 5.0
"""Seconds between two lines for the service manager."""

CLOSING = 2.0
"""Seconds of `server.shutdown_grace` that are kept for the end after the last request."""

SLEEP_PATIENCE = 60.0
"""Seconds that a refresh before the machine's sleep may take; logind bounds how long the sleep waits."""


def run(loaded: Loaded, greet: Callable[[str], None] | None = None) -> int:
    """Runs the daemon until SIGTERM or SIGINT; the exit code. Raises PassoproxyError if it cannot start.

    `greet` prints a line for a person at the terminal, if there is one.
    """
    if sys.platform == "win32":  # pragma: no cover - refused before
        raise ConfigurationError(
            Fault("", "", "passoproxy does not run on native Windows", "use WSL2, a container or a Linux host")
        )
    return run_loop(_serve(loaded, greet))


async def _serve(loaded: Loaded, greet: Callable[[str], None] | None) -> int:
    daemon = Daemon(loaded)
    stop = asyncio.Event()
    # Before the start, so that a signal during it ends in order too, and a reload then does not kill.
    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    loop.add_signal_handler(signal.SIGHUP, daemon.reload_soon)
    async with daemon.running() as wired, collected(wired.clock, lambda: not wired.handler.in_flight):
        if greet is not None:
            with contextlib.suppress(CommandFailure):  # there is no page
                greet(f"status page, by a link that is good once within ten minutes: {wired.pages.link().url}")
        await first_of(stop.wait(), daemon.doomed.wait())
        reason = daemon.doom if daemon.doomed.is_set() else ""
    if reason:
        raise CommandFailure(reason)
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
        self._tasks: list[asyncio.Task[None]] = []
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False
        self._may_reload = False
        self._served: Served | None = None
        self._parent: Parent | None = None
        self.doomed = asyncio.Event()
        """Set when it cannot go on; `doom` says why."""
        self.doom = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Wired]:
        """Starts, yields the wired daemon, and ends it in order. Raises PassoproxyError if it cannot start."""
        raise_descriptor_limit()
        told = telemetry(self.loaded)
        told.logs.open()
        try:
            async with contextlib.AsyncExitStack() as stack:
                stack.callback(self.bound.close)
                # Listeners first: a port in use must be told before a pair's folder is taken.
                bind(self.loaded, self.bound, systemd.listen_fds())
                workers = self.loaded.settings.server.workers
                part = Part(workers, serves=workers == 1)
                if not part.serves:
                    self.bound.copy(workers)
                self.wired = wired = Wired(self.loaded, told, clock=self._clock, part=part, traces=True)
                control = await self._open(wired, stack)
                said = f"configuration: {self.loaded.path or 'defaults and environment'}"
                wired.observer(Lifecycle("starting", said))
                self._warn(wired)
                await self._listen(wired, control, stack)
                self._go(wired, control, stack)
                stack.push_async_callback(self._drain, wired)
                await self._start_workers(wired)
                wired.control.facts.starting = False
                await wired.control.look_at_store()
                is_ready, _, reason = wired.control.readiness(strict=False)
                listening = ", ".join(wired.control.facts.listeners)
                said = "; ".join(filter(None, (listening, reason) if is_ready else (reason, f"listening: {listening}")))
                wired.observer(Lifecycle("ready" if is_ready else "waiting", said))
                systemd.notify("READY=1", self._status_line(wired))
                self._may_reload = True
                if self._reload_again:
                    self.reload_soon()
                yield wired
            wired.observer(Lifecycle("stopped"))
        finally:
            told.logs.close()

    # ---- starting ----------------------------------------------------------------------------------------------------

    async def _open(self, wired: Wired, stack: contextlib.AsyncExitStack) -> ControlSite:
        stack.push_async_callback(wired.close)
        if wired.fleet is not None:  # a follower of a fleet holds its folder
            stack.push_async_callback(asyncio.to_thread, wired.fleet.store.release)
        if wired.limits is not None:
            wired.limits.begin()
        await wired.keeper.open()
        stack.push_async_callback(self._end_keeper, wired)
        holder = wired.keeper if wired.fleet is None else wired.fleet.for_folder(wired.keeper)
        control = ControlSite(wired.state_folder, holder)
        control.open()
        stack.push_async_callback(control.close)
        wired.control.reloading = Reloading(wired, self._reading)
        return control

    def _warn(self, wired: Wired) -> None:
        for warning in self.loaded.warnings:
            wired.observer(Warned(warning.code, str(warning), about=warning.key))
        folder = wired.state_folder
        if self.loaded.settings.oauth.grant == "authorization_code" and (why := volatile(folder)):
            text = f"state.directory {folder} {why}: the pair is gone with a restart of the machine or container; give it a durable folder"
            wired.observer(Warned("state_volatile", text))
        if not inside_container(os.environ):  # a container has no other users, and odd owners
            for key, each in (("state.directory", folder), ("cache.directory", wired.cache_folder)):
                if each is not None and (why := weak_step(each)):
                    text = f"{key} {each}: {why}, who could exchange the folders in it; choose a place that only root or this user may change"
                    wired.observer(Warned("folder_exposed", text, about=key))
        if why := wired.cover.previous_key:
            everywhere = "" if wired.fleet is None else "; remove it when every instance of the fleet says so"
            wired.observer(Warned("previous_key", f"state.previous_key_file {why}{everywhere}"))

    async def _listen(self, wired: Wired, control: ControlSite, stack: contextlib.AsyncExitStack) -> None:
        settings = self.loaded.settings
        is_secure = certificate_of(settings) is not None
        facts = wired.control.facts
        facts.listeners = (
            *(f"proxy {name_of(sock, 'https' if is_secure else 'http')}" for sock in self.bound.proxy),
            *(f"admin {name_of(sock, 'http')}" for sock in self.bound.admin),
            *(f"probes {name_of(sock, 'http')}" for sock in self.bound.probes),
        )
        facts.ports = ports_of(self.bound.proxy)
        facts.takes_redirect = takes_redirect(settings, self.bound.admin)
        wired.pages.address = page_address(settings, self.bound.admin)
        facts.authorities = authorities(settings, facts.ports)
        if wired.part.serves:
            self._served = serve_proxy(wired, self.bound.proxy)
            stack.callback(self._served.close)
        # In a thread, so that the first requests are answered meanwhile.
        await asyncio.to_thread(import_module, "passoproxy.compose.admin")
        from passoproxy.compose import admin

        await admin.serve(wired, self.bound, control, stack)

    def _go(self, wired: Wired, control: ControlSite, stack: contextlib.AsyncExitStack) -> None:
        """Begins the tasks that live as long as the daemon."""
        work: list[tuple[str, Coroutine[object, object, None]]] = [
            ("keeper", wired.keeper.run()),
            ("alerts", wired.alerts.run()),
            ("warming", wired.warming.run()),
            ("store", keep_looking(wired.control, wired.clock, wired.telemetry.hour.look)),
            ("secrets", keep_following(wired)),
            ("service manager", self._tell_manager(wired)),
            ("control socket", control.keep_named()),
        ]
        if wired.limits is not None:
            work.append(("daily budget", wired.limits.run_budget()))
            if wired.limits.places is not None:
                work.append(("places", wired.limits.places.run()))
        if wired.probing is not None:
            work.append(("change probe", wired.probing.run()))
        if wired.fleet is not None and isinstance(wired.keeper, Custody):
            work.append(("fleet", wired.fleet.desk.run(wired.keeper)))
        if self._served is not None and (certificate := self._served.certificate) is not None:
            work.append(("certificate", certificate.keep_following(wired.clock, wired.observer)))
        if rests_full(wired.loaded):
            # a request that the sleep interrupts may still be answered after waking, so it has the whole time
            before = BeforeSleep(logind.reach, lambda: wired.keeper.execute(Refill(SLEEP_PATIENCE)), wired.clock)
            work.append(("suspend", before.run()))
        if os.getpid() == 1:
            work.append(("orphans", collect_orphans(wired.clock)))
        for name, coroutine in work:
            self._begin(name, coroutine)
        stack.push_async_callback(self._end_tasks)

    def _begin(self, name: str, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(coroutine, name=name)
        task.add_done_callback(lambda done: self._ended(done, name))
        self._tasks.append(task)

    async def _start_workers(self, wired: Wired) -> None:
        """Starts the processes that serve, if the configuration wants several."""
        if wired.part.serves:
            return
        self._parent = parent = Parent(wired, self.bound)
        if wired.limits is not None and wired.limits.places is not None:
            self._begin("places", wired.limits.places.run())
        reload = wired.control.reloading

        async def reload_all() -> dict[str, object]:
            applied = await reload()
            await parent.reload()
            return applied

        wired.control.reloading = reload_all

        async def heed_workers() -> None:
            await parent.supervisor.doomed.wait()
            self.doom = parent.supervisor.reason
            self.doomed.set()

        self._begin("workers", parent.tell_them())
        self._begin("doom", heed_workers())
        await parent.start()

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
        while self._reload_again:  # a second signal during a reload: the file may have changed after it was read
            self._reload_again = False
            systemd.reloading()
            try:
                await wired.control.reload()
            except PassoproxyError:
                pass  # told as an event already
            except Exception as fault:  # the daemon lives on, and its manager waits for the end of the reload
                wired.observer(TaskFailed("reload", f"{type(fault).__name__}; see 'passoproxy config check'"))
            systemd.notify("READY=1", self._status_line(wired))

    async def _tell_manager(self, wired: Wired) -> None:
        interval = systemd.watchdog_interval()
        pause = min(STATUS_EVERY, interval / 2) if interval else STATUS_EVERY
        while True:
            if interval:
                systemd.notify("WATCHDOG=1")
            systemd.notify("", self._status_line(wired))
            await wired.clock.sleep(pause)

    def _status_line(self, wired: Wired) -> str:
        _, word, reason = wired.control.readiness(strict=False)
        token, outlook = wired.keeper.snapshot(), wired.control.outlook()
        said = f"access token {token.access}, chain {token.chain}, {outlook}"
        following = "; following the pair's owner" if token.role == "following" else ""
        return f"{word}{f' ({reason})' if reason else ''}; {said}{following}"

    # ---- ending ------------------------------------------------------------------------------------------------------

    async def _drain(self, wired: Wired) -> None:
        self._may_reload, wired.control.facts.draining = False, True
        wired.observer(Lifecycle("draining"))
        wired.pipeline.login_wait.release()
        systemd.notify("STOPPING=1", "draining")
        self.bound.forget(self.bound.proxy)
        if self._served is not None:
            self._served.close()
        for runner in wired.admin_runners:
            runner.draining = True
        grace = wired.loaded.settings.server.shutdown_grace
        within = max(grace - CLOSING, grace / 2)
        draining = wired.connections.drain(within) if self._parent is None else self._parent.drain(within)
        await asyncio.gather(
            draining, self._end_pair(wired, grace, within), wired.control.leave_logins(within + CLOSING / 4)
        )

    async def _end_pair(self, wired: Wired, grace: float, within: float) -> None:
        """While connections drain: lets a refresh end, renews the pair if the settings want it (`leaves_full`), and lets alerts get out."""
        deadline = wired.clock.monotonic() + within
        with contextlib.suppress(PassoproxyError):
            await wired.keeper.execute(Leave(within))
        fleet = wired.fleet
        is_followed = wired.control.is_followed or (
            fleet is not None and await asyncio.to_thread(fleet.store.is_followed)
        )
        if leaves_full(wired.loaded, wired.state_folder, grace, is_followed):
            with contextlib.suppress(PassoproxyError):  # a failure was told as an event
                await wired.keeper.execute(Refill(deadline - wired.clock.monotonic()))
        await wired.alerts.settle()

    async def _end_tasks(self) -> None:
        """All but the keeper's, which ends by itself when no request is left, after its present step."""
        _, *others = self._tasks
        for task in others:
            task.cancel()
        waited = [*others, *([self._reloading] if self._reloading is not None else [])]
        await asyncio.gather(*waited, return_exceptions=True)

    async def _end_keeper(self, wired: Wired) -> None:
        await wired.keeper.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

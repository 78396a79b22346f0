"""A worker process: takes connections on the listeners that it was given, with a pipeline, a memory and connections of its own.

The pair, the places at the origin and the configuration come from its parent, over a channel whose end is the worker's end too. What it counts goes
the other way. It is started by `host.workers`, never by people.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from passoproxy.compose import Wired, telemetry
from passoproxy.compose.instance import MOST_SHOWN, Telemetry, traffic_of
from passoproxy.compose.listeners import Served, serve_proxy
from passoproxy.compose.reload import Reloading, keep_following
from passoproxy.compose.topology import Part
from passoproxy.config.load import Loaded, load
from passoproxy.core.events import EntryStored, Event, Lifecycle, TaskFailed
from passoproxy.core.oauth.alert_levels import Level
from passoproxy.core.origin import document_of, told_of
from passoproxy.errors import PassoproxyError
from passoproxy.host.clock import SystemClock
from passoproxy.host.gc import collected
from passoproxy.host.remote_owner import ParentOwner
from passoproxy.host.system import forbid_dumps, run_loop
from passoproxy.host.workers import Channel, Document
from passoproxy.ports import Observer
from passoproxy.proxy.places import PlaceShare
from passoproxy.telemetry.live import dropped_line
from passoproxy.tokens.follower import Follower
from passoproxy.tokens.messages import followed_of

COUNT_EVERY = 0.5
"""Seconds between two tellings of what was counted (contract §3: counters lag by 1 s at most)."""

ORPHANED = 1.0
"""Seconds that answers under way have when the parent is gone."""

MOST_STORED = 10_000
"""Keys of stored entries that are remembered until they are told."""


def main(descriptor: int) -> int:
    """Lives by the channel with this descriptor; the exit code."""
    forbid_dumps()
    for each in (signal.SIGINT, signal.SIGHUP):  # meant for the parent, and sent by a terminal to all of us
        signal.signal(each, signal.SIG_IGN)
    return run_loop(_live(descriptor))


async def _live(descriptor: int) -> int:
    channel = await Channel.over(socket.socket(fileno=descriptor))
    try:
        begin = await channel.hear()
        if begin is None:
            return 1
        life = Life(channel, begin)
        async with collected(SystemClock(), lambda: life.is_quiet):
            await life.whole()
    except PassoproxyError as fault:
        channel.tell("failed", detail=" ".join(str(fault).splitlines()))
        return 1
    except Exception as fault:
        channel.tell("failed", detail=f"a fault inside passoproxy ({type(fault).__name__})")
        return 1
    finally:
        channel.close()
        await channel.closed()
    return 0


class Life:
    """One worker's life, from the first word of its parent's to the last."""

    def __init__(self, channel: Channel, begin: Document) -> None:
        self._channel, self._begin = channel, begin
        self._text = str(begin["text"])
        self._owner = ParentOwner(channel)
        self._stored: list[str] = []
        self._sent = 0
        self._dropped = 0
        """Lines for those who watch that the parent did not take in time."""
        self._tasks: list[asyncio.Task[Any]] = []
        self._wired: Wired | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether no client waits for an answer."""
        return self._wired is None or not self._wired.handler.in_flight

    async def whole(self) -> None:
        """Serves until it is told to end. Raises PassoproxyError where it cannot begin."""
        loaded = self._read()
        told = telemetry(loaded)
        told.logs.open()
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._serve(loaded, told, stack)
        finally:
            told.logs.close()

    def _read(self) -> Loaded:
        path = self._begin["path"]
        return load(None if path is None else Path(path), text=self._text.encode("utf-8", "surrogateescape"))

    async def _serve(self, loaded: Loaded, told: Telemetry, stack: contextlib.AsyncExitStack) -> None:
        part = Part(loaded.settings.server.workers, serves=True)
        clock = SystemClock()
        if loaded.settings.oauth.grant != "static":  # whose token everybody reads for himself
            part.holder = Follower(owner=self._owner, clock=clock, known=followed_of(self._begin["followed"]))
        self._part = part
        observer = self._observing(told.observer())
        wired = Wired(loaded, told, clock=clock, observer=observer, part=part, traces=True)
        self._wired = wired
        if part.holder is None:
            await wired.keeper.open()  # whose entries are meant, before the first question
        stack.push_async_callback(wired.close)
        self._reloading = Reloading(wired, self._read)
        self._share = PlaceShare(
            wired.pipeline.limiter,
            loaded.settings.upstream.max_concurrency,
            self._tell_count,
            closely=loaded.settings.store.url is not None,
        )
        wired.pipeline.origin.on_sent = self._count_sent
        wired.pipeline.limiter.tell = lambda told: self._channel.tell("origin", told=document_of(told))
        told.live.put = self._pass_on
        self._channel.tell("hello")
        served = serve_proxy(wired, [socket.socket(fileno=each) for each in self._begin["sockets"]])
        stack.callback(served.close)
        self._go(wired, served, stack)
        self._channel.tell("ready")
        grace = await self._heed(wired)
        served.close()
        wired.pipeline.login_wait.release()
        await wired.connections.drain(grace)
        self._count(wired)

    def _observing(self, observer: Observer) -> Observer:
        """The parent is told what was stored; and of a daemon's phases only it speaks."""
        stored = self._stored

        def observe(event: Event) -> None:
            if type(event) is Lifecycle:
                return
            observer(event)
            if type(event) is EntryStored and len(stored) < MOST_STORED:
                stored.append(event.key)

        return observe

    def _go(self, wired: Wired, served: Served, stack: contextlib.AsyncExitStack) -> None:
        work: list[tuple[str, Coroutine[Any, Any, None]]] = [
            ("pair", wired.keeper.run()),
            ("counts", self._keep_counting(wired)),
            ("secrets", keep_following(wired)),
            ("warming", wired.warming.run()),
        ]
        if served.certificate is not None:
            work.append(("certificate", served.certificate.keep_following(wired.clock, wired.observer)))
        for name, coroutine in work:
            task = asyncio.create_task(coroutine, name=name)
            task.add_done_callback(lambda done, name=name: _ended(done, name, wired.observer))  # type: ignore[misc]
            self._tasks.append(task)
        stack.push_async_callback(self._end_tasks, wired)

    async def _end_tasks(self, wired: Wired) -> None:
        await wired.keeper.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- what the parent says ----------------------------------------------------------------------------------------

    async def _heed(self, wired: Wired) -> float:
        """Does what the parent says, until it wants an end; the seconds that answers under way have then. It is heard on meanwhile."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, lambda: self._stop_within(wired.loaded.settings.server.shutdown_grace))
        self._stopping: asyncio.Future[float] = loop.create_future()
        hearing = asyncio.ensure_future(self._hear(wired))
        self._tasks.append(hearing)
        await asyncio.wait([hearing, self._stopping], return_when=asyncio.FIRST_COMPLETED)
        return self._stopping.result() if self._stopping.done() else hearing.result()

    def _stop_within(self, grace: float) -> None:
        if not self._stopping.done():
            self._stopping.set_result(grace)

    async def _hear(self, wired: Wired) -> float:
        try:
            await self._hear_all(wired)
        finally:
            self._owner.end()
        return ORPHANED

    async def _hear_all(self, wired: Wired) -> None:
        while (document := await self._channel.hear()) is not None:
            match document.get("kind"):
                case "followed" | "reply":
                    self._part.level = Level(document.get("level", self._part.level))
                    self._owner.take(document)
                case "granted":
                    self._share.granted(int(document["count"]))
                case "lent":
                    wired.pipeline.limiter.set_limits(lent_until=float(document["until"]))
                case "origin":
                    wired.pipeline.limiter.hear(told_of(document["told"]))
                case "reload":
                    await self._reload(wired, str(document["text"]))
                case "watch":
                    wired.telemetry.watch(bool(document["wanted"]))
                case "drain":
                    self._stop_within(float(document["grace"]))

    async def _reload(self, wired: Wired, text: str) -> None:
        before, self._text, fault = self._text, text, ""
        try:
            await self._reloading()
        except PassoproxyError as refused:
            self._text, fault = before, f"worker {self._begin['place']} refused it: {refused}"
        self._share.follow(wired.loaded.settings.upstream.max_concurrency)
        self._channel.tell("reloaded", fault=fault)

    # ---- what it tells -----------------------------------------------------------------------------------------------

    def _pass_on(self, line: str, asked: tuple[str, str] | None) -> None:
        if self._channel.is_clogged:
            self._dropped += 1
            return
        if self._dropped:
            self._channel.tell("line", line=dropped_line(self._dropped), asked=None)
            self._dropped = 0
        self._channel.tell("line", line=line, asked=asked)

    def _count_sent(self) -> None:
        self._sent += 1

    def _tell_count(self, word: str, count: int) -> None:
        self._channel.tell(word, count=count)

    async def _keep_counting(self, wired: Wired) -> None:
        while True:
            await asyncio.sleep(COUNT_EVERY)
            if not self._channel.is_clogged:
                self._count(wired)

    def _count(self, wired: Wired) -> None:
        stored, self._stored[:] = list(self._stored), []
        sent, self._sent = self._sent, 0
        self._channel.tell(
            "counted",
            metrics=wired.telemetry.metrics.taken(),
            recent=wired.telemetry.recent.taken(),
            stored=stored,
            sent=sent,
            in_flight=wired.handler.in_flight,
            traffic=dict(traffic_of(wired.pipeline)),
            memory=dataclasses.asdict(wired.store.memory_stats()),
            most_used=wired.pipeline.usage.counted(MOST_SHOWN),
        )


def _ended(task: asyncio.Task[None], name: str, observer: Observer) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        observer(TaskFailed(name, f"{type(error).__name__}; it is not running any more"))

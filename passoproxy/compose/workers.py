"""The parent of worker processes: it owns the pair, the admin listener and the places at the origin, and tells its workers of them.

Starting and replacing processes is done in `host.workers`, what a worker does with what it is told in `worker`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

from passoproxy.compose.instance import Wired
from passoproxy.compose.listeners import Bound
from passoproxy.compose.topology import WorkerReport
from passoproxy.core import origin
from passoproxy.core.events import EntryStored, TaskFailed
from passoproxy.errors import CommandFailure
from passoproxy.host.workers import Document, Supervisor, Worker
from passoproxy.ports import StoreStats
from passoproxy.proxy.places import Grants, PlacePool, PlaceShare
from passoproxy.tokens.messages import answered, document_of

MODULE = "passoproxy.worker"

RELOAD_PATIENCE = 10.0
"""Seconds within which a worker says that it has taken a new configuration over."""

_OWN = "parent"
"""This process among those who have places."""


class Parent:
    """Runs the workers of `wired`, which listen on the copies of `bound`. `start`, then `tell_them` as a task, then `drain`."""

    def __init__(self, wired: Wired, bound: Bound) -> None:
        settings = wired.loaded.settings
        self._wired, self._bound = wired, bound
        assert wired.limits is not None  # which only a worker has not
        self._limits, is_shared = wired.limits, settings.store.url is not None
        self._most = settings.upstream.max_concurrency
        self._pool = PlacePool(0 if is_shared else self._most, settings.server.workers)
        self._by_place: dict[int, Worker] = {}
        self._reloads: dict[Worker, asyncio.Future[str]] = {}
        self._work: set[asyncio.Task[None]] = set()
        self._share = PlaceShare(wired.pipeline.limiter, self._most, self._own_words, closely=is_shared)
        wired.pipeline.limiter.tell = lambda told: self._spread(None, told)
        self.supervisor = Supervisor(
            settings.server.workers,
            MODULE,
            passed=self._descriptors,
            greet=self._greeting,
            hear=self._hear,
            lost=self._lost,
            clock=wired.clock,
            observer=wired.observer,
        )
        wired.telemetry.live.on_change = self._watch
        self._grant(self._pool.join(_OWN, seldom=True))
        if is_shared:
            self._limits.share_out(self._pool, self._grant, self._renewed)

    async def start(self) -> None:
        """Returns when all workers serve. Raises CommandFailure."""
        await self.supervisor.start()

    async def tell_them(self) -> None:
        """Tells the workers of the pair, at every change and once a second, for as long as it is let."""
        async for followed in self._wired.keeper.changes():
            self.supervisor.tell("followed", followed=document_of(followed), level=int(self._wired.alerts.level))

    def _tell_of_pair(self, worker: Worker) -> None:
        followed = document_of(self._wired.keeper.followed())
        worker.channel.tell("followed", followed=followed, level=int(self._wired.alerts.level))

    async def reload(self) -> None:
        """Has all take over the configuration that `wired` has now. Raises CommandFailure naming what a worker said against it."""
        settings = self._wired.loaded.settings.upstream
        self._most = settings.max_concurrency
        self._share.follow(self._most)
        self._set_most()
        loop = asyncio.get_running_loop()
        waited = {worker: loop.create_future() for worker in self.supervisor}
        self._reloads.update(waited)
        self.supervisor.tell("reload", text=_text(self._wired))
        if waited:
            await asyncio.wait(waited.values(), timeout=RELOAD_PATIENCE)
        for worker in waited:
            self._reloads.pop(worker, None)
        said = [f"worker {worker.place} did not answer" for worker, each in waited.items() if not each.done()]
        said += [each.result() for each in waited.values() if each.done() and each.result()]
        if said:
            raise CommandFailure(f"the configuration was read, but {'; '.join(said)}; restart the daemon")

    async def drain(self, grace: float) -> None:
        """Has all end within `grace` seconds."""
        self._bound.close_copies()  # what no worker takes any more must not wait here
        await self.supervisor.drain(grace)
        for task in tuple(self._work):
            task.cancel()

    # ---- what they are told ------------------------------------------------------------------------------------------

    def _descriptors(self, place: int) -> Sequence[int]:
        return [sock.fileno() for sock in self._bound.copies[place]]

    def _greeting(self, place: int) -> Document:
        wired = self._wired
        return {
            "path": None if wired.loaded.path is None else str(wired.loaded.path),
            "text": _text(wired),
            "sockets": self._descriptors(place),
            "ports": list(wired.control.facts.ports),
            "followed": document_of(wired.keeper.followed()),
        }

    def _grant(self, grants: Grants) -> None:
        for who, count in grants.items():
            if who == _OWN:
                self._share.granted(count)
            elif (worker := self._by_place.get(who)) is not None:  # type: ignore[call-overload]
                worker.channel.tell("granted", count=count)
        self._limits.look()

    # ---- what they say -----------------------------------------------------------------------------------------------

    def _hear(self, worker: Worker, document: Document) -> None:
        try:
            self._take(worker, document)
        except (KeyError, TypeError, ValueError) as fault:
            self._wired.observer(TaskFailed("a worker's word", f"{type(fault).__name__} at {document.get('kind')!r}"))

    def _take(self, worker: Worker, document: Document) -> None:
        match document["kind"]:
            case "hello":
                self._by_place[worker.place] = worker
                self._show_workers()
                self._tell_of_pair(worker)  # it may have changed since the greeting
                for told in self._wired.pipeline.limiter.story():
                    worker.channel.tell("origin", told=origin.document_of(told))
                if (until := self._wired.pipeline.limiter.lent_until) < math.inf:
                    worker.channel.tell("lent", until=until)
                self._grant(self._pool.join(worker.place, seldom=self._limits.places is not None))
                if self._wired.telemetry.live.wanted:
                    worker.channel.tell("watch", wanted=True)
            case "wants":
                self._grant(self._pool.wants(worker.place, int(document["count"])))
            case "holds":
                self._grant(self._pool.holds(worker.place, int(document["count"])))
            case "origin":
                self._spread(worker, origin.told_of(document["told"]))
            case "command":
                task = asyncio.ensure_future(self._execute(worker, int(document["id"]), document["command"]))
                self._work.add(task)
                task.add_done_callback(self._work.discard)
            case "line":
                method, target = document["asked"] or ("", "")
                self._wired.telemetry.live.put(str(document["line"]), (str(method), str(target)) if method else None)
            case "counted":
                self._gather(worker, document)
            case "reloaded" if (waited := self._reloads.get(worker)) is not None and not waited.done():
                waited.set_result(str(document.get("fault") or ""))

    def _watch(self, wanted: bool) -> None:
        self._wired.telemetry.watch(wanted)
        for worker in self._by_place.values():
            worker.channel.tell("watch", wanted=wanted)

    def _lost(self, worker: Worker) -> None:
        if self._by_place.get(worker.place) is worker:
            del self._by_place[worker.place]
            self._wired.reports.pop(worker.place, None)
            self._show_workers()
            self._grant(self._pool.leave(worker.place))
        if (waited := self._reloads.get(worker)) is not None and not waited.done():
            waited.set_result("")  # its successor reads the new one

    def _show_workers(self) -> None:
        self._wired.control.facts.workers = tuple(self._by_place[place].pid for place in sorted(self._by_place))

    def _gather(self, worker: Worker, document: dict[str, Any]) -> None:
        wired = self._wired
        if wired.limits is not None:
            wired.limits.sent(document["sent"])
        wired.telemetry.metrics.add(document["metrics"])
        wired.telemetry.recent.add(document["recent"])
        for key in document["stored"]:
            wired.heed(EntryStored(key, "", 0))
        memory = StoreStats(**document["memory"])
        most_used = [(str(method), str(target), int(count)) for method, target, count in document["most_used"]]
        wired.reports[worker.place] = WorkerReport(document["in_flight"], document["traffic"], memory, most_used)

    async def _execute(self, worker: Worker, number: int, command: object) -> None:
        """Does what a worker asks of the pair: most of all, that it met a 401."""
        reply = await answered(self._wired.keeper, command)
        self._tell_of_pair(worker)  # the token first, then the word that it is there
        worker.channel.tell("reply", id=number, reply=reply)

    # ---- places at the origin ----------------------------------------------------------------------------------------

    def _own_words(self, word: str, count: int) -> None:
        asked = self._pool.wants if word == "wants" else self._pool.holds
        self._grant(asked(_OWN, count))

    def _spread(self, by: Worker | None, told: origin.Told) -> None:
        """What one learned of the origin all have to know; where it is to be spared, one request at a time goes out among them."""
        for worker in self._by_place.values():
            if worker is not by:
                worker.channel.tell("origin", told=origin.document_of(told))
        if by is not None:
            self._wired.pipeline.limiter.hear(told)
        self._set_most()

    def _set_most(self) -> None:
        most = 1 if self._wired.pipeline.limiter.goes_one_at_a_time else self._most
        if not self._limits.set_most(most):
            self._grant(self._pool.set_most(most))

    def _renewed(self, until: float) -> None:
        self._wired.pipeline.limiter.set_limits(lent_until=until)
        if self._by_place:
            self.supervisor.tell("lent", until=until)


def _text(wired: Wired) -> str:
    """The configuration as it was read, so that a worker that starts later has the same one."""
    return wired.loaded.text.decode("utf-8", "surrogateescape")

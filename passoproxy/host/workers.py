"""The supervisor of worker processes, and the channel to each: a socket pair that carries JSON, one object a line.

The supervisor starts workers, replaces those that die, and gives up when they die too fast. A worker is a new program and not a fork: this process
has threads, locks and an event loop, none of which survives one. The end of its channel tells each side that the other is gone, so no worker
outlives its supervisor. What the lines mean is decided in `compose/workers` and `worker`; they may hold secrets, and no other process has the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from passoproxy.core.events import Warned
from passoproxy.errors import CommandFailure
from passoproxy.ports import Clock, Observer

Document = dict[str, Any]

LONGEST = 16 * 1024 * 1024
"""Bytes of a line at most; a configuration file is the longest thing that is told."""

CLOGGED = 1024 * 1024
"""More than this waiting to be read, and the other side is behind."""


class Channel:
    """One end. Everything is called in the loop's thread."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Channel:
        """The end that `sock` is; the channel closes it."""
        sock.setblocking(False)
        return cls(*await asyncio.open_connection(sock=sock, limit=LONGEST))

    @property
    def is_clogged(self) -> bool:
        """Whether the other side does not keep up; what can wait should."""
        return self._writer.transport.get_write_buffer_size() > CLOGGED

    def tell(self, kind: str, **members: object) -> None:
        """Sends one object, without waiting; nothing happens if the other side is gone."""
        if not self._writer.is_closing():
            self._writer.write(json.dumps({"kind": kind, **members}).encode() + b"\n")

    async def hear(self) -> Document | None:
        """The next object; None if the other side is gone, or said something that is none."""
        try:
            line = await self._reader.readline()
            found = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, OSError):
            return None
        return found if isinstance(found, dict) else None

    async def closed(self) -> None:
        """Waits until what was told is sent, or cannot be."""
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def close(self) -> None:
        """Ends the channel; what was told is still sent."""
        self._writer.close()


QUICK = 1.0
"""A worker that ends within so many seconds after it was ready, or before it ever was, ended quickly."""

MOST_QUICK = 5
"""So many quick ends in a row, within `WINDOW`, and it is no accident."""

WINDOW = 30.0
"""Seconds. On a slow machine a start alone takes some of them."""

PAUSE = 0.1
"""Seconds before a worker that ended quickly is replaced."""

START_PATIENCE = 60.0
"""Seconds in which every worker has to be ready for the first time."""

ENDING = 2.0
"""Seconds of the grace that a worker has for its own end, when the answers under way have ended or were cut off."""

KILL_AFTER = 5.0
"""Seconds after which a worker that has closed its channel and does not end is killed."""

_PROGRAM = "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from {module} import main; sys.exit(main(int(sys.argv[1])))"


@dataclass(slots=True, eq=False)
class Worker:
    """One worker process. `place` is its number, from 0, which its successor inherits; `readied_at` is of the steady clock."""

    place: int
    pid: int
    channel: Channel
    process: asyncio.subprocess.Process
    readied_at: float | None = None


class Supervisor:
    """Keeps `count` workers running. `start`, then `run` as a task, then `drain`.

    `module` has `main(descriptor) -> int`. `passed` gives the descriptors that a worker of a place inherits under their own numbers,
    `greet` what it is told first, `hear` takes what it says (its `ready` too), `lost` is told when one is gone.
    """

    def __init__(
        self,
        count: int,
        module: str,
        *,
        passed: Callable[[int], Sequence[int]],
        greet: Callable[[int], Document],
        hear: Callable[[Worker, Document], None],
        lost: Callable[[Worker], None],
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._count, self._module = count, module
        self._passed, self._greet, self._hear, self._lost = passed, greet, hear, lost
        self._clock, self._observer = clock, observer
        self._workers: dict[int, Worker] = {}
        self._watching: dict[int, asyncio.Task[None]] = {}
        self._quick: list[float] = []
        self._last_end = ""
        self._ending = False
        self._all_ready = asyncio.Event()
        self.doomed = asyncio.Event()
        """Set when workers die too fast for it to be an accident; `reason` says it."""
        self.reason = ""
        self.replaced = 0
        """Workers that took the place of another, since the start."""

    def __iter__(self) -> Iterator[Worker]:
        return iter(tuple(self._workers.values()))

    async def start(self) -> None:
        """Starts all; returns when each was ready. Raises CommandFailure if that does not happen."""
        for place in range(self._count):
            self._watching[place] = asyncio.create_task(self._watch(place), name=f"worker {place}")
        ways = [asyncio.ensure_future(each.wait()) for each in (self._all_ready, self.doomed)]
        _, waiting = await asyncio.wait(ways, timeout=START_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        for way in waiting:
            way.cancel()
        if self.doomed.is_set():
            raise CommandFailure(self.reason)
        if not self._all_ready.is_set():
            raise CommandFailure(f"the workers were not ready within {START_PATIENCE:g} s; see the lines above")

    def tell(self, kind: str, **members: object) -> None:
        """Tells all workers; those that do not keep up are passed over."""
        for worker in self._workers.values():
            if not worker.channel.is_clogged:
                worker.channel.tell(kind, **members)

    async def drain(self, grace: float) -> None:
        """Has all end within `grace` seconds; those that do not are killed."""
        self._ending = True
        for worker in self:
            worker.channel.tell("drain", grace=max(grace - ENDING, grace / 2))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._all_gone()
        for worker in self:
            _kill(worker)
        await self._all_gone()

    async def _all_gone(self) -> None:
        for task in tuple(self._watching.values()):
            await asyncio.wait([task])

    # ---- one worker after the other in one place ---------------------------------------------------------------------

    async def _watch(self, place: int) -> None:
        """Has one worker after the other live in a place, until the end."""
        first = True
        while not self._ending and not self.doomed.is_set():
            self.replaced += not first
            first = False
            try:
                worker = await self._spawned(place)
            except OSError as fault:
                await self._judge(place, f"cannot be started ({fault.strerror})", quickly=True)
                continue
            how, quickly = await self._lived(worker)
            if not self._ending:
                await self._judge(place, how, quickly)

    async def _lived(self, worker: Worker) -> tuple[str, bool]:
        """How a worker ended, and whether it did so quickly."""
        try:
            await self._listen(worker)
            code = await worker.process.wait()
        finally:
            _kill(worker)
            worker.channel.close()
            self._workers.pop(worker.place, None)
            self._lost(worker)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        quickly = worker.readied_at is None or self._clock.monotonic() - worker.readied_at < QUICK
        return how, quickly

    async def _spawned(self, place: int) -> Worker:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-P", "-c", _PROGRAM.format(module=self._module)]
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    str(theirs.fileno()),
                    json.dumps(sys.path),
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), *self._passed(place)),
                )
            except OSError:
                ours.close()
                raise
        worker = Worker(place, process.pid, await Channel.over(ours), process)
        self._workers[place] = worker
        worker.channel.tell("begin", place=place, supervisor=os.getpid(), **self._greet(place))
        return worker

    async def _listen(self, worker: Worker) -> None:
        """Until the worker is gone, or has closed its channel: then it is about to be."""
        while (document := await worker.channel.hear()) is not None:
            if document.get("kind") == "ready":
                worker.readied_at = self._clock.monotonic()
                if len(self._workers) == self._count and all(each.readied_at is not None for each in self):
                    self._all_ready.set()
            elif document.get("kind") == "failed":
                self._last_end = str(document.get("detail"))
            self._hear(worker, document)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(worker.process.wait(), KILL_AFTER)
        _kill(worker)  # it has nothing to say any more, and does not end

    async def _judge(self, place: int, how: str, quickly: bool) -> None:
        """A worker ended unasked: it is replaced, unless workers die too fast."""
        said = f"{how}; {self._last_end}" if self._last_end and quickly else how
        self._last_end = ""
        self._observer(Warned("worker_replaced", f"worker {place} {said}; another one takes its place"))
        if not quickly:
            self._quick.clear()
            return
        now = self._clock.monotonic()
        self._quick = [*(at for at in self._quick if now - at < WINDOW), now]
        if len(self._quick) < MOST_QUICK:
            await self._clock.sleep(PAUSE)
            return
        self.reason = (
            f"{len(self._quick)} workers in a row ended as soon as they had started (the last one {said}); "
            "see the log above, or set server.workers to 1"
        )
        self.doomed.set()


def _kill(worker: Worker) -> None:
    with contextlib.suppress(ProcessLookupError):
        worker.process.kill()

"""An alert by a command: one JSON object on its standard input, ten seconds, and an end with all that it began (contract §3 `alerts.command`).

Alerts: watches the runway, and sends what `core.oauth.warnings` wants told through the configured hooks (contract §3 `alerts`).

Each hook has a courier of its own, so that one which hangs or fails delays neither the other nor anything else. How a hook speaks is its own
business (`alert_command` here, `webhook` in outbound); where it is remembered what was told, that of an AlarmMemory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

from passoproxy.core.events import AlertFailed, RunwayWarned, TaskFailed
from passoproxy.core.oauth.alert_levels import (
    Kind,
    Level,
    Telling,
    Thresholds,
    Watch,
    alarmed,
    deadline,
    looked,
    resumed,
    spoken,
)
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.errors import AlertUndelivered, ConfigurationError, Fault
from passoproxy.ports import AlarmMemory, AlertHook, Clock, Observer, PairNews
from passoproxy.tokens.persistence import Blocking, in_thread

LIMIT: Final = 10.0
"""Seconds that a command may take."""
_KEPT_BYTES: Final = 2048
_SAID_CHARACTERS: Final = 200
_FLOOD_BYTES: Final = 256 * 1024
_FLOOD_PAUSE: Final = 0.005
"""Beyond so many bytes there are so many seconds between two reads."""
_LAST_WORDS: Final = 0.25
"""Seconds for what a command wrote just before its end to arrive; a child that it left behind may hold the pipe for ever."""
_LAST_BREATH: Final = 2.0
"""Seconds for a killed command to be reaped."""
_OURS: Final = ("PASSOPROXY_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")
"""Variables that are the daemon's own business, or hold its secrets."""


class CommandHook:
    """An AlertHook. One text is the path of a program, or else a line for the shell; several are a program and its arguments."""

    name = "command"

    def __init__(self, words: Sequence[str], *, limit: float = LIMIT, environ: Mapping[str, str] | None = None) -> None:
        self._words, self._limit = tuple(words), limit
        given = os.environ if environ is None else environ
        self._environ = {name: value for name, value in given.items() if not name.startswith(_OURS)}

    async def deliver(self, document: bytes) -> str:
        """The end of what the command wrote. Raises AlertUndelivered where it cannot be started, takes too long, or ends with anything but 0."""
        try:
            transport, told = await self._begun()
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "not a command"
            raise AlertUndelivered(f"alerts.command: {self._words[0]} cannot be started ({why})") from error
        try:
            async with asyncio.timeout(self._limit):
                await told.whole(transport, document)
        except TimeoutError as error:
            text = f"alerts.command did not end within {self._limit:g} s and was killed{told.quoted()}"
            raise AlertUndelivered(text) from error
        finally:
            await told.ended(transport)
        code = transport.get_returncode()
        if code:
            raise AlertUndelivered(f"alerts.command {_how(code)}{told.quoted()}")
        return f"ended with 0{told.quoted()}"

    async def _begun(self) -> tuple[asyncio.SubprocessTransport, _Conversation]:
        beginning = asyncio.ensure_future(
            asyncio.get_running_loop().subprocess_exec(
                _Conversation,
                *self._arguments(),
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
                env=self._environ,
            )
        )
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # it may run already, and the loop would end it alone, and then wait for its children
            transport, told = await beginning
            await told.ended(transport)
            raise

    def _arguments(self) -> tuple[str, ...]:
        if len(self._words) > 1 or shutil.which(self._words[0], path=self._environ.get("PATH")) is not None:
            return self._words
        return ("/bin/sh", "-c", self._words[0])


class _Conversation(asyncio.SubprocessProtocol):
    """What is said to a command, and the last of what it says; the rest is read at leisure and dropped.

    Not the loop's streams: there, waiting for the end of a process waits for its pipes as well, which a child that it left may hold for ever.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._exited: asyncio.Future[None] = loop.create_future()
        self._silent: asyncio.Future[None] = loop.create_future()
        self._kept, self._heard = b"", 0
        self._output: asyncio.ReadTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # casts, because uvloop's transports are of no class of asyncio's
        process = cast(asyncio.SubprocessTransport, transport)
        self._output = cast(asyncio.ReadTransport, process.get_pipe_transport(1))

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        assert isinstance(data, bytes)
        self._kept = (self._kept + data)[-_KEPT_BYTES:]
        self._heard += len(data)
        if self._heard > _FLOOD_BYTES:
            # a flood must not keep the loop from everything else
            self._output.pause_reading()
            asyncio.get_running_loop().call_later(_FLOOD_PAUSE, self._listen)

    def _listen(self) -> None:
        if not self._output.is_closing():
            self._output.resume_reading()

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 1:
            self._silent.set_result(None)

    def process_exited(self) -> None:
        self._exited.set_result(None)

    async def whole(self, transport: asyncio.SubprocessTransport, document: bytes) -> None:
        """Says `document`, and waits for the end of the command and its last words."""
        # a command that does not read, or closes its input, has still been told
        given = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))
        with contextlib.suppress(RuntimeError):  # uvloop's word for a pipe that is closed already
            given.write(document)
        given.close()
        await asyncio.shield(self._exited)
        await asyncio.wait({self._silent}, timeout=_LAST_WORDS)

    async def ended(self, transport: asyncio.SubprocessTransport) -> None:
        """Kills the command's whole group where it has not ended, and lets go of its pipes."""
        if transport.get_returncode() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(transport.get_pid(), signal.SIGKILL)
            await asyncio.wait({self._exited}, timeout=_LAST_BREATH)
        transport.close()

    def quoted(self) -> str:
        """The last line of what it said, for a person; '' where it said nothing."""
        lines = self._kept.decode("utf-8", "replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        said = "".join(each if each.isprintable() else " " for each in last).strip()[-_SAID_CHARACTERS:]
        return f"; it said: {said}" if said else ""


def _how(code: int) -> str:
    if code > 0:
        return f"ended with {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"


WAYS: Final = ("command", "webhook")
LONGEST_LOOK: Final = 30.0
"""Seconds between two looks at the runway at most."""
SHORTEST_LOOK: Final = 0.01
MOST_WAITING: Final = 8
"""Alerts that wait for one hook; the oldest gives way, because the youngest says how it stands."""

NO_HOOK: Final = ConfigurationError(
    Fault("", "alerts", "nobody would be told: no hook is set", "set alerts.command or alerts.webhook")
)

Data = dict[str, object]


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    """What the configuration says of alerts. `repeat` is seconds; `hooks` has at most one of each name."""

    thresholds: Thresholds = field(default_factory=Thresholds)
    repeat: float = 3600.0
    hooks: tuple[AlertHook, ...] = ()


class Alerts:
    """Watches one pair. `policy` may be replaced at any time; `instance` tells the hooks which daemon speaks."""

    def __init__(
        self,
        keeper: PairNews,
        policy: AlertPolicy,
        clock: Clock,
        observe: Observer,
        memory: AlarmMemory,
        *,
        instance: str,
        version: str,
        blocking: Blocking = in_thread,
    ) -> None:
        self._keeper, self.policy, self._clock, self._observe = keeper, policy, clock, observe
        self._instance, self._version = instance, version
        self._memory, self._blocking = memory, blocking
        self._watch = Watch()
        self._speaks = False
        """Whether it is ours to tell: one pair has one voice, its owner's, and whoever follows has one while there is no owner to be heard."""
        self._alone = False
        self._is_over = False
        """Whether what was told here, and remembered, is over, and the voice another's again."""
        self._remembered = (Level.NONE, 0.0)
        self._to_remember = asyncio.Event()
        self._couriers = {name: Courier(name, self._hook, observe) for name in WAYS}

    @property
    def level(self) -> Level:
        """The level of the last look."""
        return self._watch.level

    async def run(self) -> None:
        """Watches for as long as it is let; ends its couriers with itself."""
        async with asyncio.TaskGroup() as tasks:
            for courier in self._couriers.values():
                tasks.create_task(courier.run())
            tasks.create_task(self._remember())
            while True:
                await self._keeper.news(await self._looked())

    async def test(self) -> list[Data]:
        """Sends one test alert through every hook at once; what came back from each. Raises ConfigurationError where there is no hook."""
        if not self.policy.hooks:
            raise NO_HOOK
        document = alert("test", self._keeper.snapshot(), self._instance, self._version)
        return await tried(self.policy.hooks, document)

    async def _looked(self) -> float:
        """Looks, tells, and gives the seconds until the next look."""
        try:
            if _has_voice(self._keeper.snapshot()) and not self._speaks:
                await self._go_on()
            return self._look(self._keeper.snapshot())
        except Exception as fault:  # whoever is to be warned must not lose that to a fault of one look
            self._observe(TaskFailed("alerts", type(fault).__name__))
            return LONGEST_LOOK

    async def _go_on(self) -> None:
        """Takes up what whoever had the voice before has told."""
        before = await self._blocking(self._memory.load)
        self._watch = resumed(self._watch, before, self._clock.monotonic(), self._clock.wall())
        self._remembered = (self._watch.worst, self._watch.told_at)
        self._speaks = True

    def _look(self, shown: TokenSnapshot) -> float:
        seen = looked(self._watch, shown, self.policy.thresholds, self.policy.repeat, self._clock.monotonic())
        self._watch = seen.watch
        if not _has_voice(shown):
            if self._alone and seen.telling is not None and seen.telling.kind is Kind.RECOVERED:
                self._tell(seen.telling, shown)  # the owner that came back knows nothing of what was told here
                self._is_over = True
                self._to_remember.set()
            self._watch, self._speaks, self._alone = replace(seen.watch, worst=Level.NONE), False, False
        else:
            self._alone = shown.alone
            if seen.telling is not None:
                self._tell(seen.telling, shown)
            if (told := (self._watch.worst, self._watch.told_at)) != self._remembered:
                self._remembered = told
                self._to_remember.set()
        return LONGEST_LOOK if seen.again_in is None else min(LONGEST_LOOK, max(SHORTEST_LOOK, seen.again_in))

    async def _remember(self) -> None:
        """Remembers what was told when it was brought, not before: whoever dies in between has not told it."""
        while True:
            await self._to_remember.wait()
            self._to_remember.clear()
            for courier in self._couriers.values():
                await courier.idle.wait()
            if self._speaks or self._is_over:
                self._is_over = False
                told = alarmed(self._watch, self._clock.monotonic(), self._clock.wall())
                await self._blocking(lambda told=told: self._memory.save(told))  # type: ignore[misc]

    def _tell(self, telling: Telling, shown: TokenSnapshot) -> None:
        recovered = telling.kind is Kind.RECOVERED
        remedy = "" if recovered else shown.remedy
        self._observe(
            RunwayWarned(
                telling.kind.value,
                telling.level.word,
                shown.reason,
                remedy,
                shown.runway_seconds,
                deadline(shown),
            )
        )
        word = Kind.RECOVERED.value if recovered else telling.level.word
        document = alert(word, shown, self._instance, self._version)
        for hook in self.policy.hooks:
            self._couriers[hook.name].take(document)

    def _hook(self, name: str) -> AlertHook | None:
        return next((hook for hook in self.policy.hooks if hook.name == name), None)


def _has_voice(shown: TokenSnapshot) -> bool:
    return shown.role == "owner" or shown.alone


class Courier:
    """Brings alerts to one hook, one after the other. `hook_of` gives the hook of the moment."""

    def __init__(self, name: str, hook_of: Callable[[str], AlertHook | None], observe: Observer) -> None:
        self._name, self._hook_of, self._observe = name, hook_of, observe
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._poke = asyncio.Event()
        self._failing = False
        self.idle = asyncio.Event()
        """Set while nothing waits and nothing is under way."""
        self.idle.set()

    def take(self, document: bytes) -> None:
        """Delivers `document` as soon as those before it are done with."""
        self._waiting.append(document)
        self.idle.clear()
        self._poke.set()

    async def run(self) -> None:
        while True:
            await self._poke.wait()
            self._poke.clear()
            while self._waiting:
                await self._bring(self._waiting.popleft())
            self.idle.set()

    async def _bring(self, document: bytes) -> None:
        hook = self._hook_of(self._name)
        if hook is None:
            return
        try:
            await hook.deliver(document)
        except AlertUndelivered as fault:
            self._failed(str(fault))
        except Exception as fault:  # a fault of ours must not silence every alert that follows
            self._failed(f"a fault inside passoproxy ({type(fault).__name__})")
        else:
            self._failing = False

    def _failed(self, detail: str) -> None:
        if not self._failing:
            self._observe(AlertFailed(self._name, detail))
        self._failing = True


async def tried(hooks: tuple[AlertHook, ...], document: bytes) -> list[Data]:
    """What came back from each hook for `document`: `hook`, `ok` and `said`."""

    async def one(hook: AlertHook) -> Data:
        try:
            return {"hook": hook.name, "ok": True, "said": await hook.deliver(document)}
        except AlertUndelivered as fault:
            return {"hook": hook.name, "ok": False, "said": str(fault)}

    return list(await asyncio.gather(*map(one, hooks)))


def alert(level: str, shown: TokenSnapshot | None, instance: str, version: str) -> bytes:
    """The JSON object that a hook gets. `level` is log, notify, page, recovered or test; `shown` None: no daemon runs that could tell."""
    by = None if shown is None else deadline(shown)
    document: Data = {
        "level": level,
        "state": "not running" if shown is None else shown.chain,
        "reason": "this is a test; nothing is wrong" if level == "test" else shown.reason if shown else "",
        "remedy": shown.remedy if shown is not None and level not in ("test", "recovered") else "",
        "runway_seconds": None if shown is None else shown.runway_seconds,
        "deadline": None if by is None else spoken(by) or None,
        "link": "" if shown is None else shown.link,
        "instance": instance,
        "version": version,
    }
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace") + b"\n"

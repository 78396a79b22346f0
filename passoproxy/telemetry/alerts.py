"""Alerts: watches the runway, hears what becomes of the pair here, and sends what is to be told through the configured hooks (contract §3 `alerts`).

The levels are decided in `core.oauth.alert_levels`, and remembered in an AlarmMemory; the events of `alerts.events` are told as they happen, by the
process that owns the pair. Each hook has a courier, so that a hook that hangs or fails delays nothing else. The command hook is here (one JSON
object on its standard input, ten seconds, and an end with all its children), the webhook in `outbound`. docs/alert.schema.json has the JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final

from passoproxy.core.events import (
    AlertFailed,
    ChainChanged,
    Event,
    PairErased,
    RunwayWarned,
    TaskFailed,
    TokenRefreshed,
)
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
from passoproxy.ports import AlarmMemory, AlertHook, BearerSource, Clock, Observer
from passoproxy.tokens.persistence import Blocking
from passoproxy.tokens.waits import ended
from passoproxy.values import dataclass

LIMIT: Final = 10.0
"""Seconds that a command may take."""
_KEPT_BYTES: Final = 2048
_SAID_CHARACTERS: Final = 200
_FLOOD_BYTES: Final = 256 * 1024
_FLOOD_PAUSE: Final = 0.005
"""Seconds between two reads of an output of more than `_FLOOD_BYTES`, so that a flood does not keep the loop busy."""
_LAST_WORDS: Final = 0.25
"""Seconds for output from just before the command's end to arrive; a child that it left behind may hold the pipe for ever."""
_LAST_BREATH: Final = 2.0
"""Seconds for a killed command to be reaped."""
_OURS: Final = ("PASSOPROXY_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_")
"""Variables that are for the daemon alone, or hold its secrets."""


class CommandHook:
    """An AlertHook. One text is the path of a program, or else a line for the shell; several are a program and its arguments."""

    name = "command"

    def __init__(self, words: Sequence[str], *, limit: float = LIMIT, environ: Mapping[str, str] | None = None) -> None:
        self._words, self._limit = tuple(words), limit
        given = os.environ if environ is None else environ
        self._environ = {name: value for name, value in given.items() if not name.startswith(_OURS)}

    def where(self) -> str:
        # arguments, and variables that are set before a program, may hold a secret
        return next((word for word in self._words[0].split() if "=" not in word), "")

    async def deliver(self, document: bytes) -> str:
        """The end of the command's output. Raises AlertUndelivered if it cannot be started, takes too long, or does not end with 0."""
        output = _Output()
        try:
            process = await self._started(output)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or "not a command"
            output.close()
            raise AlertUndelivered(f"alerts.command: {self.where()} cannot be started ({why})") from error
        finally:
            os.close(output.given)  # the command has it now, or was not started
        try:
            async with asyncio.timeout(self._limit):
                reading = asyncio.create_task(output.read())
                # a command that does not read, or closes its input, has still got the alert
                with contextlib.suppress(OSError, RuntimeError):
                    process.stdin.write(document)  # type: ignore[union-attr]
                    process.stdin.close()  # type: ignore[union-attr]
                await process.wait()
                await asyncio.wait({reading}, timeout=_LAST_WORDS)
        except TimeoutError as error:
            text = f"alerts.command did not end within {self._limit:g} s and was killed{output.quoted()}"
            raise AlertUndelivered(text) from error
        finally:
            reading.cancel()
            await _killed(process)
            output.close()
        code = process.returncode
        if code:
            raise AlertUndelivered(f"alerts.command {_how(code)}{output.quoted()}")
        return f"ended with 0{output.quoted()}"

    async def _started(self, output: _Output) -> asyncio.subprocess.Process:
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *self._arguments(),
                stdin=asyncio.subprocess.PIPE,
                stdout=output.given,
                stderr=output.given,
                start_new_session=True,
                env=self._environ,
            )
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await _killed(await starting)  # it may run already, and the loop would end it without its children
            output.close()
            raise

    def _arguments(self) -> tuple[str, ...]:
        if len(self._words) > 1 or shutil.which(self._words[0], path=self._environ.get("PATH")) is not None:
            return self._words
        return ("/bin/sh", "-c", self._words[0])


class _Output:
    """The last of what a command writes. A pipe of our own: with the loop's, the wait for a process waits for its children's output too."""

    def __init__(self) -> None:
        ours, self.given = os.pipe()
        self._pipe = os.fdopen(ours, "rb", buffering=0)
        self._transport: asyncio.BaseTransport | None = None
        self._kept = b""

    async def read(self) -> None:
        """Reads to the end; of a flood, slowly."""
        reader, heard = asyncio.StreamReader(), 0
        connect = asyncio.get_running_loop().connect_read_pipe
        self._transport, _ = await connect(lambda: asyncio.StreamReaderProtocol(reader), self._pipe)
        while data := await reader.read(64 * 1024):
            self._kept = (self._kept + data)[-_KEPT_BYTES:]
            heard += len(data)
            if heard > _FLOOD_BYTES:
                await asyncio.sleep(_FLOOD_PAUSE)

    def close(self) -> None:
        (self._transport or self._pipe).close()

    def quoted(self) -> str:
        """The last line of the output, for a person; '' if there is none."""
        lines = self._kept.decode("utf-8", "replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        said = "".join(each if each.isprintable() else " " for each in last).strip()[-_SAID_CHARACTERS:]
        return f"; it said: {said}" if said else ""


async def _killed(process: asyncio.subprocess.Process) -> None:
    """Kills the command's whole group, if it has not ended."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _LAST_BREATH)


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
MOST_WAITING: Final = 32
"""Messages that wait for one hook; the oldest gives way, because the youngest has the present state."""
LAST_WORD: Final = 2.0
"""Seconds for what waits to get out when the daemon ends."""

_EVENTS: Final = {
    "login": ("login", "a person has logged in"),
    "import": ("import", "a pair was imported"),
    "seed": ("import", "the pair of oauth.seed_file is in use"),
    "refresh": ("refresh", "the pair was renewed"),
    "client_credentials": ("refresh", "an access token was obtained"),
}
"""By the way that a new generation came: the word of `alerts.events`, and the reason as a person is told it."""

NO_HOOK: Final = ConfigurationError(
    Fault("", "alerts", "no hook is set, so an alert would reach no one", "set alerts.command or alerts.webhook")
)

Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    """What the configuration says of alerts. `repeat` is seconds; `hooks` has at most one of each name; `events` are the words of `alerts.events`."""

    thresholds: Thresholds = field(default_factory=Thresholds)
    repeat: float = 3600.0
    hooks: tuple[AlertHook, ...] = ()
    events: frozenset[str] = frozenset()


class Alerts:
    """Watches one pair. `policy` may be replaced at any time; `instance` tells the hooks which daemon speaks."""

    def __init__(
        self,
        keeper: BearerSource,
        policy: AlertPolicy,
        clock: Clock,
        observe: Observer,
        memory: AlarmMemory,
        *,
        instance: str,
        version: str,
        blocking: Blocking = asyncio.to_thread,
    ) -> None:
        self._keeper, self.policy, self._clock, self._observe = keeper, policy, clock, observe
        self._instance, self._version = instance, version
        self._memory, self._blocking = memory, blocking
        self._watch = Watch()
        self._speaks = False
        """Whether this process tells: the pair's owner does, and a follower while no owner is heard."""
        self._alone = False
        self._is_over = False
        """Whether an alarm told here is over, and the owner tells again."""
        self._remembered = (Level.NONE, 0.0)
        self._to_remember = asyncio.Event()
        self._couriers = {name: Courier(name, self._hook, observe) for name in WAYS}

    @property
    def level(self) -> Level:
        """The level of the last look."""
        return self._watch.level

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._carry())
            tasks.create_task(self._remember())
            while True:
                await self._keeper.news(await self._looked())

    async def _carry(self) -> None:
        await asyncio.gather(*(courier.run() for courier in self._couriers.values()))

    async def test(self) -> Data:
        """Sends one test alert through every hook at once; see `tried`. Raises ConfigurationError if there is no hook."""
        shown = self._keeper.snapshot()
        return await tried(self.policy.hooks, alert("test", shown, self._instance, self._version, shown.as_of))

    def hear(self, event: Event) -> None:
        """Tells of what became of the pair that this process owns, if `alerts.events` asks for it. To be called in the loop's thread; raises nothing."""
        try:
            self._hear(event)
        except Exception as fault:  # the pair's life goes on behind this call
            self._observe(TaskFailed("alerts", type(fault).__name__))

    def _hear(self, event: Event) -> None:
        shown = self._keeper.snapshot()
        match event:
            case TokenRefreshed(grant=grant, access_until=until, runway=runway) if grant in _EVENTS:
                word, reason = _EVENTS[grant]
                shown = replace(shown, access_until=until, served_until=until, runway_seconds=runway)
            case ChainChanged(chain="dead", before=before) if before:
                word, reason = "dead", event.reason
                shown = replace(shown, access=event.access, chain="dead", runway_seconds=0.0, remedy=event.remedy)
            case PairErased(revocation):
                word, reason = "logout", revocation
            case _:
                return
        if word in self.policy.events:
            document = alert("event", shown, self._instance, self._version, self._clock.wall(), word, reason)
            self._send(document)

    async def settle(self, within: float = LAST_WORD) -> None:
        """Waits until all that was told is out, for at most so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                for courier in self._couriers.values():
                    await courier.idle()

    async def send_off(self) -> None:
        """Brings out what was told, where `run` does not."""
        carrying = asyncio.ensure_future(self._carry())
        await self.settle(LIMIT + LAST_WORD)
        await ended(carrying)

    async def _looked(self) -> float:
        """Looks, tells, and gives the seconds until the next look."""
        try:
            if _has_voice(self._keeper.snapshot()) and not self._speaks:
                await self._go_on()
            return self._look(self._keeper.snapshot())
        except Exception as fault:  # a fault of one look must not end the watch
            self._observe(TaskFailed("alerts", type(fault).__name__))
            return LONGEST_LOOK

    async def _go_on(self) -> None:
        """Takes up what the process that told before has told."""
        before = await self._blocking(self._memory.load)
        self._watch = resumed(self._watch, before, self._clock.monotonic(), self._clock.wall())
        self._remembered = (self._watch.worst, self._watch.told_at)
        self._speaks = True

    def _look(self, shown: TokenSnapshot) -> float:
        seen = looked(self._watch, shown, self.policy.thresholds, self.policy.repeat, self._clock.monotonic())
        self._watch = seen.watch
        if not _has_voice(shown):
            if self._alone and seen.telling is not None and seen.telling.kind is Kind.RECOVERED:
                self._tell(
                    seen.telling, shown, seen.watch.since
                )  # the owner that came back does not know what was told here
                self._is_over = True
                self._to_remember.set()
            self._watch, self._speaks, self._alone = replace(seen.watch, worst=Level.NONE), False, False
        else:
            self._alone = shown.alone
            if seen.telling is not None:
                self._tell(seen.telling, shown, seen.watch.since)
            if (told := (self._watch.worst, self._watch.told_at)) != self._remembered:
                self._remembered = told
                self._to_remember.set()
        return LONGEST_LOOK if seen.again_in is None else min(LONGEST_LOOK, max(SHORTEST_LOOK, seen.again_in))

    async def _remember(self) -> None:
        """Remembers what was told once it was delivered: a process that dies before has not told it."""
        while True:
            await self._to_remember.wait()
            self._to_remember.clear()
            for courier in self._couriers.values():
                await courier.idle()
            if self._speaks or self._is_over:
                self._is_over = False
                told = alarmed(self._watch, self._clock.monotonic(), self._clock.wall())
                await self._blocking(lambda told=told: self._memory.save(told))  # type: ignore[misc]

    def _tell(self, telling: Telling, shown: TokenSnapshot, since: float) -> None:
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
        self._send(alert(word, shown, self._instance, self._version, since))

    def _send(self, document: bytes) -> None:
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
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue()
        self._failing = False
        self._tried: AlertHook | None = None

    def take(self, document: bytes) -> None:
        """Delivers `document` after those before it."""
        if self._waiting.qsize() == MOST_WAITING:
            self._waiting.get_nowait()
            self._waiting.task_done()
            self._failed(f"{MOST_WAITING} messages wait for it, and the oldest is lost")
        self._waiting.put_nowait(document)

    async def idle(self) -> None:
        """Waits until no alert waits and none is under way."""
        await self._waiting.join()

    async def run(self) -> None:
        while True:
            document = await self._waiting.get()
            if (hook := self._hook_of(self._name)) is not None:
                await self._bring(hook, document)
            self._waiting.task_done()

    async def _bring(self, hook: AlertHook, document: bytes) -> None:
        if hook is not self._tried:  # after a reload a failure is news
            self._tried, self._failing = hook, False
        try:
            await hook.deliver(document)
        except AlertUndelivered as fault:
            self._failed(str(fault))
        except Exception as fault:  # must not silence the alerts that follow
            self._failed(f"a fault inside passoproxy ({type(fault).__name__})")
        else:
            self._failing = False

    def _failed(self, detail: str) -> None:
        if not self._failing:
            self._observe(AlertFailed(self._name, detail))
        self._failing = True


async def tried(hooks: tuple[AlertHook, ...], document: bytes) -> Data:
    """What was `sent`, and the `results`: of each hook its name as `hook`, `where` it goes, whether it is `ok`, and what it `said`.

    Raises ConfigurationError if there is no hook.
    """
    if not hooks:
        raise NO_HOOK

    async def one(hook: AlertHook) -> Data:
        told: Data = {"hook": hook.name, "where": hook.where()}
        try:
            return {**told, "ok": True, "said": await hook.deliver(document)}
        except AlertUndelivered as fault:
            return {**told, "ok": False, "said": str(fault)}

    return {"sent": json.loads(document), "results": list(await asyncio.gather(*map(one, hooks)))}


def alert(
    level: str,
    shown: TokenSnapshot | None,
    instance: str,
    version: str,
    since: float,
    event: str | None = None,
    reason: str = "",
) -> bytes:
    """The JSON object that a hook gets, as docs/alert.schema.json has it. `level` is log, notify, page, recovered, event or test; `shown` None: no
    daemon runs that could tell. `since` is epoch seconds; `reason` takes the place of the pair's own.
    """
    if level == "test":
        reason = "this is a test; nothing is wrong"
    document: Data = {
        "level": level,
        "event": event,
        "state": "not running" if shown is None else shown.chain,
        "reason": reason or (shown.reason if shown else ""),
        "remedy": shown.remedy if shown is not None and level not in ("test", "recovered") else "",
        "since": spoken(since),
        "runway_seconds": None if shown is None else shown.runway_seconds,
        "deadline": None if shown is None else _moment(deadline(shown)),
        "access_until": None if shown is None else _moment(shown.access_until),
        "served_until": None if shown is None else _moment(shown.served_until),
        "link": "" if shown is None else shown.link,
        "instance": instance,
        "version": version,
    }
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _moment(at: float | None) -> str | None:
    return None if at is None else spoken(at) or None

"""An alert by a command: one JSON object on its standard input, ten seconds, and an end with all that it began (contract §3 `alerts.command`)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from typing import Final, cast

from passoproxy.errors import AlertUndelivered

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

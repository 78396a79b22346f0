"""Before the machine sleeps: a delay lock of systemd-logind (org.freedesktop.login1) is held, and given up when the pair was renewed.

Spoken over D-Bus with dbus-fast (`pip install 'dbus-fast>=5'`). Without D-Bus, logind or dbus-fast nothing is held; then a sleep is noticed
within a second after waking (see `clock`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from passoproxy.ports import Clock

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

CONNECT_AGAIN = 60.0
"""Seconds between two tries to reach logind after it was there once: it may be restarted."""

MARGIN = 0.5
"""Seconds before logind would take the lock away at which it is given up."""

REPLY_WITHIN = 5.0
"""Seconds that the bus may take to answer."""

NAME = "org.freedesktop.login1"
PATH = "/org/freedesktop/login1"
MANAGER = "org.freedesktop.login1.Manager"
_BUS = "org.freedesktop.DBus"
_MATCH = f"type='signal',sender='{NAME}',path='{PATH}',interface='{MANAGER}',member='PrepareForSleep'"


class LogindAway(Exception):
    """logind cannot be reached, or does not do what is asked."""


class BeforeSleep:
    """Awaits `prepare` before each sleep, for as long as logind allows. `connect` reaches logind, or raises LogindAway."""

    def __init__(
        self, connect: Callable[[], Awaitable[Logind]], prepare: Callable[[], Awaitable[object]], clock: Clock
    ) -> None:
        self._connect = connect
        self._prepare = prepare
        self._clock = clock
        self._lock = -1

    async def run(self) -> None:
        """Watches until it is cancelled; ends if logind is not there."""
        while True:
            try:
                logind = await self._connect()
            except LogindAway:
                return
            try:
                await self._watch(logind)
            except LogindAway:
                pass  # a sleep is noticed afterwards as well
            finally:
                self._let_go()
                await logind.close()
            await self._clock.sleep(CONNECT_AGAIN)

    async def _watch(self, logind: Logind) -> None:
        sleeps = logind.sleeps()  # before the lock, so that no sleep goes by between the two
        self._lock = await logind.delay()
        async for is_going in sleeps:
            if is_going:
                await self._go(await logind.longest_delay())
            elif self._lock < 0:
                self._lock = await logind.delay()

    async def _go(self, seconds: float) -> None:
        try:
            # a task of its own: what is under way when the time is up goes on, and may still end well after waking
            work = asyncio.ensure_future(self._prepare())
            late = asyncio.ensure_future(self._clock.sleep(max(0.0, seconds - MARGIN)))
            await asyncio.wait({work, late}, return_when=asyncio.FIRST_COMPLETED)
            late.cancel()
            if work.done() and not work.cancelled():
                work.exception()  # retrieved; `prepare` tells its own faults
        finally:
            self._let_go()

    def _let_go(self) -> None:
        lock, self._lock = self._lock, -1
        if lock >= 0:
            with contextlib.suppress(OSError):
                os.close(lock)


async def reach(address: str | None = None) -> Logind:
    """logind on the bus at `address`, the system's by default. Raises LogindAway if dbus-fast, the bus or logind is missing."""
    try:
        from dbus_fast import BusType
        from dbus_fast.aio import MessageBus
    except ImportError as error:
        raise LogindAway("dbus-fast is not installed") from error
    try:
        async with asyncio.timeout(REPLY_WITHIN):
            bus = MessageBus(bus_address=address, bus_type=BusType.SYSTEM, negotiate_unix_fd=True)
            logind = Logind(await bus.connect())
    except Exception as error:  # dbus-fast raises what its transport and its parser raise
        raise LogindAway(f"the system bus cannot be reached ({type(error).__name__})") from error
    await logind.open()
    return logind


class Logind:
    """logind on a connected bus; `open` first. All calls raise LogindAway, whatever goes wrong."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus
        self._told: asyncio.Queue[bool | None] = asyncio.Queue()

    async def open(self) -> None:
        """Subscribes to the signals of sleep, and makes sure that logind answers; else leaves the bus."""
        self._bus.add_message_handler(self._on_message)
        try:
            await self._call(_BUS, "/org/freedesktop/DBus", _BUS, "AddMatch", "s", [_MATCH])
            await self.longest_delay()
        except LogindAway:
            self._bus.disconnect()
            raise

    async def delay(self) -> int:
        """Takes a delay lock; its descriptor, to be closed when the machine may sleep."""
        words = ["sleep", "passoproxy", "renews the account's token pair", "delay"]
        values, descriptors = await self._call(NAME, PATH, MANAGER, "Inhibit", "ssss", words)
        try:
            return int(descriptors[values[0]])
        except (IndexError, TypeError) as error:
            raise LogindAway("logind gave no lock") from error

    async def longest_delay(self) -> float:
        """Seconds by which a lock delays a sleep at most."""
        words = [MANAGER, "InhibitDelayMaxUSec"]
        values, _ = await self._call(NAME, PATH, f"{_BUS}.Properties", "Get", "ss", words)
        try:
            return float(values[0].value) / 1e6
        except (IndexError, AttributeError, TypeError, ValueError) as error:
            raise LogindAway("logind does not say how long a sleep can be delayed") from error

    async def sleeps(self) -> AsyncIterator[bool]:
        """True before each sleep, False after it. Ends when the bus is gone."""
        gone = asyncio.ensure_future(self._bus.wait_for_disconnect())

        def end(_: object) -> None:
            if not gone.cancelled():
                gone.exception()  # that the bus is gone is all that counts
            self._told.put_nowait(None)

        gone.add_done_callback(end)
        try:
            while (told := await self._told.get()) is not None:
                yield told
        finally:
            gone.cancel()

    async def close(self) -> None:
        """Leaves the bus."""
        self._bus.disconnect()

    def _on_message(self, message: Message) -> None:
        if (message.interface, message.member) == (MANAGER, "PrepareForSleep") and message.body:
            self._told.put_nowait(bool(message.body[0]))

    async def _call(
        self, name: str, path: str, interface: str, member: str, signature: str, words: list[Any]
    ) -> tuple[Sequence[Any], Sequence[int]]:
        """A method's answer: its values, and the descriptors that came with it."""
        from dbus_fast import Message, MessageType

        asked = Message(
            destination=name, path=path, interface=interface, member=member, signature=signature, body=words
        )
        try:
            async with asyncio.timeout(REPLY_WITHIN):
                reply = await self._bus.call(asked)
        except Exception as error:  # as above
            raise LogindAway(f"{member} was not answered ({type(error).__name__})") from error
        if reply is None or reply.message_type is MessageType.ERROR:
            raise LogindAway(f"{member} was refused ({getattr(reply, 'error_name', 'no reply')})")
        return reply.body, reply.unix_fds

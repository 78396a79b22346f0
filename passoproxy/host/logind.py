"""Before the machine sleeps: a delay lock of systemd-logind is held, and given up when what had to be done is done.

Without D-Bus, logind or dbus-fast nothing is held; then the gap is noticed within a second of waking (see `clock`). How logind is spoken to
is `logind`'s business.

D-Bus by dbus-fast (`pip install 'dbus-fast>=5'`): as much of it as `logind` needs.

systemd-logind over a bus: the delay lock, and when the machine sleeps (org.freedesktop.login1).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from passoproxy.ports import Clock

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus


CONNECT_AGAIN = 60.0
"""Seconds between two tries to reach logind where it was there once: it may be restarted."""

MARGIN = 0.5
"""The lock is given up so many seconds before logind would take it."""


class LogindAway(Exception):
    """logind cannot be reached, or does not do what is asked."""


class Logind(Protocol):
    """The sleep of this machine, as systemd-logind tells of it. All raise LogindAway."""

    async def delay(self) -> int:
        """Takes a delay lock; its descriptor, to be closed when the machine may sleep."""
        ...

    async def longest_delay(self) -> float:
        """For how many seconds a lock delays a sleep at most."""
        ...

    def sleeps(self) -> AsyncIterator[bool]:
        """True each time the machine is about to sleep, False each time it has woken. Ends when logind is gone."""
        ...

    async def close(self) -> None: ...


class BeforeSleep:
    """Awaits `prepare` before each sleep, for as long as logind lets it. `connect` reaches logind; it raises LogindAway."""

    def __init__(
        self, connect: Callable[[], Awaitable[Logind]], prepare: Callable[[], Awaitable[object]], clock: Clock
    ) -> None:
        self._connect = connect
        self._prepare = prepare
        self._clock = clock
        self._lock = -1

    async def run(self) -> None:
        """Watches until it is cancelled; ends where logind was never there."""
        while True:
            try:
                logind = await self._connect()
            except LogindAway:
                return
            try:
                await self._watch(logind)
            except LogindAway:
                pass  # whatever it was, sleep is noticed afterwards as well
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
                work.exception()  # looked at: what went wrong was told where it went wrong
        finally:
            self._let_go()

    def _let_go(self) -> None:
        lock, self._lock = self._lock, -1
        if lock >= 0:
            with contextlib.suppress(OSError):
                os.close(lock)


REPLY_WITHIN = 5.0
"""Seconds that the bus may take to answer."""


class SystemBus:
    """A connected bus. Its methods raise LogindAway for whatever goes wrong."""

    def __init__(self, bus: MessageBus) -> None:
        self._bus = bus

    @classmethod
    async def connect(cls, address: str | None = None) -> SystemBus:
        """The bus at `address`, the system's by default."""
        try:
            from dbus_fast import BusType
            from dbus_fast.aio import MessageBus
        except ImportError as error:
            raise LogindAway("dbus-fast is not installed") from error
        try:
            async with asyncio.timeout(REPLY_WITHIN):
                bus = MessageBus(bus_address=address, bus_type=BusType.SYSTEM, negotiate_unix_fd=True)
                return cls(await bus.connect())
        except Exception as error:  # dbus-fast raises whatever its transport and its parsing raise
            raise LogindAway(f"the system bus cannot be reached ({type(error).__name__})") from error

    async def call(
        self, name: str, path: str, interface: str, member: str, signature: str, words: Sequence[Any]
    ) -> tuple[Sequence[Any], Sequence[int]]:
        """A method's answer: its values, and the descriptors that came with it."""
        from dbus_fast import Message, MessageType

        asked = Message(
            destination=name, path=path, interface=interface, member=member, signature=signature, body=list(words)
        )
        try:
            async with asyncio.timeout(REPLY_WITHIN):
                reply = await self._bus.call(asked)
        except Exception as error:  # as above
            raise LogindAway(f"{member} was not answered ({type(error).__name__})") from error
        if reply is None or reply.message_type is MessageType.ERROR:
            raise LogindAway(f"{member} was refused ({getattr(reply, 'error_name', 'no reply')})")
        return reply.body, reply.unix_fds

    def hear(self, handler: Callable[[str, str, Sequence[Any]], None]) -> None:
        """Gives interface, member and values of every message to `handler`."""

        def heard(message: Message) -> None:
            handler(message.interface or "", message.member or "", message.body)

        self._bus.add_message_handler(heard)

    async def gone(self) -> None:
        """Waits until the bus is gone, however it went."""
        try:
            await self._bus.wait_for_disconnect()
        except Exception:
            return  # that it is gone is all that counts

    def leave(self) -> None:
        """Ends the connection."""
        self._bus.disconnect()


NAME = "org.freedesktop.login1"
PATH = "/org/freedesktop/login1"
MANAGER = "org.freedesktop.login1.Manager"
_BUS = "org.freedesktop.DBus"


class Bus(Protocol):
    """What is asked of a bus (`system_bus.SystemBus`)."""

    async def call(
        self, name: str, path: str, interface: str, member: str, signature: str, words: Sequence[Any]
    ) -> tuple[Sequence[Any], Sequence[int]]: ...
    def hear(self, handler: Callable[[str, str, Sequence[Any]], None]) -> None: ...
    async def gone(self) -> None: ...
    def leave(self) -> None: ...


async def reach() -> Logind:
    """logind on the system's bus. Raises LogindAway where dbus-fast, the bus or logind is missing."""
    found = BusLogind(await SystemBus.connect())
    await found.open()
    return found


class BusLogind:
    """A Logind on a connected bus; `open` first."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._told: asyncio.Queue[bool | None] = asyncio.Queue()

    async def open(self) -> None:
        """Has the bus pass on what logind says of sleep, and makes sure that logind is there; else leaves the bus. Raises LogindAway."""
        self._bus.hear(self._heard)
        rule = f"type='signal',sender='{NAME}',path='{PATH}',interface='{MANAGER}',member='PrepareForSleep'"
        try:
            await self._bus.call(_BUS, "/org/freedesktop/DBus", _BUS, "AddMatch", "s", [rule])
            await self.longest_delay()
        except LogindAway:
            self._bus.leave()
            raise

    async def delay(self) -> int:
        """Takes a delay lock; its descriptor."""
        words = ["sleep", "passoproxy", "renews the account's token pair", "delay"]
        values, descriptors = await self._bus.call(NAME, PATH, MANAGER, "Inhibit", "ssss", words)
        try:
            return int(descriptors[values[0]])
        except (IndexError, TypeError) as error:
            raise LogindAway("logind gave no lock") from error

    async def longest_delay(self) -> float:
        """For how many seconds a lock delays a sleep at most."""
        words = [MANAGER, "InhibitDelayMaxUSec"]
        values, _ = await self._bus.call(NAME, PATH, f"{_BUS}.Properties", "Get", "ss", words)
        try:
            return float(values[0].value) / 1e6
        except (IndexError, AttributeError, TypeError, ValueError) as error:
            raise LogindAway("logind does not say how long a sleep can be delayed") from error

    async def sleeps(self) -> AsyncIterator[bool]:
        """True before each sleep, False after it. Ends when the bus is gone."""
        gone = asyncio.ensure_future(self._bus.gone())
        gone.add_done_callback(lambda _: self._told.put_nowait(None))
        try:
            while (told := await self._told.get()) is not None:
                yield told
        finally:
            gone.cancel()

    async def close(self) -> None:
        """Leaves the bus."""
        self._bus.leave()

    def _heard(self, interface: str, member: str, values: Sequence[Any]) -> None:
        if (interface, member) == (MANAGER, "PrepareForSleep") and values:
            self._told.put_nowait(bool(values[0]))

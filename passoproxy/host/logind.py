"""systemd-logind over a bus: the delay lock, and when the machine sleeps (org.freedesktop.login1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from passoproxy.host.suspend import Logind, LogindAway
from passoproxy.host.system_bus import SystemBus

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

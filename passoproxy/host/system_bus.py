"""D-Bus by dbus-fast (`pip install 'dbus-fast>=5'`): as much of it as `logind` needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from passoproxy.host.suspend import LogindAway

if TYPE_CHECKING:
    from dbus_fast import Message
    from dbus_fast.aio import MessageBus

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

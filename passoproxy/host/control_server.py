"""The control application on its socket: under the owner's name where this process owns the pair, under a follower's until then."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from passoproxy.errors import PairStoreOwned, PassoproxyError
from passoproxy.host import control_socket

if TYPE_CHECKING:
    from aiohttp import web

TRY_EVERY = 1.0
"""Seconds between two tries to take the name, and between two calls to late callers, until both are done."""

LOOK_EVERY = 5.0
"""Seconds between two looks at the role if all is done: a change of roles gives the cue."""

LAST_ANSWERS = 0.5
"""Seconds at the end for answers under way; a daemon's stop has given them their time before."""

LATE_CALLS = 3.0
"""Seconds after another process took the pair in which a follower that had connected a moment before may still begin to listen."""


class Holder(Protocol):
    """The holder of the pair, as far as it matters here."""

    @property
    def role(self) -> str: ...
    async def news(self, seconds: float) -> None: ...


class ControlSite:
    """The socket in `folder`. `open`, then `start` and `keep_named` as a task, then `hide` while no other process can have it, and `close`."""

    def __init__(self, folder: Path, holder: Holder) -> None:
        self._folder = folder
        self._holder = holder
        self.name = ""
        """The socket's name; '' while there is none."""
        self._called_until: float | None = None
        """Until when late callers are sent away, by the loop's time; None if no process took the pair from this one just now."""
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    def open(self) -> None:
        """Makes the socket; it is served from `start` on. Raises CannotCreate."""
        if self._holder.role == "owner":
            control_socket.clear_left_over(self._folder)
            try:
                self._socket = control_socket.listen(self._folder)
                self.name = control_socket.NAME
                return
            except PairStoreOwned:
                pass  # a daemon with a static token, which owns no pair, was here before
        self.name = control_socket.follower_name()
        self._socket = control_socket.listen(self._folder, self.name)

    async def start(self, app: web.Application) -> None:
        """Serves `app`."""
        from aiohttp import web  # takes a while: the socket is there before

        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=LAST_ANSWERS)
        await self._runner.setup()
        self._server = await self._served(self._socket)

    async def _served(self, sock: socket.socket) -> asyncio.Server:
        assert self._runner is not None
        serve = self._runner.server
        assert serve is not None  # it was set up
        return await asyncio.get_running_loop().create_unix_server(lambda: _Gate(serve()), sock=sock)

    async def keep_named(self) -> None:
        """Takes the owner's name as soon as it is ours, and leaves it to the new owner when it is not any more, until it is cancelled."""
        while True:
            is_settled = self._called_until is None and self.name in ("", self._right_name)
            await self._holder.news(LOOK_EVERY if is_settled else TRY_EVERY)
            if self._called_until is not None:
                if asyncio.get_running_loop().time() >= self._called_until:
                    self._called_until = None  # and once more, for those who came since the last time
                await self._send_away()
            if self.name not in ("", self._right_name):
                await self._be_named(self._right_name)

    @property
    def _right_name(self) -> str:
        return control_socket.NAME if self._holder.role == "owner" else control_socket.follower_name()

    async def _be_named(self, name: str) -> None:
        assert self._server is not None
        try:
            made = control_socket.listen(self._folder, name)
        except PassoproxyError:
            return  # it is tried again
        before, self._server = self._server, await self._served(made)
        left, self.name = self.name, name
        control_socket.remove(self._folder, left)
        before.close()
        if name == control_socket.NAME:
            self._called_until = None
            control_socket.clear_left_over(self._folder)
        else:
            self._called_until = asyncio.get_running_loop().time() + LATE_CALLS
            await self._send_away()

    async def _send_away(self) -> None:
        """Followers are to follow the new owner, this process itself among them: it may have called itself a moment ago, and follow its
        own word for ever."""
        assert self._runner is not None
        await self._runner.app.on_shutdown.send(self._runner.app)

    def hide(self) -> None:
        """Takes the socket's file away, once: later it could be another daemon's."""
        if self.name:
            control_socket.remove(self._folder, self.name)
            self.name = ""

    async def close(self) -> None:
        """Ends what is served; to be called whether or not it was."""
        self.hide()
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()
        self._socket.close()


class _Gate(asyncio.Protocol):
    """Hands a connection on to `inner` if its peer may be heard; before a byte is read."""

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        if not control_socket.is_own(transport.get_extra_info("socket")):
            transport.abort()
            return
        transport.set_protocol(self._inner)
        self._inner.connection_made(transport)

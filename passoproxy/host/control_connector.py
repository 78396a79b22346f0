"""The way of aiohttp's client to a `control.sock`."""

from __future__ import annotations

import errno
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from passoproxy.errors import AccessDenied
from passoproxy.host import control_socket


class Connector(aiohttp.UnixConnector):
    """Reaches the socket also if its path is too long for an address, and says nothing to a peer that is not to be believed."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._reach = folder, control_socket.Reach(folder)
        super().__init__(self._reach.path, force_close=True)

    async def _create_connection(self, *arguments: Any) -> ResponseHandler:
        # Private to aiohttp, and the one place between connecting and sending.
        made = await super()._create_connection(*arguments)
        assert made.transport is not None  # it was connected just now
        try:
            control_socket.check_peer(made.transport.get_extra_info("socket"), self._folder)
        except AccessDenied as fault:
            made.close()
            raise PermissionError(errno.EACCES, str(fault)) from fault
        return made

    def close(self, *, abort_ssl: bool = False) -> Awaitable[None]:
        self._reach.close()  # connections that are made need it no more
        return super().close(abort_ssl=abort_ssl)

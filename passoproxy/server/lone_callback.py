"""A listener for one login's redirect, for the command that logs in where no daemon takes it: nothing but the path of `oauth.redirect_url`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

from aiohttp import web

from passoproxy.errors import CommandFailure, PassoproxyError
from passoproxy.server.admin_problems import status_of
from passoproxy.server.listeners import open_tcp

_PORTS = {"http": 80, "https": 443}
_FIELDS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'",
    "X-Content-Type-Options": "nosniff",
}


class Completing(Protocol):
    """What takes the redirect's query."""

    async def complete_login(self, query: str) -> object: ...


@contextlib.asynccontextmanager
async def lone_listener(daemon: Completing, redirect_url: str) -> AsyncIterator[None]:
    """Takes the redirect while the context lasts. CommandFailure where the address is not of this machine, ServiceUnreachable where it is taken."""
    parts = urlsplit(redirect_url)
    host, port = parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80)
    if parts.scheme != "http" or not _is_loopback(host):
        raise CommandFailure(
            f"oauth.redirect_url ({redirect_url}) does not lead to this machine's loopback address; use 'passoproxy login --paste'"
        )
    try:
        listener = open_tcp(host, port)
    except PassoproxyError as error:
        raise type(error)(
            f"{str(error).partition(';')[0]}; end what listens there, or use 'passoproxy login --paste'"
        ) from error

    async def take(request: web.Request) -> web.Response:
        try:
            await daemon.complete_login(request.rel_url.raw_query_string)
        except PassoproxyError as fault:
            return web.Response(text=f"Not authorised: {fault}\n", status=status_of(fault)[1], headers=_FIELDS)
        return web.Response(text="Authorised: passoproxy has its pair. You can close this window.\n", headers=_FIELDS)

    app = web.Application()
    app.router.add_get(parts.path or "/", take, allow_head=False)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield
    finally:
        await runner.cleanup()


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

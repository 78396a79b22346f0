"""Broken connections, made on purpose: dropped without an answer, reset or cut off in the middle of a body."""

import os
import socket
import struct
from collections.abc import Awaitable, Callable

from aiohttp import web

_LINGER_NOT = struct.pack("ii", 1, 0)


def drop(request: web.Request) -> web.Response:
    """Closes the connection without an answer; what is returned only satisfies the framework and is never sent."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def cut_off(
    request: web.Request, whole: web.Response, *, reset: bool, sleep: Callable[[float], Awaitable[object]]
) -> web.StreamResponse:
    """Declares the whole length, sends half of the body and ends the connection: with RST, or with an ordinary end.

    A client that has left already gets nothing, and nothing is raised for it.
    """
    body = bytes(whole.body) if isinstance(whole.body, (bytes, bytearray)) else b""
    partial = web.StreamResponse(status=whole.status, headers=whole.headers)
    partial.content_length = len(body)
    try:
        await partial.prepare(request)
        await partial.write(body[: len(body) // 2])
    except ConnectionResetError:  # the client left before: there is nothing to cut off any more
        return partial
    # What a peer has not read yet is lost when the reset arrives: the half must get there first.
    await sleep(0.05)
    transport = request.transport
    if transport is not None:
        if reset:
            _linger_not(transport.get_extra_info("socket"))
            transport.abort()
        else:
            transport.close()
    return partial


def _linger_not(connection: socket.socket) -> None:
    """Makes closing send RST. The option belongs to the open socket, so a duplicate reaches it under any event loop."""
    with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)

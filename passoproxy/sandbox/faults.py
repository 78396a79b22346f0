"""What can be made to go wrong: the table of faults, which of them are armed now, and connections that are broken on purpose.

Where each one strikes stands in `provider/token_endpoint.py` and `origin/guard.py`.
"""

from __future__ import annotations

import difflib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from aiohttp import web

from passoproxy.sandbox.journal import Entry


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
            # With SO_LINGER of zero closing sends RST. It belongs to the open socket, so a duplicate reaches it under any event loop.
            with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as duplicate:
                duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        else:
            transport.close()
    return partial


FAULTS: dict[str, str] = {
    "refresh_lost": "the refresh token is rotated, then the connection is dropped without an answer",
    "refresh_5xx": "a refresh is answered 503, nothing is rotated",
    "refresh_429": "a refresh is answered 429 with Retry-After, nothing is rotated",
    "refresh_garbage": "the refresh token is rotated, the answer is 200 with a body that cannot be read",
    "refresh_slow": "the refresh token is rotated, the answer comes after a long wait",
    "refresh_redirect": "a refresh is answered with a redirect, nothing is rotated",
    "no_expires_in": "a token answer has no expires_in",
    "expires_in_string": "a token answer has its expires_in as a string",
    "no_new_refresh_token": "a refresh gives no new refresh token, the old one stays valid",
    "origin_5xx": "the origin answers 500 with an HTML page",
    "origin_429": "the origin answers 429 with Retry-After",
    "origin_401": "the origin refuses a valid access token, which stays valid",
    "origin_slow": "the origin answers after a long wait",
    "origin_reset_midbody": "the connection is reset in the middle of a body",
    "origin_truncated": "the connection is closed before the declared length is reached",
    "revoked": "the owner withdraws the grant: all tokens of the chain end",
}


@dataclass(slots=True)
class Fault:
    """One armed fault; `left` is how often it will still strike, None for until it is switched off."""

    name: str
    left: int | None = None
    struck: int = 0


def parse_fault(text: str) -> Fault:
    """`NAME` or `NAME:N` as a fault. Raises ValueError that names the nearest valid name, or what N must be."""
    name, colon, count = text.partition(":")
    if name not in FAULTS:
        nearest = difflib.get_close_matches(name, FAULTS, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(FAULTS)}"
        raise ValueError(f"no such fault: {name!r}; {hint}")
    if not colon:
        return Fault(name)
    if not (count.isascii() and count.isdigit() and int(count) > 0):
        raise ValueError(f"fault {text!r}: the number after the colon must be a whole number from 1")
    return Fault(name, int(count))


class FaultSet:
    """The faults that are armed now."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._armed: dict[str, Fault] = {}
        self.arm(texts)

    def arm(self, texts: Iterable[str]) -> None:
        """Replaces the whole set; raises ValueError, and changes nothing, where one of the texts cannot be read."""
        faults = [parse_fault(text) for text in texts]
        self._armed = {fault.name: fault for fault in faults}

    def strikes(self, name: str, entry: Entry) -> bool:
        """Whether `name` strikes now; if so counts it down and notes it in the request's entry. Ask only for requests that it fits."""
        fault = self._armed.get(name)
        if fault is None or fault.left == 0:
            return False
        if fault.left is not None:
            fault.left -= 1
        fault.struck += 1
        entry.struck(name)
        return True

    def armed(self) -> list[Fault]:
        """Every fault of the set, used-up ones included."""
        return list(self._armed.values())

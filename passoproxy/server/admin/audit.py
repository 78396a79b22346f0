"""Audit lines: who changed what over the admin listener and `control.sock`, from where, and what came of it; refused tries too."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from passoproxy.core.events import Audited
from passoproxy.errors import PassoproxyError
from passoproxy.peer_credentials import peer_credentials, peer_process
from passoproxy.ports import Observer
from passoproxy.server.admin.actions import ACTIONS
from passoproxy.server.admin.errors import CrossSite, SessionRequired, TokenRequired

TARGET: web.RequestKey[str] = web.RequestKey("audit_target", str)
"""What a call is about, set by its handler."""
OUTCOME: web.RequestKey[str] = web.RequestKey("audit_outcome", str)
"""What came of a call if its status does not tell, set by its handler; '' for nothing that is worth a line."""

WHO: web.RequestKey[str] = web.RequestKey("audit_who", str)
"""Who asks, if a handler has found that out by what the call itself brings."""

Who = Callable[[web.Request], str]
"""Names the sender of a request, without a secret."""

_REFUSED: Final = (TokenRequired, SessionRequired, CrossSite)


def audits(observer: Observer, who: Who) -> Middleware:
    """Tells of each call of `ACTIONS`, and of each that lacks the right, whatever it asks for."""

    @web.middleware
    async def audit(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        path = resource.canonical if resource is not None else ""
        method = "GET" if request.method == "HEAD" else request.method
        action, outcome = ACTIONS.get((method, path), ""), "failed"
        try:
            answer = await handler(request)
            outcome = request.get(OUTCOME, _outcome(answer.status))
            return answer
        except web.HTTPException:  # a step on the way, or no route
            outcome = ""
            raise
        except _REFUSED as fault:
            action, outcome = action or f"read {path}", fault.code
            raise
        except PassoproxyError as fault:
            outcome = fault.code
            raise
        except asyncio.CancelledError:
            outcome = "abandoned"
            raise
        finally:
            if action and outcome:
                observer(
                    Audited(action, request.get(WHO) or who(request), _peer(request), request.get(TARGET, ""), outcome)
                )

    return audit


def socket_user(request: web.Request) -> str:
    """The user and the process at the other end of a unix socket, as the kernel tells them; '' for another connection."""
    sock = request.transport.get_extra_info("socket") if request.transport is not None else None
    if sock is None or sock.family != socket.AF_UNIX:
        return ""
    try:
        user, pid = peer_credentials(cast(socket.socket, sock))[0], peer_process(cast(socket.socket, sock))
    except OSError:
        return ""  # it has gone
    return f"uid {user}, pid {pid}" if pid else f"uid {user}"


def _peer(request: web.Request) -> str:
    if request.remote:
        return request.remote
    name = request.transport.get_extra_info("sockname") if request.transport is not None else ""
    return f"unix:{name}" if isinstance(name, str) and name else "unix"


def _outcome(status: int) -> str:
    if status < 400:
        return "done"
    return "refused" if status in (401, 403) else "failed"

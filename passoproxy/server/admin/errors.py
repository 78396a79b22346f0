"""Errors of the admin listener and of `control.sock` as problem documents (RFC 9457), with what a command needs to end by them.

The proxy listener's own answers are made in `problems`.
"""

from __future__ import annotations

import json

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from passoproxy.core.events import RequestRejected, TaskFailed
from passoproxy.errors import (
    BadRequest,
    BodyTooLarge,
    InternalError,
    MethodNotAllowed,
    PassoproxyError,
    Refusal,
    RequestTimeout,
)
from passoproxy.ports import Observer


class NotFound(Refusal):
    """The admin listener has no such path, or the thing asked for does not exist."""

    code, status, title = "not_found", 404, "Not found"


class CrossSite(Refusal):
    """A change was asked for by another site's page, or by a bare POST."""

    code, status, title, proxy_error = "cross_site", 403, "Refused for whom it came from", "http_request_denied"


class SessionRequired(Refusal):
    """A change was asked for without the admin token, and without a page session."""

    code, status, title, proxy_error = "session_required", 403, "A page session is required", "http_request_denied"

    def __init__(self, command: str) -> None:
        super().__init__(
            f"run '{command}', which opens the status page so that it may change things; other commands use control.sock, "
            "and scripts the token of admin.token_file"
        )


class TokenRequired(Refusal):
    """The admin token is missing or wrong."""

    code, status, title, proxy_error = "token_required", 401, "Admin token required", "http_request_denied"

    def __init__(self) -> None:
        super().__init__(
            "send the token of admin.token_file as Authorization: Bearer, or enter it on the status page",
            (("WWW-Authenticate", 'Bearer realm="passoproxy admin"'),),
        )


def problem(fault: PassoproxyError) -> web.Response:
    """The answer for `fault`: besides RFC 9457's members `code`, `exit_code`, and `faults` if there are several."""
    lines = str(fault).splitlines() or [fault.code]
    document: dict[str, object] = {
        "type": f"urn:passoproxy:problem:{fault.code}",
        "title": fault.title if isinstance(fault, Refusal) else "The command failed",
        "status": fault.status,
        "detail": "; ".join(lines),
        "code": fault.code,
        "exit_code": fault.exit_code,
    }
    if len(lines) > 1:
        document["faults"] = lines
    answer = web.Response(
        status=fault.status,
        body=json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"),
        headers={
            "Content-Type": "application/problem+json",
            "Cache-Control": "no-store",
            "Server": "passoproxy",
            "X-Content-Type-Options": "nosniff",
        },
    )
    if isinstance(fault, Refusal):
        answer.headers.extend(fault.fields)
    return answer


def problems(observer: Observer) -> Middleware:
    """Answers every error with a problem document and tells refusals and unexpected faults as events."""

    @web.middleware
    async def answer(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except PassoproxyError as fault:
            told = fault
        except web.HTTPException as refused:
            if refused.status < 400:
                raise
            told = _translated(refused)
        except TimeoutError:
            told = RequestTimeout("the body of the request did not arrive in time")
        except Exception as fault:  # a fault of ours must neither end the listener nor show its insides
            if isinstance(fault, ConnectionError) and (request.transport is None or request.transport.is_closing()):
                raise  # the client left while its answer was written
            said = f"{type(fault).__name__} at {request.method} {_route(request)}"
            observer(TaskFailed("the admin listener", said, listener="admin"))
            told = InternalError("see the log of passoproxy")
        if isinstance(told, Refusal) and told.status < 500:
            observer(RequestRejected(told.code, str(told), request.remote or "", listener="admin"))
        return problem(told)

    return answer


def _translated(refused: web.HTTPException) -> Refusal:
    match refused:
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(refused.allowed_methods))
            return MethodNotAllowed(f"this path answers {allowed}", (("Allow", allowed),))
        case web.HTTPRequestEntityTooLarge():
            return BodyTooLarge("the body is larger than the admin listener takes")
        case web.HTTPNotFound():
            return NotFound("the admin listener has no such path; its paths are in the documentation")
        case _:
            return BadRequest("the request cannot be understood")


def _route(request: web.Request) -> str:
    # The pattern and not the path, which may hold what a client sent.
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "an unknown path"

"""One family of exceptions, each with its contract code, HTTP status and exit code.

A `Refusal` is an answer to a client of the proxy listener (contract §6), a `CommandFailure` a message to a person at a terminal (contract
§2). The errors that rooms raise for one another stand last. This module imports nothing of passoproxy.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

from passoproxy.values import dataclass


class PassoproxyError(Exception):
    """The root. Its text says what is wrong, where, and what to do, in one line without secrets."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1


# ---- answers to a client ---------------------------------------------------------------------------------------------


class Refusal(PassoproxyError):
    """An answer of the proxy's own: a problem document with `code`, `status`, `title` and the text as `detail`.

    `fields` are further header fields of the answer (`Allow`, `Retry-After`, `WWW-Authenticate`), in order.
    `proxy_error` is the error type for `Proxy-Status` (RFC 9209 §2.3).
    """

    title: ClassVar[str] = "Refused"
    proxy_error: ClassVar[str] = "http_request_error"

    def __init__(self, detail: str, fields: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields


class _Wait(Refusal):
    """A 503 that always says when to come again."""

    status = 503

    def __init__(self, detail: str, retry_after: float = 5.0, fields: tuple[tuple[str, str], ...] = ()) -> None:
        """`retry_after`: seconds, rounded up to a whole second of at least 1."""
        super().__init__(detail, (*fields, ("Retry-After", str(max(1, int(-(-retry_after // 1)))))))


class AuthorizationRequired(_Wait):
    """No usable pair and nothing stored that may be served: a person has to log in."""

    code = "authorization_required"
    title = "A person has to authorise passoproxy"
    proxy_error = "proxy_configuration_error"


class TokenUnavailable(_Wait):
    """No usable token now, but no person is needed."""

    code = "token_unavailable"
    title = "No access token at the moment"
    proxy_error = "proxy_internal_error"


class Overloaded(_Wait):
    """A queue or a connection limit is full."""

    code = "overloaded"
    title = "Too much at once"
    proxy_error = "connection_limit_reached"


class CoolingDown(_Wait):
    """The origin asked for a pause (429), and nothing stored may be served: nothing was sent."""

    code = "cooling_down"
    status = 429
    title = "The origin asked for a pause"
    proxy_error = "connection_limit_reached"


class OriginUnreachable(Refusal):
    """No connection to the origin could be made, or it broke before an answer."""

    code, status = "origin_unreachable", 502
    title, proxy_error = "The origin cannot be reached", "destination_unavailable"


class ConnectFailed(OriginUnreachable):
    """No connection to the origin stood, so that nothing was sent."""


class OriginTimeout(Refusal):
    """The origin took longer than `upstream.connect_timeout` or `upstream.read_timeout`."""

    code, status = "origin_timeout", 504
    title, proxy_error = "The origin did not answer in time", "connection_read_timeout"


class ConnectTimeout(OriginTimeout):
    """No connection to the origin stood within `upstream.connect_timeout`."""

    proxy_error = "connection_timeout"


class OriginInvalid(Refusal):
    """The origin's answer is not HTTP as RFC 9112 has it."""

    code, status = "origin_invalid", 502
    title, proxy_error = "The origin's answer is not valid HTTP", "http_protocol_error"


class Offline(Refusal):
    """Nothing stored, and the origin must not be asked."""

    code, status = "offline", 504
    title, proxy_error = "Nothing stored, and the origin is not to be asked", "proxy_internal_response"


class HostNotAllowed(Refusal):
    """The request's authority is not in `server.allowed_hosts`."""

    code, status, title, proxy_error = "host_not_allowed", 421, "Host not allowed", "http_request_denied"


class OriginNotAllowed(Refusal):
    """A browser page of another origin asked."""

    code, status, title, proxy_error = "origin_not_allowed", 403, "Browser origin not allowed", "http_request_denied"


class ClientNotAllowed(Refusal):
    """The client key is missing or wrong."""

    code, status, title, proxy_error = "client_not_allowed", 401, "Client key missing or wrong", "http_request_denied"


class PathNotAllowed(Refusal):
    """`upstream.deny_paths` or `upstream.allow_paths` forbid the path."""

    code, status, title, proxy_error = "path_not_allowed", 403, "Path not allowed", "http_request_denied"


class NotHere(Refusal):
    """The path is not below `server.base_path`."""

    code, status, title, proxy_error = "not_here", 404, "Nothing at this path", "http_request_denied"


class MethodNotAllowed(Refusal):
    """`upstream.allow_methods` does not list the method; carries `Allow`."""

    code, status, title, proxy_error = "method_not_allowed", 405, "Method not allowed", "http_request_denied"


class BadRequest(Refusal):
    """The request is not valid HTTP, or ambiguous."""

    code, status, title, proxy_error = "bad_request", 400, "Bad request", "http_request_error"


class PreconditionFailed(Refusal):
    """A condition of the request cannot hold, whatever the origin has (RFC 9110 §13.1.1)."""

    code, status, title, proxy_error = "precondition_failed", 412, "Precondition failed", "http_request_error"


class HeadersTooLarge(Refusal):
    """Request line and fields are over `server.limits.header_bytes`."""

    code, status, title, proxy_error = "headers_too_large", 431, "Header section too large", "http_request_error"


class BodyTooLarge(Refusal):
    """The request body is over `server.limits.body_bytes`."""

    code, status, title, proxy_error = "body_too_large", 413, "Request body too large", "http_request_error"


class RequestTimeout(Refusal):
    """The request did not arrive in time."""

    code, status = "request_timeout", 408
    title, proxy_error = "The request took too long to arrive", "http_request_error"


class InternalError(Refusal):
    """A fault of passoproxy itself; the log has the reason."""

    code, status, title, proxy_error = "internal_error", 500, "A fault inside passoproxy", "proxy_internal_error"


# ---- messages to a person at a terminal ------------------------------------------------------------------------------


class CommandFailure(PassoproxyError):
    """A command cannot do what it was asked; its text is the one line on standard error."""

    code, status = "failed", 422


class UsageFailure(CommandFailure):
    """The command line is wrong."""

    code, status = "bad_request", 400
    exit_code = 2


class NotRunning(CommandFailure):
    """No daemon answers on `control.sock`."""

    exit_code = 3


class AccessDenied(CommandFailure):
    """A daemon or its folder belongs to another user, and this user may not talk to it.

    `user` is the number of a user who may, None if none is known; `state` is the folder that the command then has to name.
    """

    exit_code = 77

    def __init__(self, text: str, *, user: int | None = None, state: Path | None = None) -> None:
        super().__init__(text)
        self.user, self.state = user, state


class ServiceUnreachable(CommandFailure):
    """A needed service cannot be reached, or a port is in use."""

    code, status = "service_unreachable", 503
    exit_code = 69


class OwnerGone(ServiceUnreachable):
    """The process that owns the pair does not answer."""


class ImportRefused(CommandFailure):
    """An imported pair does not take the place of the one in use, which lives."""

    code, status = "import_refused", 409


class CannotCreate(CommandFailure):
    """A file or folder cannot be made."""

    exit_code = 73


class PersonNeeded(CommandFailure):
    """Authorization by a person is needed, or was denied."""

    code, status = "authorization_required", 409
    exit_code = 77


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong in a configuration. `where` is the file with its line where known, `key` the dotted path."""

    where: str
    key: str
    problem: str
    remedy: str = ""

    def __str__(self) -> str:
        said = ": ".join(filter(None, (self.where, self.key, self.problem)))
        return f"{said}; {self.remedy}" if self.remedy else said


def missing_library(key: str, *requirements: str) -> Fault:
    """A key that needs a library which is not installed. `requirements` are what pip installs, for the interpreter that runs now."""
    name, wanted = requirements[0].partition(">")[0], " ".join(f"'{each}'" for each in requirements)
    return Fault("", key, f"needs the {name} library", f"run: {sys.executable} -m pip install {wanted}")


class ConfigurationError(CommandFailure):
    """Every fault of a configuration, told together; `str()` has a line for each."""

    code, status = "configuration_error", 422
    exit_code = 78

    def __init__(self, *faults: Fault) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults


# ---- between rooms ---------------------------------------------------------------------------------------------------


class TokenRequestUnsent(PassoproxyError):
    """The token request never left: name, TCP, TLS or a refused CONNECT. The token in it is unspent."""

    code, status, exit_code = "provider_unreachable", 502, 69


class TokenAnswerLost(PassoproxyError):
    """The connection stood and the answer is lost or unreadable. The token in it may be spent."""

    code, status, exit_code = "provider_answer_lost", 502, 69


class AnswerUnusable(PassoproxyError):
    """A token answer that holds no usable pair."""

    code, status = "answer_unusable", 422


class PairStoreFailure(PassoproxyError):
    """The pair's folder cannot be read or written now; the text names the file."""

    code, status = "state_unwritable", 500


class PairStoreAway(PairStoreFailure):
    """A shared store cannot be reached now; the text names it."""

    exit_code = 69


class PairStoreOwned(PassoproxyError):
    """Another process holds the pair's folder; the text names it where known."""


class OwnerUnknown(PairStoreOwned):
    """A shared store cannot be asked who owns the pair, which until then is another's."""

    exit_code = 69


class PairStoreUnproven(PairStoreFailure):
    """A shared store cannot be asked who owns the pair: no refresh token may be presented, however little is left."""


class PairDamaged(PassoproxyError):
    """The stored pair cannot be understood; the file was left or moved aside, and is named."""


class AlertUndelivered(PassoproxyError):
    """An alert did not get out by one of its ways; the text says how it failed, without the way's secrets."""


class EntryStoreFailure(PassoproxyError):
    """The cache's folder cannot be read or written now: a miss and a pass, never an error for a client."""


class ConnectionDropped(OriginUnreachable):
    """A kept connection was closed before a byte of the answer came: the request may be sent again if that is safe."""


class BodyBroken(PassoproxyError):
    """A body ended before its end. The transfer to the client is broken off, so that the client does not take it for complete."""

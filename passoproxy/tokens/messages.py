"""The one message format between the pair's owner and the processes that follow it: plain JSON, whatever carries it.

    command   {"command": "refresh", "force": true}          packed, unpacked
    reply     {"answer": ...} or {"fault": {"code": ...}}    answered (at the owner), answer_of (at the follower)
    news      {"bearer": ..., "partition": ..., "snapshot": ...}   document_of, followed_of

Worker channel, control socket and Redis carry these documents and do not look into them. They may hold secrets.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, TypeGuard, TypeVar, cast

from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.oauth.snapshot import told
from passoproxy.errors import (
    AuthorizationRequired,
    CannotCreate,
    CommandFailure,
    ConfigurationError,
    Fault,
    ImportRefused,
    OwnerGone,
    PairStoreFailure,
    PassoproxyError,
    PersonNeeded,
    Refusal,
    ServiceUnreachable,
    TokenUnavailable,
    UsageFailure,
)
from passoproxy.ports import Followed, LoggedOut, RawAnswer
from passoproxy.tokens.commands import Command, Export, Import, Login, LoginPending, Logout, Refresh, Renew401
from passoproxy.tokens.holder import Holder

T = TypeVar("T")

TOLERATED_SKEW = 10.0
"""Seconds that two machines' clocks may differ, the time on the way included, before that counts."""

_MOMENTS = ("access_until", "served_until", "next_refresh_at", "obtained_at", "login_until", "as_of", "handed_over_at")

NOT_UNDERSTOOD = "the pair's owner told something that this version does not understand"


# ---- commands --------------------------------------------------------------------------------------------------------


def packed(command: Command[Any]) -> dict[str, object]:
    """A command as JSON to be. Refill and Leave are for this process only."""
    match command:
        case Refresh(force):
            return {"command": "refresh", "force": force}
        case Import(document, force):
            return {"command": "import", "document": base64.b64encode(document).decode(), "force": force}
        case Login(answer):
            body = base64.b64encode(answer.body).decode()
            rest = {"content_type": answer.content_type, "sent_at": answer.sent_at, "grant": answer.grant}
            return {"command": "login", "body": body, **rest}
        case Renew401(generation, path, again):
            return {"command": "renew_401", "generation": generation, "path": path, "again": again}
        case Export():
            return {"command": "export"}
        case Logout():
            return {"command": "logout"}
        case LoginPending(until, by):
            return {"command": "login_pending", "until": until, "by": by}
    raise TypeError(f"{type(command).__name__} is for this process only")


def unpacked(document: object) -> Command[Any]:
    """The reverse of `packed`. Raises UsageFailure, which repeats no value of it."""
    try:
        match document:
            case {"command": "refresh", "force": bool(force)}:
                return Refresh(force)
            case {"command": "import", "document": str(text), "force": bool(force)}:
                return Import(base64.b64decode(text, validate=True), force)
            case {
                "command": "login",
                "body": str(text),
                "content_type": str(content_type),
                "sent_at": float() | int() as sent_at,
                "grant": str(grant),
            } if math.isfinite(sent_at):
                return Login(RawAnswer(base64.b64decode(text, validate=True), content_type, float(sent_at), grant))
            case {"command": "renew_401", "generation": int(generation), "path": str(path), "again": bool(again)}:
                return Renew401(generation, path, again)
            case {"command": "export"}:
                return Export()
            case {"command": "logout"}:
                return Logout()
            case {"command": "login_pending", "until": float() | int() as until, "by": str(by)} if math.isfinite(until):
                return LoginPending(float(until), by)
            case {"command": str(word)}:
                raise UsageFailure(f"this version knows no command {word[:40]!r} like this; {_SAME_VERSION}")
    except (ValueError, OverflowError) as fault:
        raise UsageFailure(
            f"a command for the pair's owner has a value that cannot be read; {_SAME_VERSION}"
        ) from fault
    raise UsageFailure(f"no command for the pair's owner; {_SAME_VERSION}")


_SAME_VERSION = "run the same version of passoproxy everywhere"


async def answered(holder: Holder, document: object) -> dict[str, object]:
    """Executes a packed command; the reply for `answer_of`, whatever PassoproxyError came of it. `document` may be JSON in bytes."""
    try:
        if isinstance(document, bytes):
            document = _parsed(document)
        answer = await holder.execute(unpacked(document))
    except PassoproxyError as fault:
        return fault_document(fault)
    return {"answer": answer if answer is None or isinstance(answer, int | dict) else asdict(answer)}


def command_in(document: bytes) -> str:
    """The word of a packed command; '' if it is none."""
    try:
        found = _parsed(document)
    except PassoproxyError:
        return ""
    word = found.get("command") if isinstance(found, dict) else None
    return word[:40] if isinstance(word, str) else ""


def gives_pair(reply: Mapping[str, object]) -> bool:
    """Whether a reply hands the pair over: if it does not arrive, no process has the pair, and it must be taken back."""
    answer = reply.get("answer")
    return isinstance(answer, dict) and "access_token" in answer


def answer_of(command: Command[T], reply: object) -> T:
    """The answer in a reply to `command`. Raises what the owner raised, OwnerGone for what is no reply."""
    match reply:
        case {"fault": {"code": str(code), "exit_code": int(exit_code), "detail": str(detail), **rest}}:
            after = rest.get("retry_after")
            raise fault_of(code, exit_code, detail, float(after) if _is_short(after) else 5.0)
        case {"answer": found}:
            return cast(T, _answer(command, found))
    raise OwnerGone(NOT_UNDERSTOOD)


def _answer(command: Command[Any], found: object) -> object:
    match command, found:
        case (Refresh() | Import() | Login(), dict(shown)):
            return told(shown)
        case (Logout(), {"revocation": str(revocation), "partition": str(partition)}):
            return LoggedOut(revocation, partition)
        case (Export(), dict()) | (Renew401(), int()) | (LoginPending(), None):
            return found
    raise OwnerGone(NOT_UNDERSTOOD)


def _is_short(seconds: object) -> TypeGuard[int | float]:
    return isinstance(seconds, int | float) and 0 <= seconds < 1e9  # neither endless nor no number


def _parsed(data: bytes) -> object:
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return found


# ---- faults ----------------------------------------------------------------------------------------------------------


def fault_document(fault: PassoproxyError) -> dict[str, object]:
    """The reply for a command that failed."""
    after = dict(fault.fields).get("Retry-After", "5") if isinstance(fault, Refusal) else "5"
    told = {"code": fault.code, "exit_code": fault.exit_code, "detail": str(fault), "retry_after": float(after)}
    return {"fault": told}


_RAISED: tuple[type[PassoproxyError], ...] = (
    PersonNeeded, ServiceUnreachable, CannotCreate, UsageFailure, ImportRefused, PairStoreFailure, CommandFailure
)  # fmt: skip


def fault_of(code: str, exit_code: int, detail: str, retry_after: float = 5.0) -> PassoproxyError:
    """What the owner raised, by its contract code, exit code and text. Of what is unknown here the exit code is kept, if it can be."""
    match code, exit_code:
        case ConfigurationError.code, _:
            return ConfigurationError(Fault("", "", detail))
        case AuthorizationRequired.code, AuthorizationRequired.exit_code:
            return AuthorizationRequired(detail, retry_after)
        case TokenUnavailable.code, _:
            return TokenUnavailable(detail, retry_after)
    alike = [kind for kind in _RAISED if kind.exit_code == exit_code] or [CommandFailure]
    return next((kind for kind in alike if kind.code == code), alike[-1])(detail)


# ---- news ------------------------------------------------------------------------------------------------------------


def document_of(followed: Followed) -> dict[str, object]:
    """JSON to be. Holds the access token."""
    bearer = followed.bearer
    shown = None if bearer is None else {"token": bearer.token, "generation": bearer.generation, "until": bearer.until}
    return {"bearer": shown, "partition": followed.partition, "snapshot": dict(followed.snapshot)}


def followed_of(document: object) -> Followed:
    """The reverse. Raises PairStoreFailure, which repeats nothing of it."""
    match document:
        case {"bearer": None, "partition": str(partition), "snapshot": dict(shown)}:
            return Followed(None, partition, shown)
        case {
            "bearer": {"token": str(token), "generation": int(generation), "until": float() | int() | None as until},
            "partition": str(partition),
            "snapshot": dict(shown),
        }:
            return Followed(Bearer(token, generation, until), partition, shown)
    raise PairStoreFailure(NOT_UNDERSTOOD)


def in_our_time(followed: Followed, now: float) -> Followed:
    """News that a machine told just now, with its moments by this machine's clock: clocks may differ, the time that is left does not."""
    as_of = followed.snapshot.get("as_of")
    skew = now - as_of if isinstance(as_of, int | float) and as_of > 0 else 0.0
    if abs(skew) <= TOLERATED_SKEW:
        return followed
    shown, bearer = dict(followed.snapshot), followed.bearer
    for name in _MOMENTS:
        if isinstance(moment := shown.get(name), int | float):
            shown[name] = moment + skew
    if bearer is not None and bearer.until is not None:
        bearer = replace(bearer, until=bearer.until + skew)
    return Followed(bearer, followed.partition, shown)

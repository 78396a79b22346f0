"""What goes between the pair's owner and the processes that follow it: words and plain data, whatever carries them.

The owner's side is `obey` and `document_of`; the other's `followed_of`, `packed` and `fault_of`. Who speaks to whom, and over what, is not known here.
"""

from __future__ import annotations

import base64
import json
import math
from dataclasses import asdict, replace
from typing import Protocol

from passoproxy.core.oauth.pair import Bearer
from passoproxy.core.oauth.snapshot import TokenSnapshot
from passoproxy.errors import (
    AuthorizationRequired,
    CannotCreate,
    CommandFailure,
    ConfigurationError,
    Fault,
    ImportRefused,
    PairStoreFailure,
    PassoproxyError,
    PersonNeeded,
    ServiceUnreachable,
    TokenUnavailable,
    UsageFailure,
)
from passoproxy.ports import Followed, LoggedOut, RawAnswer

TOLERATED_SKEW = 10.0
"""Seconds that two machines' clocks may be apart, the time on the way included, before that counts."""

_MOMENTS = ("access_until", "served_until", "next_refresh_at", "obtained_at", "login_until", "as_of", "handed_over_at")


class Obedient(Protocol):
    """Whoever carries orders out: the keeper, or who stands in its place."""

    def snapshot(self) -> TokenSnapshot: ...
    def set_login_pending(self, until: float, by: str) -> None: ...
    async def refresh(self, force: bool = False) -> TokenSnapshot: ...
    async def install(self, document: bytes, force: bool = False) -> TokenSnapshot: ...
    async def install_answer(self, answer: RawAnswer) -> TokenSnapshot: ...
    async def hand_over(self) -> dict[str, object]: ...
    async def logout(self) -> LoggedOut: ...


async def obey(keeper: Obedient, what: str, document: bytes) -> dict[str, object]:
    """Carries out an order of `PairOwner.order`, and gives what came of it. Raises as the keeper does, UsageFailure for an unknown word."""
    match what:
        case "refresh" | "refresh_force":
            return asdict(await keeper.refresh(force=what == "refresh_force"))
        case "import" | "import_force":
            return asdict(await keeper.install(document, what == "import_force"))
        case "answer":
            return asdict(await keeper.install_answer(unpacked(document)))
        case "hand_over":
            return await keeper.hand_over()
        case "logout":
            return asdict(await keeper.logout())
        case "login_pending":
            keeper.set_login_pending(*_login(document))
        case _:
            raise UsageFailure(
                f"{what!r} is no order that this version knows; run the same version of passoproxy everywhere"
            )
    return asdict(keeper.snapshot())


def document_of(followed: Followed) -> dict[str, object]:
    """JSON to be. Holds the access token."""
    bearer = followed.bearer
    shown = None if bearer is None else {"token": bearer.token, "generation": bearer.generation, "until": bearer.until}
    return {"bearer": shown, "partition": followed.partition, "snapshot": dict(followed.snapshot)}


def followed_of(document: object) -> Followed:
    """The reverse. Raises PairStoreFailure, which repeats nothing of it, for what is none."""
    match document:
        case {"bearer": None, "partition": str(partition), "snapshot": dict(shown)}:
            return Followed(None, partition, shown)
        case {
            "bearer": {"token": str(token), "generation": int(generation), "until": float() | int() | None as until},
            "partition": str(partition),
            "snapshot": dict(shown),
        }:
            return Followed(Bearer(token, generation, until), partition, shown)
    raise PairStoreFailure("the pair's owner told something that this version does not understand")


def in_our_time(followed: Followed, now: float) -> Followed:
    """What a machine has told just now, with its moments as our clock will tell them: one of both clocks may be wrong, and what is left is not."""
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


def packed(answer: RawAnswer) -> bytes:
    """A login's answer for the order `answer`. Holds secrets."""
    body = base64.b64encode(answer.body).decode()
    members = {"body": body, "content_type": answer.content_type, "sent_at": answer.sent_at, "grant": answer.grant}
    return json.dumps(members).encode()


def unpacked(document: bytes) -> RawAnswer:
    """The reverse of `packed`. Raises UsageFailure for what is none."""
    try:
        found = json.loads(document)
        body = base64.b64decode(str(found["body"]), validate=True)
        return RawAnswer(body, str(found["content_type"]), float(found["sent_at"]), str(found["grant"]))
    except (ValueError, KeyError, TypeError, RecursionError) as fault:
        raise UsageFailure("what was passed on is no token answer") from fault


def fault_of(code: str, exit_code: int, detail: str, retry_after: float = 5.0) -> PassoproxyError:
    """What the owner raised, told as its contract code, exit code and text."""
    match code, exit_code:
        case _, PersonNeeded.exit_code:
            return PersonNeeded(detail)
        case _, ServiceUnreachable.exit_code:
            return ServiceUnreachable(detail)
        case _, CannotCreate.exit_code:
            return CannotCreate(detail)
        case _, ConfigurationError.exit_code:
            return ConfigurationError(Fault("", "", detail))
        case _, UsageFailure.exit_code:
            return UsageFailure(detail)
        case ImportRefused.code, _:
            return ImportRefused(detail)
        case AuthorizationRequired.code, _:
            return AuthorizationRequired(detail, retry_after)
        case TokenUnavailable.code, _:
            return TokenUnavailable(detail, retry_after)
        case _:
            return CommandFailure(detail)


def _login(document: bytes) -> tuple[float, str]:
    try:
        found = json.loads(document)
        until, by = float(found["until"]), str(found["by"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as fault:
        raise UsageFailure("a moment is expected as 'until', and who speaks as 'by'") from fault
    if not math.isfinite(until):
        raise UsageFailure("a moment is expected as 'until'")
    return until, by

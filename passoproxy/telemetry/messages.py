"""Every event in a person's words: how loud it is, one sentence, and the particulars beside it.

Writing it down is the business of `logs`; secrets are masked there, and by the same rule in `recent`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from passoproxy.core.durations import duration, moment
from passoproxy.core.events import (
    AlertFailed,
    ChainChanged,
    EntriesEvicted,
    EntriesPurged,
    EntriesWarmed,
    EntryStored,
    Event,
    Lifecycle,
    OriginAnswered,
    OriginFailed,
    OwnershipChanged,
    PairFileDamaged,
    PairNotSaved,
    RefreshFailed,
    RequestAnswered,
    RequestRejected,
    RunwayWarned,
    StoreFailed,
    TaskFailed,
    TokenRefreshed,
    Warned,
)

_LIFECYCLE = {
    "starting": "starting",
    "ready": "ready to serve",
    "waiting": "started, and not ready to serve",
    "reloading": "reading the configuration again",
    "reloaded": "the configuration was read again",
    "draining": "finishing what is under way before stopping",
    "stopped": "stopped",
}
_OWNERSHIP = {
    "owner": "this process owns the pair and renews it",
    "following": "this process does not own the pair: it serves with the owner's access token and renews nothing",
}
_FAILED_REFRESH = {
    "unsent": "the refresh could not be sent, the refresh token is unspent",
    "answered": "the provider answered the refresh with an error that will pass",
    "lost": "a refresh was sent and its answer was lost",
    "refused": "the provider refused the refresh",
    "misconfigured": "the provider does not accept this client: the configuration is at fault",
}


@dataclass(frozen=True, slots=True)
class Said:
    """What is to be written of an event. `level` is a level of stdlib logging in lower case.

    `throttle` groups lines that may come by the thousand, so that a flood becomes a few lines and a count; '' is never held back.
    """

    level: str
    sentence: str
    details: dict[str, object] = field(default_factory=dict)
    throttle: str = ""


def say(event: Event) -> Said:
    """What is to be written of `event`; an access line (`RequestAnswered`) has its own form in `access`."""
    match event:
        case RequestAnswered():
            return Said("debug", f"answered {event.method} with {event.status}", {"target": event.target})
        case RequestRejected():
            return _rejected(event)
        case OriginAnswered(method, target, status, took):
            level = "debug" if status < 500 else "warning"
            details = {"target": target, "duration_ms": round(took * 1000, 1)}
            return Said(level, f"the origin answered {method} with {status}", details, f"origin {status}")
        case OriginFailed(method, target, code, detail):
            return Said(
                "warning",
                f"no answer from the origin to {method}: {detail}",
                {"target": target, "code": code},
                f"origin {code}",
            )
        case TokenRefreshed() | RefreshFailed() | ChainChanged() | PairNotSaved() | PairFileDamaged():
            return _of_the_pair(event)
        case OwnershipChanged(role, detail):
            return Said("info", _with(_OWNERSHIP.get(role, role), detail), {"role": role})
        case RunwayWarned():
            return _of_the_runway(event)
        case AlertFailed(hook, detail):
            return Said("error", f"an alert did not get out: {detail}", {"hook": hook})
        case EntryStored() | EntriesWarmed() | EntriesEvicted() | EntriesPurged() | StoreFailed():
            return _of_the_cache(event)
        case Lifecycle(phase, detail):
            return Said("info", _with(_LIFECYCLE.get(phase, phase), detail), {"phase": phase})
        case Warned(code, detail, over):
            return Said("info" if over else "warning", detail, {"code": code})
        case TaskFailed(where, detail):
            return Said("error", f"an unexpected fault in {where}: {detail}", {}, f"task {where}")
        case _:
            assert_never(event)


def _rejected(event: RequestRejected) -> Said:
    level = "warning" if event.code in _TELLING else "info"
    return Said(
        level,
        f"refused a request: {event.detail}",
        {"code": event.code, "client": event.client},
        f"rejected {event.code}",
    )


_TELLING = frozenset(
    ("host_not_allowed", "origin_not_allowed", "client_not_allowed", "overloaded", "cross_site", "token_required")
)
"""Refusals that point at an attack or at a configuration to be mended."""


def _of_the_pair(event: TokenRefreshed | RefreshFailed | ChainChanged | PairNotSaved | PairFileDamaged) -> Said:
    match event:
        case TokenRefreshed(generation, grant, access_until, runway):
            details: dict[str, object] = {"generation": generation, "grant": grant}
            if access_until is not None:
                details["access_until"] = moment(access_until)
            if runway is not None:
                details["runway"] = duration(runway)
            return Said("info", "a new access token is in use", details)
        case RefreshFailed(outcome, reason, attempt, retry_at):
            level = "error" if outcome in ("refused", "misconfigured") else "warning"
            details = {"outcome": outcome, "attempt": attempt}
            if retry_at is not None:
                details["retry_at"] = moment(retry_at)
            return Said(level, _with(_FAILED_REFRESH.get(outcome, "the refresh failed"), reason), details)
        case ChainChanged(access, chain, reason, runway, remedy):
            bad = {"dead": "error", "unknown": "warning", "retrying": "warning"}.get(chain, "info")
            details = {"access": access, "chain": chain}
            if runway is not None:
                details["runway"] = duration(runway)
            if remedy:
                details["remedy"] = remedy
            return Said(bad, _with(f"the access token is {access}, the refresh chain {chain}", reason), details)
        case PairNotSaved(detail):
            return Said(
                "error",
                f"what is new of the pair is in memory only, it cannot be written: {detail}",
                {},
                "pair unsaved",
            )
        case PairFileDamaged(detail):
            return Said("error", f"a stored pair cannot be understood: {detail}")
        case _:
            assert_never(event)


def _of_the_runway(event: RunwayWarned) -> Said:
    details: dict[str, object] = {"alert": event.level}
    if event.runway is not None:
        details["runway"] = duration(event.runway)
    if event.deadline is not None:
        details["deadline"] = moment(event.deadline)
    if event.kind == "recovered":
        return Said("info", _with("the pair is safe again", event.reason), details)
    if event.remedy:
        details["remedy"] = event.remedy
    level = "error" if event.level == "page" else "warning"
    return Said(level, _with("the pair runs out unless it is renewed", event.reason), details)


def _of_the_cache(event: EntryStored | EntriesWarmed | EntriesEvicted | EntriesPurged | StoreFailed) -> Said:
    match event:
        case EntryStored(key, route, size):
            return Said("debug", "stored an answer", {"key": key, "route": route, "bytes": size})
        case EntriesWarmed(asked, renewed, ended_by):
            details: dict[str, object] = {"asked": asked, "renewed": renewed}
            if ended_by:
                details["ended_by"] = ended_by
            return Said("info", "revalidated the most used entries, because the runway shrinks", details)
        case EntriesEvicted(count, tier):
            return Said("debug", f"evicted {_entries(count)} to make room", {"tier": tier})
        case EntriesPurged(count, why):
            return Said("info", f"purged {_entries(count)}", {"why": why}, "" if why == "command" else f"purged {why}")
        case StoreFailed(detail):
            return Said("warning", f"the cache cannot be used, requests pass it by: {detail}", {}, "store failed")
        case _:
            assert_never(event)


def _with(sentence: str, detail: str) -> str:
    return f"{sentence}: {detail}" if detail else sentence


def _entries(count: int) -> str:
    return f"{count} {'entry' if count == 1 else 'entries'}"

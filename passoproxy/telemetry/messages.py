"""What the log says of each event: its stable name, its level, one sentence, and its values as fields.

`logs` writes the lines and masks secrets in them; `recent` shows the sentences on the status page.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from functools import lru_cache
from operator import attrgetter
from typing import Final, assert_never

from passoproxy.core.events import (
    AlertFailed,
    Audited,
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
    PairErased,
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
from passoproxy.core.units import duration, moment
from passoproxy.values import value

_LIFECYCLE: Final = {
    "starting": "starting",
    "ready": "ready to serve",
    "waiting": "started, and not ready to serve",
    "reloading": "reading the configuration again",
    "reloaded": "the configuration was read again",
    "draining": "finishing what is under way before stopping",
    "stopped": "stopped",
}
_OWNERSHIP: Final = {
    "owner": "this process owns the pair and renews it",
    "following": "this process does not own the pair: it serves with the owner's access token and renews nothing",
}
_REFRESH_FAILED: Final = {
    "unsent": "the refresh could not be sent, the refresh token is unspent",
    "answered": "the provider answered the refresh with an error that will pass",
    "lost": "a refresh was sent and its answer was lost",
    "refused": "the provider refused the refresh",
    "misconfigured": "the provider does not accept this client: the configuration is at fault",
}
_CHAIN_LEVELS: Final = {"dead": "error", "unknown": "warning", "retrying": "warning"}
_LOUD_REFUSALS: Final = frozenset(
    ("host_not_allowed", "origin_not_allowed", "client_not_allowed", "overloaded", "cross_site", "token_required")
)
"""Refusals that point at an attack, or at a configuration to be mended."""


@value
class Line:
    """`event` is the stable name, `level` one of stdlib logging in lower case, `text` a sentence with `{field}` for values.

    Lines of one `throttle` may come by the thousand, so that a flood becomes a few lines and a count; '' is never held back.
    """

    event: str
    level: str
    text: str
    throttle: str = ""


@lru_cache(maxsize=64)
def _origin_answered(status: int) -> Line:
    level = "debug" if status < 500 else "warning"
    return Line("origin_answered", level, "the origin answered {method} with {status}", f"origin {status}")


def line_of(event: Event) -> Line:
    """The row of the table for `event`; the access line of a `RequestAnswered` has its own form in `logs`."""
    match event:
        case RequestAnswered():
            return Line("request", "debug", "answered {method} with {status}")
        case RequestRejected(code=code, listener=listener):
            level = "warning" if code in _LOUD_REFUSALS else "info"
            where = " on the {listener} listener" if listener else ""
            return Line("request_refused", level, f"refused a request{where}: {{detail}}", f"refused {code}")
        case OriginAnswered(status=status):
            return _origin_answered(status)
        case OriginFailed(code=code):  # origin_unreachable, origin_timeout, origin_invalid
            name = code if code.startswith("origin_") else "origin_not_asked"
            return Line(name, "warning", "no answer from the origin to {method}: {detail}", f"origin {code}")
        case TokenRefreshed():
            return Line("token_refreshed", "info", "a new access token is in use")
        case RefreshFailed(outcome=outcome):
            level = "error" if outcome in ("refused", "misconfigured") else "warning"
            return Line("refresh_failed", level, _REFRESH_FAILED.get(outcome, "the refresh failed") + ": {reason}")
        case ChainChanged(chain=chain):
            text = "the access token is {access}, the refresh chain {chain}: {reason}"
            return Line("token_state_changed", _CHAIN_LEVELS.get(chain, "info"), text)
        case PairErased():
            return Line("logged_out", "info", "the pair was erased: {revocation}")
        case RunwayWarned(kind="recovered"):
            return Line("runway_recovered", "info", "the pair is safe again: {reason}")
        case RunwayWarned(level=alert):
            level = "error" if alert == "page" else "warning"
            return Line("runway_warned", level, "the pair runs out unless it is renewed: {reason}")
        case AlertFailed():
            return Line("alert_failed", "error", "an alert was not delivered: {detail}")
        case PairNotSaved():
            text = "what is new of the pair is in memory only, it cannot be written: {detail}"
            return Line("pair_not_saved", "error", text, "pair unsaved")
        case PairFileDamaged():
            return Line("pair_file_damaged", "error", "a stored pair cannot be understood: {detail}")
        case OwnershipChanged(role=role):
            return Line("ownership_changed", "info", _OWNERSHIP.get(role, role) + ": {detail}")
        case EntryStored():
            return Line("entry_stored", "debug", "stored an answer")
        case EntriesWarmed():
            return Line("entries_warmed", "info", "revalidated the most used entries, because the runway shrinks")
        case EntriesEvicted():
            return Line("entries_evicted", "debug", "entries evicted to make room: {count}")
        case EntriesPurged(why=why):
            return Line(
                "entries_purged", "info", "entries purged: {count}", "" if why == "command" else f"purged {why}"
            )
        case StoreFailed():
            text = "the cache cannot be used, requests pass it by: {detail}"
            return Line("store_failed", "warning", text, "store failed")
        case Lifecycle(phase=phase):
            return Line(f"daemon_{phase}", "info", _LIFECYCLE.get(phase, phase) + ": {detail}")
        case Warned(code=code, over=over):
            many = code if code == "recording_skipped" else ""  # as many as clients ask for
            return Line(code, "info" if over else "warning", "{detail}", many)
        case Audited(outcome=outcome):
            # a change has its line whatever else is tried; each kind of failure is counted for itself
            kind = "" if outcome in ("done", "dead") else f"audit {outcome}"
            return Line("audit", "info", "{who}: {action}: {outcome}", kind)
        case TaskFailed(where=where):
            return Line("unexpected_fault", "error", "an unexpected fault in {where}: {detail}", f"task {where}")
        case _:
            assert_never(event)


_FIELD_NAMES: Final = {"size": "bytes", "duration": "duration_ms", "level": "alert", "peer": "from"}
"""Members of events whose fields are named otherwise, because lines have a `level` of their own, or for their unit."""
_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")


def fields_of(event: Event) -> dict[str, object]:
    """The values of `event` by field; empty ones are left out. Moments are RFC 3339, runways for people (`2 h`), durations in ms."""
    fields: dict[str, object] = {}
    for member in map(attrgetter("name"), dataclasses.fields(event)):
        value: object = getattr(event, member)
        if value is None or value == "" or member == "over":  # which the level tells
            continue
        if isinstance(value, float):
            match member:
                case "duration":
                    value = round(value * 1000, 1)
                case "runway":
                    value = duration(value)
                case _:
                    value = moment(value)
        fields[_FIELD_NAMES.get(member, member)] = value
    return fields


def message_of(line: Line, fields: Mapping[str, object]) -> str:
    """The sentence of `line`; a detail that is empty goes with its colon."""
    return _PLACEHOLDER.sub(lambda name: str(fields.get(name[1], "")), line.text).removesuffix(": ")


def named_in(line: Line) -> frozenset[str]:
    """The fields that the sentence tells already."""
    return frozenset(_PLACEHOLDER.findall(line.text))

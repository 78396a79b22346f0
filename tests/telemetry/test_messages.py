"""Every event as a line: stable name, level, message, fields."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

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
from passoproxy.telemetry.messages import fields_of, line_of, message_of

AT, SHOWN = 1_700_000_000.0, "2023-11-14T22:13:20Z"
CASES: list[tuple[Event, str, str, str, dict[str, Any]]] = [
    (RequestAnswered("", "GET", "/p", 200, "", "hit", "", 0.1, 1), "request", "debug", "answered GET with 200", {"target": "/p", "duration_ms": 100.0}),
    (RequestRejected("path_not_allowed", "no"), "request_refused", "info", "refused a request: no", {"code": "path_not_allowed"}),
    (RequestRejected("host_not_allowed", "no", "c"), "request_refused", "warning", "refused a request: no", {"code": "host_not_allowed", "client": "c"}),
    (OriginAnswered("GET", "/p", 200, 0.25), "origin_answered", "debug", "the origin answered GET with 200", {"status": 200, "duration_ms": 250.0}),
    (OriginAnswered("GET", "/p", 503, 0.25), "origin_answered", "warning", "the origin answered GET with 503", {"target": "/p"}),
    (OriginFailed("GET", "/p", "origin_unreachable", "reset"), "origin_unreachable", "warning", "no answer from the origin to GET: reset", {"target": "/p", "method": "GET"}),  # noqa: E501
    (OriginFailed("GET", "/p", "overloaded", "full"), "origin_not_asked", "warning", "no answer from the origin to GET: full", {"code": "overloaded"}),
    (TokenRefreshed(3, "refresh", None, None), "token_refreshed", "info", "a new access token is in use", {"generation": 3, "grant": "refresh"}),
    (TokenRefreshed(3, "login", AT, 7_200.0), "token_refreshed", "info", "a new access token is in use", {"access_until": SHOWN, "runway": "2 h"}),
    (RefreshFailed("lost", "reset", 2, AT), "refresh_failed", "warning", "a refresh was sent and its answer was lost: reset", {"outcome": "lost", "attempt": 2, "retry_at": SHOWN}),  # noqa: E501
    (RefreshFailed("refused", "", 1, None), "refresh_failed", "error", "the provider refused the refresh", {"attempt": 1}),
    (RefreshFailed("odd", "", 1, None), "refresh_failed", "warning", "the refresh failed", {"outcome": "odd"}),
    (ChainChanged("valid", "healthy", "", None), "token_state_changed", "info", "the access token is valid, the refresh chain healthy", {"access": "valid"}),
    (ChainChanged("valid", "dead", "invalid_grant", 0.0, "log in", "healthy"), "token_state_changed", "error", "the access token is valid, the refresh chain dead: invalid_grant", {"runway": "0 s", "remedy": "log in", "before": "healthy"}),  # noqa: E501
    (ChainChanged("valid", "retrying", "", 60.0), "token_state_changed", "warning", "the access token is valid, the refresh chain retrying", {"runway": "1 min"}),  # noqa: E501
    (PairErased("revoked"), "logged_out", "info", "the pair was erased: revoked", {"revocation": "revoked"}),
    (PairNotSaved("disk full"), "pair_not_saved", "error", "what is new of the pair is in memory only, it cannot be written: disk full", {}),
    (PairFileDamaged("pair.json"), "pair_file_damaged", "error", "a stored pair cannot be understood: pair.json", {}),
    (OwnershipChanged("owner"), "ownership_changed", "info", "this process owns the pair and renews it", {"role": "owner"}),
    (RunwayWarned("raised", "log", "503", "wait", 60.0, AT), "runway_warned", "warning", "the pair runs out unless it is renewed: 503", {"alert": "log", "runway": "1 min", "deadline": SHOWN, "remedy": "wait"}),  # noqa: E501
    (RunwayWarned("repeated", "page", "", "", None, None), "runway_warned", "error", "the pair runs out unless it is renewed", {"alert": "page"}),
    (RunwayWarned("recovered", "none", "renewed", "", None, None), "runway_recovered", "info", "the pair is safe again: renewed", {}),
    (AlertFailed("webhook", "answered 500"), "alert_failed", "error", "an alert was not delivered: answered 500", {"hook": "webhook"}),
    (EntriesWarmed(4, 3, "overloaded"), "entries_warmed", "info", "revalidated the most used entries, because the runway shrinks", {"asked": 4, "renewed": 3, "ended_by": "overloaded"}),  # noqa: E501
    (EntryStored("k", "r", 9), "entry_stored", "debug", "stored an answer", {"key": "k", "route": "r", "bytes": 9}),
    (EntriesEvicted(1), "entries_evicted", "debug", "entries evicted to make room: 1", {"tier": "disk"}),
    (EntriesPurged(2, "command"), "entries_purged", "info", "entries purged: 2", {"why": "command"}),
    (StoreFailed("full"), "store_failed", "warning", "the cache cannot be used, requests pass it by: full", {}),
    (Lifecycle("ready", "on :1"), "daemon_ready", "info", "ready to serve: on :1", {"phase": "ready"}),
    (Warned("key_unused", "x is not used yet", about="x"), "key_unused", "warning", "x is not used yet", {"code": "key_unused"}),
    (Warned("store_away", "it is back", over=True), "store_away", "info", "it is back", {}),
    (Audited("cache purge", "uid 0, pid 7", "unix", "all"), "audit", "info", "uid 0, pid 7: cache purge: done", {"from": "unix", "outcome": "done"}),
    (Audited("quit", "no credentials", "::1", outcome="token_required"), "audit", "info", "no credentials: quit: token_required", {"action": "quit"}),
    (TaskFailed("keeper", "KeyError"), "unexpected_fault", "error", "an unexpected fault in keeper: KeyError", {"where": "keeper"}),
]  # fmt: skip


@pytest.mark.parametrize(("event", "name", "level", "message", "fields"), CASES)
def test_an_event_is_a_line(event: Event, name: str, level: str, message: str, fields: dict[str, Any]) -> None:
    line, found = line_of(event), fields_of(event)
    assert (line.event, line.level, message_of(line, found)) == (name, level, message)
    assert fields.items() <= found.items()
    assert None not in found.values()
    assert "" not in found.values()


def test_every_kind_of_event_has_a_stable_name_and_a_message(every_event: list[Event]) -> None:
    for event in every_event:
        line = line_of(event)
        assert message_of(line, fields_of(event))
        if not isinstance(event, Warned | OriginFailed | Lifecycle):
            assert re.fullmatch("[a-z]+(?:_[a-z]+)*", line.event)


def test_a_purge_by_command_is_always_written_and_others_may_be_counted() -> None:
    assert line_of(EntriesPurged(1, "command")).throttle == ""
    assert line_of(EntriesPurged(1, "invalidation")).throttle


def test_the_documentation_has_every_event_and_every_field(every_event: list[Event]) -> None:
    rows = Path(__file__).parents[2].joinpath("docs", "logs.md").read_text().split("## Other events")[1].splitlines()
    for event in every_event:
        name = {Lifecycle: "daemon_ready", OriginFailed: "origin_timeout", Warned: "state_volatile"}.get(type(event))
        if type(event) is not RequestAnswered:
            [row] = [row for row in rows if f"`{name or line_of(event).event}`" in row]
            assert not [field for field in fields_of(event) if f"`{field}`" not in row]

"""Every event in a person's words."""

from __future__ import annotations

import pytest

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
from passoproxy.telemetry.messages import say


@pytest.mark.parametrize(
    ("event", "level", "words", "details"),
    [
        (
            RequestAnswered("c", "GET", "/p", 200, "r", "hit", "", 0.1, 1),
            "debug",
            "answered GET with 200",
            {"target": "/p"},
        ),
        (
            RequestRejected("path_not_allowed", "no"),
            "info",
            "refused a request: no",
            {"code": "path_not_allowed", "client": ""},
        ),
        (
            RequestRejected("host_not_allowed", "no", "c"),
            "warning",
            "refused a request: no",
            {"code": "host_not_allowed", "client": "c"},
        ),
        (
            OriginAnswered("GET", "/p", 200, 0.25),
            "debug",
            "the origin answered GET with 200",
            {"target": "/p", "duration_ms": 250.0},
        ),
        (
            OriginAnswered("GET", "/p", 503, 0.25),
            "warning",
            "the origin answered GET with 503",
            {"target": "/p", "duration_ms": 250.0},
        ),
        (
            OriginFailed("GET", "/p", "origin_timeout", "slow"),
            "warning",
            "no answer from the origin to GET: slow",
            {"target": "/p", "code": "origin_timeout"},
        ),
        (
            TokenRefreshed(3, "refresh", None, None),
            "info",
            "a new access token is in use",
            {"generation": 3, "grant": "refresh"},
        ),
        (
            TokenRefreshed(3, "login", 1_700_000_000.0, 7_200.0),
            "info",
            "a new access token is in use",
            {"generation": 3, "grant": "login", "access_until": "2023-11-14T22:13:20Z", "runway": "2 h"},
        ),
        (
            RefreshFailed("lost", "reset", 2, 1_700_000_000.0),
            "warning",
            "a refresh was sent and its answer was lost: reset",
            {"outcome": "lost", "attempt": 2, "retry_at": "2023-11-14T22:13:20Z"},
        ),
        (
            RefreshFailed("refused", "", 1, None),
            "error",
            "the provider refused the refresh",
            {"outcome": "refused", "attempt": 1},
        ),
        (RefreshFailed("odd", "", 1, None), "warning", "the refresh failed", {"outcome": "odd", "attempt": 1}),
        (
            ChainChanged("valid", "healthy", "", None),
            "info",
            "the access token is valid, the refresh chain healthy",
            {"access": "valid", "chain": "healthy"},
        ),
        (
            ChainChanged("valid", "dead", "invalid_grant", 0.0, "log in"),
            "error",
            "the access token is valid, the refresh chain dead: invalid_grant",
            {"access": "valid", "chain": "dead", "runway": "0 s", "remedy": "log in"},
        ),
        (
            ChainChanged("valid", "retrying", "", 60.0),
            "warning",
            "the access token is valid, the refresh chain retrying",
            {"access": "valid", "chain": "retrying", "runway": "1 min"},
        ),
        (
            PairNotSaved("disk full"),
            "error",
            "what is new of the pair is in memory only, it cannot be written: disk full",
            {},
        ),
        (PairFileDamaged("pair.json"), "error", "a stored pair cannot be understood: pair.json", {}),
        (
            RunwayWarned("raised", "log", "503", "wait", 60.0, 1_700_000_000.0),
            "warning",
            "the pair runs out unless it is renewed: 503",
            {"alert": "log", "runway": "1 min", "deadline": "2023-11-14T22:13:20Z", "remedy": "wait"},
        ),
        (
            RunwayWarned("repeated", "page", "", "", None, None),
            "error",
            "the pair runs out unless it is renewed",
            {"alert": "page"},
        ),
        (
            RunwayWarned("recovered", "none", "renewed", "", None, None),
            "info",
            "the pair is safe again: renewed",
            {"alert": "none"},
        ),
        (
            AlertFailed("webhook", "answered 500"),
            "error",
            "an alert did not get out: answered 500",
            {"hook": "webhook"},
        ),
        (
            EntriesWarmed(4, 3),
            "info",
            "revalidated the most used entries, because the runway shrinks",
            {"asked": 4, "renewed": 3},
        ),
        (
            EntriesWarmed(4, 3, "overloaded"),
            "info",
            "revalidated the most used entries, because the runway shrinks",
            {"asked": 4, "renewed": 3, "ended_by": "overloaded"},
        ),
        (EntryStored("k", "r", 9), "debug", "stored an answer", {"key": "k", "route": "r", "bytes": 9}),
        (EntriesEvicted(1), "debug", "evicted 1 entry to make room", {"tier": "disk"}),
        (EntriesPurged(2, "command"), "info", "purged 2 entries", {"why": "command"}),
        (StoreFailed("full"), "warning", "the cache cannot be used, requests pass it by: full", {}),
        (Lifecycle("ready", "on :1"), "info", "ready to serve: on :1", {"phase": "ready"}),
        (Lifecycle("dreaming"), "info", "dreaming", {"phase": "dreaming"}),
        (Warned("key_unused", "x is not used yet"), "warning", "x is not used yet", {"code": "key_unused"}),
        (Warned("store_away", "it is back", over=True), "info", "it is back", {"code": "store_away"}),
        (TaskFailed("keeper", "KeyError"), "error", "an unexpected fault in keeper: KeyError", {}),
    ],
)
def test_events_are_told(event: Event, level: str, words: str, details: dict[str, object]) -> None:
    said = say(event)
    assert (said.level, said.sentence, said.details) == (level, words, details)


def test_a_purge_that_someone_ordered_is_always_told_and_others_may_be_held_back() -> None:
    assert say(EntriesPurged(1, "command")).throttle == ""
    assert say(EntriesPurged(1, "invalidation")).throttle


def test_every_kind_of_event_has_words(every_event: list[Event]) -> None:
    assert all(say(event).sentence for event in every_event)

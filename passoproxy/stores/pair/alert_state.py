"""Which alert of the runway was told last, kept beside the pair: a file of the state folder (a fleet's is in `replication`).

So each level is told once, and the recovery too, across restarts and changes of the owner. It is no secret. What cannot be written or read is
told once more, and nothing else comes of it.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from passoproxy.core.oauth.alert_levels import Alarmed, Level
from passoproxy.errors import PairStoreFailure
from passoproxy.stores.pair.files import read_secret, remove, write_secret

NAME = "alarm.json"

_CALENDAR_END = 253_402_300_800.0
"""The year 10000, in epoch seconds; no hook can be told a later moment."""


class AlarmFile:
    """An AlarmMemory in `folder`, which is the pair's."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def load(self) -> Alarmed | None:
        with contextlib.suppress(PairStoreFailure, ValueError):
            data = read_secret(self._path)
            return None if data is None else alarmed_of(json.loads(data))
        return None

    def save(self, alarmed: Alarmed | None) -> None:
        with contextlib.suppress(PairStoreFailure):
            if alarmed is None:
                remove(self._path)
            else:
                write_secret(self._path, json.dumps(written(alarmed)).encode())


def written(alarmed: Alarmed) -> dict[str, object]:
    """JSON to be."""
    return {"level": alarmed.level.word, "told_at": alarmed.at, "since": alarmed.since}


def alarmed_of(document: object) -> Alarmed | None:
    """The reverse of `written`; None for what it has not written."""
    levels = {level.word: level for level in Level if level}
    match document:
        case {"level": str(word), "told_at": float() | int() as at} if word in levels and 0 <= at < _CALENDAR_END:
            match document:
                case {"since": float() | int() as since} if 0 <= since < _CALENDAR_END:
                    return Alarmed(levels[word], float(at), float(since))
            return Alarmed(levels[word], float(at), float(at))  # of an earlier version
    return None

"""Which alert of the runway was told last, kept beside the pair: a file of the state folder, or a key of the store that a fleet shares.

So each level is told once, and the recovery too, across restarts and changes of the owner. It is no secret. What cannot be written or read is
told once more, and nothing else comes of it.
"""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path

from passoproxy.core.oauth.alert_levels import Alarmed, Level
from passoproxy.errors import PairStoreFailure
from passoproxy.stores.pair.files import read_secret, remove, write_secret
from passoproxy.stores.pair.redis import FleetCover
from passoproxy.stores.pair.replication import closed, opened
from passoproxy.stores.redis_client import Keys, RedisLink

NAME = "alarm.json"


class AlarmFile:
    """An AlarmMemory in `folder`, which is the pair's."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def load(self) -> Alarmed | None:
        with contextlib.suppress(PairStoreFailure, ValueError):
            data = read_secret(self._path)
            return None if data is None else _read(json.loads(data))
        return None

    def save(self, alarmed: Alarmed | None) -> None:
        with contextlib.suppress(PairStoreFailure):
            if alarmed is None:
                remove(self._path)
            else:
                write_secret(self._path, json.dumps(_written(alarmed)).encode())


class FleetAlarm:
    """An AlarmMemory that a fleet shares: the next owner knows what the one before has told."""

    def __init__(self, link: RedisLink, keys: Keys, cover: FleetCover) -> None:
        self._link, self._key, self._cover = link, keys.alarm, cover

    def load(self) -> Alarmed | None:
        with contextlib.suppress(PairStoreFailure):
            data = self._link.get(self._key)
            return _read(opened(self._cover, "alarm", data)) if data else None
        return None

    def save(self, alarmed: Alarmed | None) -> None:
        with contextlib.suppress(PairStoreFailure):
            data = None if alarmed is None else closed(self._cover, "alarm", _written(alarmed))
            self._link.put(self._key, data)


def _written(alarmed: Alarmed) -> dict[str, object]:
    return {"level": alarmed.level.word, "told_at": alarmed.at}


def _read(document: object) -> Alarmed | None:
    levels = {level.word: level for level in Level if level}
    match document:
        case {"level": str(word), "told_at": float() | int() as at} if word in levels and math.isfinite(at):
            return Alarmed(levels[word], float(at))
    return None

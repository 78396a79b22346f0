"""What the shared store's fields hold: the pair's bytes as in a folder, sealed with the fleet's key where there is one, and two records made one.

The seal binds kind and generation, and no folder: the store is everybody's. Which field is read and written when is `redis`'s business.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from passoproxy.core.oauth.transaction import REMEMBERED, Candidate, Intent
from passoproxy.ports import ChainRecord
from passoproxy.stores.pair.cipher import Key, KeyUnknown, Label, SealBroken, is_sealed, label_of

_STAMP = "stamp"


class FleetCover:
    """The seal of what lies in the shared store; none without a key. `previous` is still read."""

    def __init__(self, key: Key | None = None, previous: Key | None = None) -> None:
        self._key = key
        self._keys = {each.name: each for each in (previous, key) if each is not None}
        # a label needs a store's name: here it is that of all stores of fleets
        self._store = hashlib.sha256(b"passoproxy fleet").hexdigest()[:32]

    @property
    def seals(self) -> bool:
        """Whether there is a key."""
        return self._key is not None

    def close(self, kind: str, number: int, content: bytes) -> bytes:
        """What goes to the store."""
        return content if self._key is None else self._key.close(Label(self._store, kind, number, 0), content)

    def open(self, kind: str, number: int | None, data: bytes, *, plain: bool = True) -> bytes:
        """The reverse; `number` None takes any, `plain` also what is not sealed. Raises KeyUnknown, SealBroken."""
        if not is_sealed(data):
            if self._key is not None and not plain:
                raise SealBroken("it is not sealed, and everything in this store was", "unsealed")
            return data
        name, label = label_of(data)
        if name not in self._keys:
            raise KeyUnknown(name)
        content = self._keys[name].open(data)
        if (label.store, label.kind) != (self._store, kind) or number not in (None, label.number):
            raise SealBroken(f"it is a sealed {label.kind} {label.number} in the place of a {kind} {number}", "foreign")
        return content


@dataclass(frozen=True, slots=True, order=True)
class Stamp:
    """When a record was written, in the order of holders and of one holder's writes."""

    fence: int = 0
    serial: int = 0


def stamped(record: ChainRecord, stamp: Stamp) -> ChainRecord:
    """`record` with the moment at which it is written."""
    rest = tuple(pair for pair in record.extra if pair[0] != _STAMP)
    return replace(record, extra=(*rest, (_STAMP, f"{stamp.fence}.{stamp.serial}")))


def stamp_of(record: ChainRecord) -> Stamp:
    """When it was written; the oldest moment of all where it does not say."""
    fence, _, serial = dict(record.extra).get(_STAMP, "").partition(".")
    return Stamp(int(fence), int(serial)) if fence.isdecimal() and serial.isdecimal() else Stamp()


def merged(here: ChainRecord, there: ChainRecord) -> ChainRecord:
    """Two instances' records as one: the younger counts, no spent token is forgotten, and no presentation."""
    older, younger = sorted((here, there), key=stamp_of)
    spent = [mark for mark in older.spent if mark not in younger.spent] + list(younger.spent)
    return replace(
        younger,
        spent=tuple(spent[-REMEMBERED:]),
        intent=_counted(younger.intent, older.intent),
        candidate=_counted_candidate(younger.candidate, older.candidate),
        asked_at=max(older.asked_at, younger.asked_at),
    )


def _counted_candidate(younger: Candidate | None, older: Candidate | None) -> Candidate | None:
    if younger is None or older is None:
        return younger
    return replace(younger, intent=_counted(younger.intent, older.intent) or younger.intent)


def _counted(younger: Intent | None, older: Intent | None) -> Intent | None:
    same = (
        younger is not None
        and older is not None
        and (younger.token, younger.generation) == (older.token, older.generation)
    )
    if younger is None or older is None or not same or younger.lost:
        return younger
    return replace(younger, presented=max(younger.presented, older.presented))

"""A bounded memory of what was made of stored bodies (links rewritten, encoded), so that a hit is not worked on twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")

_OVERHEAD = (
    512  # bytes that a remembered form costs beside its body: head, key, bookkeeping; an estimate on the high side
)


class Remembered(Generic[V]):
    """Forms by key, least recently used out first, at most `max_bytes` in sum; 0 remembers nothing."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._used = max_bytes, 0
        self._kept: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()

    def get(self, key: Hashable) -> V | None:
        """What was kept under `key`, now the youngest."""
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def keep(self, key: Hashable, form: V, size: int) -> None:
        """Keeps `form`, whose body has `size` bytes; one that would take more than an eighth of the room is not kept."""
        cost = size + _OVERHEAD
        if cost * 8 > self._max_bytes:
            return
        if (before := self._kept.pop(key, None)) is not None:
            self._used -= before[1]
        self._kept[key] = (form, cost)
        self._used += cost
        while self._used > self._max_bytes:
            self._used -= self._kept.popitem(last=False)[1][1]

    @property
    def used_bytes(self) -> int:
        """What is kept takes so much."""
        return self._used

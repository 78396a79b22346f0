"""Which key a full memory gives up: a seam, so that a policy can be chosen by what a simulation shows."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol


class Eviction(Protocol):
    """Is told of every key that comes, is used and goes, and names the next to go. Each call takes constant time."""

    def added(self, key: str) -> None: ...
    def used(self, key: str) -> None: ...
    def removed(self, key: str) -> None: ...

    def victim(self) -> str:
        """The key that should go next; there is one."""
        ...


class LeastRecentlyUsed:
    """The key that was used longest ago goes first."""

    __slots__ = ("_order", "used")

    def __init__(self) -> None:
        self._order: OrderedDict[str, None] = OrderedDict()
        self.used = self._order.move_to_end

    def added(self, key: str) -> None:
        self._order[key] = None

    def removed(self, key: str) -> None:
        del self._order[key]

    def victim(self) -> str:
        return next(iter(self._order))

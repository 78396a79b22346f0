"""Which key a full memory gives up. The choice was made by `bench/eviction.py`; its figures are in docs/decisions/0012-eviction.md."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol


class Eviction(Protocol):
    """Is told of every key that comes, is used and goes, and names the next to go. Each call takes constant time on average.

    `used` is called at every hit, and is therefore an attribute: what stands there should be one call of C.
    """

    @property
    def used(self) -> Callable[[str], None]: ...
    def added(self, key: str) -> None: ...
    def removed(self, key: str) -> None: ...
    def cleared(self) -> None:
        """All keys have gone at once."""
        ...

    def victim(self) -> str:
        """The key that should go next; there is one."""
        ...


class LeastRecentlyUsed:
    """The key that was used longest ago goes first."""

    __slots__ = ("_order", "used")

    def __init__(self) -> None:
        self._order: OrderedDict[str, None] = OrderedDict()
        self.used: Callable[[str], None] = self._order.move_to_end

    def added(self, key: str) -> None:
        self._order[key] = None

    def removed(self, key: str) -> None:
        del self._order[key]

    def cleared(self) -> None:
        self._order.clear()

    def victim(self) -> str:
        return next(iter(self._order))


class S3Fifo:
    """A key is on trial until it is asked for again; only then it gets among those that stay, and there it has a second chance each round.

    S3-FIFO (Yang and others, 2023), with one bit of use for each key, so that a hit costs one addition to a set. What was given up is
    remembered for a while as a ghost: when it comes back it needs no trial. A walk over keys that nobody wants twice pushes out nothing else.
    """

    __slots__ = ("_asked", "_ghosts", "_staying", "_trial", "used")

    _TRIAL_SHARE = 0.15
    _SPARE_GHOSTS = 16

    def __init__(self) -> None:
        self._trial: OrderedDict[str, None] = OrderedDict()
        self._staying: OrderedDict[str, None] = OrderedDict()
        self._ghosts: OrderedDict[str, None] = OrderedDict()
        self._asked: set[str] = set()
        self.used: Callable[[str], None] = self._asked.add

    def added(self, key: str) -> None:
        if key in self._ghosts:
            del self._ghosts[key]
            self._staying[key] = None
        else:
            self._trial[key] = None

    def removed(self, key: str) -> None:
        self._asked.discard(key)
        if key in self._trial:
            del self._trial[key]
        else:
            del self._staying[key]

    def cleared(self) -> None:
        for part in (self._trial, self._staying, self._ghosts, self._asked):
            part.clear()

    def victim(self) -> str:
        found = self._from_trial()
        return self._from_staying() if found is None else found

    def _from_trial(self) -> str | None:
        """The next that failed its trial, unless the trial is short enough; those before it that passed stay."""
        while (
            len(self._trial) > max(1, self._TRIAL_SHARE * (len(self._trial) + len(self._staying))) or not self._staying
        ):
            key = next(iter(self._trial))
            if key not in self._asked:
                self._remember(key)
                return key
            self._asked.discard(key)
            del self._trial[key]
            self._staying[key] = None
        return None

    def _from_staying(self) -> str:
        """Whoever was asked for since its last turn goes to the end once more. Ends: each pass takes one key's bit away."""
        while True:
            key = next(iter(self._staying))
            if key not in self._asked:
                return key
            self._asked.discard(key)
            self._staying.move_to_end(key)

    def _remember(self, key: str) -> None:
        self._ghosts[key] = None
        while len(self._ghosts) > len(self._staying) + self._SPARE_GHOSTS:
            self._ghosts.popitem(last=False)

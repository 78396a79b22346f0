"""LRU and W-TinyLFU, for comparison: evictions that were not chosen (docs/decisions/0012-eviction.md)."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from random import Random
from typing import Protocol
from zlib import crc32

_ROWS = 4
_MOST = 15
_SMALLEST = 1024
_SAMPLES = 10
_HALVED = bytes(value >> 1 for value in range(256))
_SEEDS = tuple(Random(9213).getrandbits(64) | 1 for _ in range(_ROWS))
_MASK = (1 << 64) - 1


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


class Frequencies:
    """How often keys were asked for lately: a count-min sketch up to 15, halved after ten counts for each slot. Grows with the keys."""

    def __init__(self) -> None:
        self._resize(_SMALLEST)

    def _resize(self, size: int) -> None:
        self._size = size
        self._shift = 64 - (size.bit_length() - 1)
        self._rows = tuple(bytearray(size) for _ in range(_ROWS))
        self._counted = 0

    def _places(self, key: str) -> list[int]:
        spread = crc32(key.encode())  # `hash` differs from run to run
        return [((spread * seed) & _MASK) >> self._shift for seed in _SEEDS]

    def count(self, key: str, keys: int) -> None:
        """One more use of `key`, where `keys` are held."""
        if keys > self._size:
            self._grow(keys)
        for row, at in zip(self._rows, self._places(key), strict=True):
            row[at] = min(_MOST, row[at] + 1)
        self._counted += 1
        if self._counted >= _SAMPLES * self._size:
            self._rows = tuple(row.translate(_HALVED) for row in self._rows)
            self._counted //= 2

    def of(self, key: str) -> int:
        """How often `key` was used lately; never too low."""
        return min(row[at] for row, at in zip(self._rows, self._places(key), strict=True))

    def _grow(self, keys: int) -> None:
        """A place is the first bits of a product, so every old place becomes neighbours that begin with its count."""
        old, before = self._rows, self._size
        self._resize(1 << (keys - 1).bit_length())
        times = self._size // before
        self._rows = tuple(bytearray(value for value in row for _ in range(times)) for row in old)


class WindowTinyLfu:
    """A new key enters a small window; what the window gives up stays only if it was asked for more often than what it would push out.

    W-TinyLFU (Einziger, Friedman, Manes 2017). Behind the window stand a probation and a protected part, both by recency; a key is
    protected once it was used in probation. Uses are written down in passing and taken up when a key comes or goes (as Caffeine does): of a
    run of hits longer than `_MOST_UNREAD`, the latest count.
    """

    __slots__ = (
        "_candidate",
        "_frequencies",
        "_probation",
        "_protected",
        "_unread",
        "_window",
        "_window_share",
        "used",
    )

    _PROTECTED_SHARE = 0.8
    _MOST_UNREAD = 512

    def __init__(self, window_share: float = 0.01) -> None:
        self._window_share = window_share
        self._candidate = ""  # what the window gave up last, and nobody has judged yet
        self._window: OrderedDict[str, None] = OrderedDict()
        self._probation: OrderedDict[str, None] = OrderedDict()
        self._protected: OrderedDict[str, None] = OrderedDict()
        self._frequencies = Frequencies()
        self._unread: deque[str] = deque(maxlen=self._MOST_UNREAD)
        self.used: Callable[[str], None] = self._unread.append

    def __len__(self) -> int:
        return len(self._window) + len(self._probation) + len(self._protected)

    def added(self, key: str) -> None:
        self._take_up()
        self._frequencies.count(key, len(self))
        self._window[key] = None
        if len(self._window) > max(1, int(len(self) * self._window_share)):
            self._candidate, _ = self._window.popitem(last=False)
            self._probation[self._candidate] = None

    def removed(self, key: str) -> None:
        for part in (self._window, self._probation, self._protected):
            if key in part:
                del part[key]
                return

    def cleared(self) -> None:
        for part in (self._window, self._probation, self._protected, self._unread):
            part.clear()
        self._candidate = ""

    def victim(self) -> str:
        self._take_up()
        candidate, self._candidate = self._candidate, ""
        for part in (self._probation, self._protected, self._window):
            if part:
                rival = next(iter(part))
                break
        else:
            raise LookupError("no key is left to go")
        wanted = self._frequencies.of
        if candidate in self._probation and candidate != rival and wanted(candidate) <= wanted(rival):
            return candidate
        return rival

    def _take_up(self) -> None:
        unread, count = self._unread, self._frequencies.count
        size = len(self)
        while unread:
            key = unread.popleft()
            count(key, size)
            if key in self._protected:
                self._protected.move_to_end(key)
            elif key in self._window:
                self._window.move_to_end(key)
            elif key in self._probation:
                del self._probation[key]
                self._protected[key] = None
                if len(self._protected) > max(1, int((size - len(self._window)) * self._PROTECTED_SHARE)):
                    oldest, _ = self._protected.popitem(last=False)
                    self._probation[oldest] = None

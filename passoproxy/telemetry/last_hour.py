"""The last hour of clients' requests, by minute and by route, for the status page: differences of the counters that `/metrics` has already.

So a request costs nothing more, and where workers serve the figures are of all. In memory: at most `MINUTES` minutes, in each the counters that moved.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable

from passoproxy.telemetry.metrics import BOUNDS, Key, MetricsObserver

MINUTES = 60
_CACHED = ("hit", "stale")
_CACHEABLE = (*_CACHED, "miss")

Buckets = Counter[tuple[str, str, int]]
"""Requests by route, cache word and number of the duration's bucket."""


class LastHour:
    """Reads `metrics` at every `look`, which is due every few seconds."""

    def __init__(self, metrics: MetricsObserver, wall: Callable[[], float] = time.time) -> None:
        self._metrics, self._wall = metrics, wall
        self._seen: dict[Key, float] = {}
        self._minutes: dict[int, Buckets] = {}
        self._whole: Buckets = Counter()
        self._over: dict[int, dict[str, float | None]] = {}
        """The figures of minutes that are over."""

    def look(self) -> None:
        """Adds what was counted since the last look to the present minute."""
        self._metrics.before_reading()
        minute = int(self._wall() // 60)
        for key, number in self._metrics.counts.items():
            if key[0] != "request_duration" or key[3] == "sum" or number == (before := self._seen.get(key, 0.0)):
                continue
            self._seen[key] = number
            counted = str(key[1]), str(key[2]), int(key[3])
            self._minutes.setdefault(minute, Counter())[counted] += int(number - before)
            self._whole[counted] += int(number - before)
        self._over.pop(minute, None)
        for at in [at for at in self._minutes if not minute - MINUTES < at <= minute]:
            self._whole -= self._minutes.pop(at)
            self._over.pop(at, None)
        for at, counted_then in self._minutes.items():
            if at != minute and at not in self._over:
                self._over[at] = _figures(counted_then.items())

    def shown(self) -> dict[str, object]:
        """The hour as a whole, its minutes (the oldest first, the last one is under way) and its routes; None where nothing was asked."""
        self.look()
        last = int(self._wall() // 60)
        shown = range(last - MINUTES + 1, last + 1)
        each = [self._over.get(at) or _figures(self._minutes.get(at, {}).items()) for at in shown]
        by_route: dict[str, list[tuple[tuple[str, str, int], int]]] = {}
        for key, number in self._whole.items():
            by_route.setdefault(key[0], []).append((key, number))
        return {
            **_figures(self._whole.items()),
            "minutes": {name: [minute[name] for minute in each] for name in each[0]},
            "routes": [{"route": name, **_figures(by_route[name])} for name in sorted(by_route)],
        }


def _figures(counted: Iterable[tuple[tuple[str, str, int], int]]) -> dict[str, float | None]:
    by_cache, by_bucket = Counter[str](), Counter[int]()
    for (_, cache, bucket), number in counted:
        by_cache[cache] += number
        by_bucket[bucket] += number
    asked = sum(by_cache[word] for word in _CACHEABLE)
    return {
        "requests": by_cache.total(),
        "hit_ratio": sum(by_cache[word] for word in _CACHED) / asked if asked else None,
        "p50_seconds": quantile(by_bucket, 0.5),
        "p99_seconds": quantile(by_bucket, 0.99),
    }


def quantile(buckets: Counter[int], share: float) -> float | None:
    """The duration below which `share` of the requests are, in seconds, as Prometheus reads it from buckets: within one it is taken for a line."""
    rank, below = share * buckets.total(), 0
    for bucket in sorted(buckets):
        if (number := buckets[bucket]) and below + number >= rank:
            if bucket >= len(BOUNDS):
                return BOUNDS[-1]
            lower = BOUNDS[bucket - 1] if bucket else 0.0
            return lower + (BOUNDS[bucket] - lower) * (rank - below) / number
        below += number
    return None

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

    def look(self) -> None:
        """Adds what was counted since the last look to the present minute."""
        self._metrics.before_reading()
        minute = int(self._wall() // 60)
        for key, number in self._metrics.counts.items():
            if key[0] != "request_duration" or key[3] == "sum" or number == (before := self._seen.get(key, 0.0)):
                continue
            self._seen[key] = number
            _, route, cache, bucket = key
            self._minutes.setdefault(minute, Counter())[str(route), str(cache), int(bucket)] += int(number - before)
        for at in [at for at in self._minutes if not minute - MINUTES < at <= minute]:
            del self._minutes[at]

    def shown(self) -> dict[str, object]:
        """The hour as a whole, its minutes (the oldest first, the last one is under way) and its routes; None where nothing was asked."""
        self.look()
        whole: Buckets = Counter()
        for minute in self._minutes.values():
            whole.update(minute)
        last = int(self._wall() // 60)
        each = [_figures(self._minutes.get(at, Counter()).items()) for at in range(last - MINUTES + 1, last + 1)]
        routes = sorted({route for route, _, _ in whole})
        by_route = {name: [(key, number) for key, number in whole.items() if key[0] == name] for name in routes}
        return {
            **_figures(whole.items()),
            "minutes": {name: [minute[name] for minute in each] for name in each[0]},
            "routes": [{"route": name, **_figures(counted)} for name, counted in by_route.items()],
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

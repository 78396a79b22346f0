"""The last hour of clients' requests, by minute and by route, for the status page: differences of the counters that `/metrics` has already.

So a request costs nothing more, and where workers serve the figures are of all. In memory: at most `MINUTES` minutes, in each the counters that moved.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from passoproxy.telemetry.metrics import BOUNDS, Key, MetricsObserver

MINUTES = 60
_CACHED = ("hit", "stale")
_CACHEABLE = (*_CACHED, "miss")

Figures = dict[str, float | None]


@dataclass(slots=True)
class _Counted:
    """Requests by cache word, and by number of the duration's bucket."""

    caches: Counter[str] = field(default_factory=Counter)
    buckets: Counter[int] = field(default_factory=Counter)

    def add(self, cache: str, bucket: int, number: int) -> None:
        self.caches[cache] += number
        self.buckets[bucket] += number

    def subtract(self, other: _Counted) -> None:
        self.caches.subtract(other.caches)
        self.buckets.subtract(other.buckets)

    def figures(self) -> Figures:
        asked = sum(self.caches[word] for word in _CACHEABLE)
        return {
            "requests": self.caches.total(),
            "hit_ratio": sum(self.caches[word] for word in _CACHED) / asked if asked else None,
            "p50_seconds": quantile(self.buckets, 0.5),
            "p99_seconds": quantile(self.buckets, 0.99),
        }


class LastHour:
    """Reads `metrics` at every `look`, which is due every few seconds. A look costs what has moved since the one before, and not the hour."""

    def __init__(self, metrics: MetricsObserver, wall: Callable[[], float] = time.time) -> None:
        self._metrics, self._wall = metrics, wall
        self._seen: dict[Key, float] = {}
        self._forget()

    def _forget(self) -> None:
        self._whole, self._routes = _Counted(), defaultdict[str, _Counted](_Counted)
        self._minutes: dict[int, tuple[_Counted, defaultdict[str, _Counted]]] = {}
        """The requests of each minute: all of them, and by route."""

    def look(self) -> None:
        """Adds what was counted since the last look to the present minute."""
        self._metrics.before_reading()
        minute = int(self._wall() // 60)
        old = [at for at in self._minutes if not minute - MINUTES < at <= minute]
        if len(old) == len(self._minutes):
            self._forget()
        for at in self._minutes.keys() & old:
            whole, routes = self._minutes.pop(at)
            self._whole.subtract(whole)
            for route, counted in routes.items():
                self._routes[route].subtract(counted)
        whole, routes = self._minutes.setdefault(minute, (_Counted(), defaultdict(_Counted)))
        for key, count in self._metrics.counts.items():
            if key[0] != "request_duration" or key[3] == "sum" or count == (before := self._seen.get(key, 0.0)):
                continue
            self._seen[key] = count
            route, cache, bucket, number = str(key[1]), str(key[2]), int(key[3]), int(count - before)
            for counted in (whole, routes[route], self._whole, self._routes[route]):
                counted.add(cache, bucket, number)

    def shown(self) -> dict[str, object]:
        """The hour as a whole, its minutes (the oldest first, the last one is under way) and its routes; None where nothing was asked."""
        self.look()
        last, minutes = int(self._wall() // 60), {at: whole for at, (whole, _) in self._minutes.items()}
        each = [minutes.get(at, _Counted()).figures() for at in range(last - MINUTES + 1, last + 1)]
        routes = [(name, counted) for name, counted in sorted(self._routes.items()) if counted.caches.total()]
        return {
            **self._whole.figures(),
            "minutes": {name: [minute[name] for minute in each] for name in each[0]},
            "routes": [{"route": name, **counted.figures()} for name, counted in routes],
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

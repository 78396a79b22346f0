"""The counters of contract §8, counted from events; `exposition` makes the text of them at a scrape.

Counting is additions in one dictionary, without locks: observers are called in the loop's one thread.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Final, cast

from passoproxy.core.events import (
    CACHE_WORDS,
    Answered,
    EntriesEvicted,
    EntriesPurged,
    Event,
    OriginAnswered,
    OriginFailed,
    RefreshFailed,
    Repeated,
    RequestAnswered,
    RequestRejected,
    TokenRefreshed,
)

OUTCOMES: Final = ("success", "unsent", "answered", "lost", "refused", "misconfigured")
STANDARD_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"))
BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the durations' buckets, in seconds: hits are told apart below a millisecond."""
_LOGINS: Final = frozenset(("login", "authorization_code", "import", "static", "seed"))
"""Ways of `TokenRefreshed` in which nothing was refreshed."""

_AT_ZERO: Final = (("cache_evictions",), ("cache_purged",), *(("token_refreshes", each) for each in OUTCOMES))

Key = tuple[str | int, ...]
"""A metric's name and its labels; of a histogram also the number of the bucket, or `sum`."""
Counts = list[list[str | int | float]]
"""What a MetricsObserver has counted, as plain data: keys with their number at the end."""


class MetricsObserver:
    """Counts events. `methods` are told apart in labels, every other method is `other`."""

    def __init__(self, methods: Iterable[str] = STANDARD_METHODS) -> None:
        self._methods = frozenset(methods)
        self._known: dict[tuple[str, str, int], tuple[str, str, int]] = {}
        self.before_reading: Callable[[], None] = lambda: None
        """Has what waits to be counted counted."""
        self.counts: defaultdict[Key, float] = defaultdict(float, dict.fromkeys(_AT_ZERO, 0.0))

    def __call__(self, event: Event) -> None:
        counts = self.counts
        # By type and in the order of frequency: a request is counted in about a microsecond.
        if type(event) is RequestAnswered:
            route, took = event.route, event.duration
            cache = event.cache if event.cache in CACHE_WORDS else "error"
            counts[
                "requests", route, event.method if event.method in self._methods else "other", event.status, cache
            ] += 1
            counts["request_duration", route, cache, bisect_left(BOUNDS, took)] += 1
            counts["request_duration", route, cache, "sum"] += took
            return
        if type(event) is OriginAnswered:
            took = event.duration
            counts["origin_requests", str(event.status)] += 1
            counts["origin_duration", bisect_left(BOUNDS, took)] += 1
            counts["origin_duration", "sum"] += took
            return
        match event:
            case RequestRejected(code):
                counts["rejected", code] += 1
            case OriginFailed(code=code):
                counts["origin_requests", code] += 1
            case TokenRefreshed(grant=grant) if grant not in _LOGINS:
                counts["token_refreshes", "success"] += 1
            case RefreshFailed(outcome):
                counts["token_refreshes", outcome] += 1
            case EntriesEvicted(count):
                counts["cache_evictions",] += count
            case EntriesPurged(count):
                counts["cache_purged",] += count

    def answered(self, batch: Sequence[Answered]) -> None:
        """Counts a batch."""
        durations: dict[tuple[str, str, int], list[float]] = {}
        last, add = None, list[float]().append
        for told, _, _, _, took, _ in batch:
            if isinstance(told, RequestAnswered):
                self(told)
                continue
            labels = told.labels or self._labels(told)
            if labels is not last:
                last, add = labels, durations.setdefault(labels, []).append
            add(took)
        counts = self.counts
        for (route, method, status), all_took in durations.items():
            counts["requests", route, method, status, "hit"] += len(all_took)
            counts["request_duration", route, "hit", "sum"] += sum(all_took)
            all_took.sort()
            reached = 0
            for bucket, bound in enumerate((*BOUNDS, math.inf)):
                within = bisect_right(all_took, bound)
                if within > reached:
                    counts["request_duration", route, "hit", bucket] += within - reached
                    reached = within
                if reached == len(all_took):
                    break

    def _labels(self, repeated: Repeated) -> tuple[str, str, int]:
        event = repeated.event
        labels = event.route, event.method if event.method in self._methods else "other", event.status
        repeated.labels = self._known.setdefault(labels, labels)  # so that one object stands for all that are equal
        return repeated.labels

    def taken(self) -> Counts:
        """What was counted since the last time, for another process's `add`; it counts no more here."""
        self.before_reading()
        taken: Counts = [[*key, number] for key, number in self.counts.items() if number]
        self.counts.clear()
        return taken

    def add(self, taken: Counts) -> None:
        """Counts what another process counted."""
        for *key, number in taken:
            self.counts[tuple(cast("list[str | int]", key))] += cast("float", number)

"""Prometheus metrics (contract §8): counted from events by `MetricsObserver`, and read at the scrape from a `Reading`.

Counting is a dictionary and an addition, without locks: observers are called in the loop's one thread. prometheus-client writes
them down, from a registry of our own.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from passoproxy.core.events import (
    EntriesEvicted,
    EntriesPurged,
    Event,
    OriginAnswered,
    OriginFailed,
    RefreshFailed,
    RequestAnswered,
    RequestRejected,
    TokenRefreshed,
)

ACCESS_STATES: Final = ("none", "valid", "expired")
CHAIN_STATES: Final = ("none", "healthy", "retrying", "unknown", "dead")
CACHE_WORDS: Final = frozenset(("hit", "stale", "miss", "pass", "error"))
OUTCOMES: Final = ("success", "unsent", "answered", "lost", "refused", "misconfigured")
STANDARD_METHODS: Final = frozenset(("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"))
BOUNDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the durations' buckets, in seconds: hits are told apart below a millisecond."""
_LETTERS: Final = (*(f"{bound:g}" for bound in BOUNDS), "+Inf")
_NAMED: Final = ("origin_requests", "refreshes", "rejected")
"""Attributes of MetricsObserver that count by one name."""
_LOGINS: Final = frozenset(("login", "authorization_code", "import", "static", "seed"))
"""Ways of `TokenRefreshed` in which nothing was refreshed."""

Counts = dict[str, Any]
"""What a MetricsObserver has counted, as plain data."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a scrape reads from the running daemon. Moments are epoch seconds; `runway` None means that no person is ever needed,
    or that nobody can know.

    `cache_bytes` has a pair of tier and bytes for each tier; `cache_entries` counts what is stored, in however many tiers.
    """

    access: str = "none"
    chain: str = "none"
    expires_at: float | None = None
    runway: float | None = None
    cache_entries: int = 0
    cache_bytes: tuple[tuple[str, int], ...] = ()
    in_flight: int = 0
    alert: int = 0


class _Durations:
    """One histogram's numbers."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def join(self, counts: Sequence[int], total: float) -> None:
        """Adds those of another histogram."""
        self.counts = [own + other for own, other in zip(self.counts, counts, strict=True)]
        self.total += total

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative, as Prometheus wants them."""
        reached, buckets = 0, []
        for letter, count in zip(_LETTERS, self.counts, strict=True):
            reached += count
            buckets.append((letter, float(reached)))
        return buckets


class MetricsObserver:
    """Counts events. `methods` are told apart in labels, every other method is `other`."""

    def __init__(self, methods: Iterable[str] = STANDARD_METHODS) -> None:
        self._methods = frozenset(methods)
        self.requests: Counter[tuple[str, str, int, str]] = Counter()
        self.durations: dict[tuple[str, str], _Durations] = {}
        self.origin_requests: Counter[str] = Counter()
        self.origin_durations = _Durations()
        self.refreshes: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self.rejected: Counter[str] = Counter()
        self.evictions = 0
        self.purged = 0

    def __call__(self, event: Event) -> None:
        # By type and in the order of frequency: a request is counted for less than a microsecond.
        if type(event) is RequestAnswered:
            cache = event.cache if event.cache in CACHE_WORDS else "error"
            method = event.method if event.method in self._methods else "other"
            self.requests[event.route, method, event.status, cache] += 1
            durations = self.durations.get((event.route, cache))
            if durations is None:
                durations = self.durations[event.route, cache] = _Durations()
            durations.add(event.duration)
        elif type(event) is OriginAnswered:
            self.origin_requests[str(event.status)] += 1
            self.origin_durations.add(event.duration)
        else:
            self._seldom(event)

    def taken(self) -> Counts:
        """What was counted since the last time, as plain data for another process's `add`; it counts no more here."""
        taken: Counts = {
            "requests": [[*labels, n] for labels, n in self.requests.items()],
            "durations": [[*labels, each.counts, each.total] for labels, each in self.durations.items()],
            "origin_durations": [self.origin_durations.counts, self.origin_durations.total],
            "evictions": self.evictions,
            "purged": self.purged,
            **{name: dict(getattr(self, name)) for name in _NAMED},
        }
        self.requests.clear()
        self.durations.clear()
        self.origin_durations = _Durations()
        self.evictions = self.purged = 0
        for name in _NAMED:
            getattr(self, name).clear()
        return taken

    def add(self, taken: Counts) -> None:
        """Counts what another process counted."""
        for route, method, status, cache, n in taken["requests"]:
            self.requests[route, method, status, cache] += n
        for route, cache, counts, total in taken["durations"]:
            self.durations.setdefault((route, cache), _Durations()).join(counts, total)
        self.origin_durations.join(*taken["origin_durations"])
        self.evictions += taken["evictions"]
        self.purged += taken["purged"]
        for name in _NAMED:
            getattr(self, name).update(taken[name])

    def _seldom(self, event: Event) -> None:
        match event:
            case RequestRejected(code):
                self.rejected[code] += 1
            case OriginFailed(code=code):
                self.origin_requests[code] += 1
            case TokenRefreshed(grant=grant) if grant not in _LOGINS:
                self.refreshes["success"] += 1
            case RefreshFailed(outcome):
                self.refreshes[outcome] += 1
            case EntriesEvicted(count):
                self.evictions += count
            case EntriesPurged(count):
                self.purged += count


class Metrics:
    """The exposition: what `observer` counted and what `read` tells, as text."""

    def __init__(self, observer: MetricsObserver, read: Callable[[], Awaitable[Reading]], version: str) -> None:
        self._observer, self._read, self._version = observer, read, version
        self._reading = Reading()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics and their Content-Type: OpenMetrics where `accept` asks for it, else Prometheus text."""
        self._reading = await self._read()
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Every metric of contract §8; prometheus-client calls it."""
        yield from self._requests()
        yield from self._origin()
        yield from self._token()
        yield from self._cache()
        yield _gauge("in_flight", "Requests under way.", self._reading.in_flight)
        yield _counted(
            "rejected",
            "Requests refused, by code.",
            ("code",),
            (((code,), n) for code, n in self._observer.rejected.items()),
        )
        yield InfoMetricFamily(
            "passoproxy_build",
            "The running program.",
            {"version": self._version, "python": ".".join(map(str, sys.version_info[:3]))},
        )

    def _requests(self) -> Iterator[Metric]:
        counted = (
            ((route, method, str(status), cache), n)
            for (route, method, status, cache), n in self._observer.requests.items()
        )
        yield _counted("requests", "Requests answered.", ("route", "method", "status", "cache"), counted)
        timed = HistogramMetricFamily(
            "passoproxy_request_duration_seconds",
            "From the first byte of a request to the last of its answer.",
            labels=("route", "cache"),
        )
        for labels, durations in self._observer.durations.items():
            timed.add_metric(labels, durations.buckets(), durations.total)
        yield timed

    def _origin(self) -> Iterator[Metric]:
        counted = (((status,), n) for status, n in self._observer.origin_requests.items())
        yield _counted(
            "origin_requests",
            "Requests sent to the origin, by status or by the code of what failed.",
            ("status",),
            counted,
        )
        timed = HistogramMetricFamily(
            "passoproxy_origin_duration_seconds", "From sending a request to the head of the origin's answer."
        )
        timed.add_metric((), self._observer.origin_durations.buckets(), self._observer.origin_durations.total)
        yield timed

    def _token(self) -> Iterator[Metric]:
        now = self._reading
        states = GaugeMetricFamily(
            "passoproxy_token_state",
            "1 for what is so: none, valid or expired (the access token); no_chain, healthy, retrying, unknown or dead (the refresh chain).",
            labels=("state",),
        )
        for word in ACCESS_STATES:
            states.add_metric((word,), float(word == now.access))
        for word in CHAIN_STATES:
            # `none` is the access token's word already.
            states.add_metric(("no_chain" if word == "none" else word,), float(word == now.chain))
        yield states
        yield _gauge(
            "token_expires_timestamp_seconds",
            "When the access token ends; absent where that is unknown.",
            now.expires_at,
        )
        yield _gauge(
            "token_runway_seconds",
            "Until a person is needed; absent where none ever is, or nobody can know.",
            now.runway,
        )
        yield _gauge(
            "alert_level", "How loud the runway is warned of: 0 not at all, 1 log, 2 notify, 3 page.", now.alert
        )
        counted = (((outcome,), n) for outcome, n in self._observer.refreshes.items())
        yield _counted("token_refreshes", "Attempts to renew the pair, by outcome.", ("outcome",), counted)

    def _cache(self) -> Iterator[Metric]:
        yield _gauge("cache_entries", "Stored answers.", self._reading.cache_entries)
        used = GaugeMetricFamily("passoproxy_cache_bytes", "Bytes in use, by tier.", labels=("tier",))
        # Once for each tier: a scraper refuses the whole exposition where a sample stands twice.
        for tier, amount in dict(self._reading.cache_bytes).items():
            used.add_metric((tier,), amount)
        yield used
        yield _counted("cache_evictions", "Entries that went to make room.", (), [((), self._observer.evictions)])
        yield _counted(
            "cache_purged", "Entries that went because someone or something asked.", (), [((), self._observer.purged)]
        )


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    """A gauge without labels, and without a sample where there is no value."""
    gauge = GaugeMetricFamily(f"passoproxy_{name}", text)
    if value is not None:
        gauge.add_metric((), value)
    return gauge


def _counted(
    name: str, text: str, labels: tuple[str, ...], counted: Iterable[tuple[tuple[str, ...], int]]
) -> CounterMetricFamily:
    counter = CounterMetricFamily(f"passoproxy_{name}", text, labels=labels)
    for values, number in counted:
        counter.add_metric(values, number)
    return counter

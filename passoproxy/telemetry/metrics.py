"""Prometheus metrics (contract §8): counted from events by `MetricsObserver`, and read at the scrape from a `Reading`.

Counting is additions in one dictionary, without locks: observers are called in the loop's one thread. prometheus-client writes the text,
from a registry of our own.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, cast

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
    Hit,
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
_LE: Final = (*(f"{bound:g}" for bound in BOUNDS), "+Inf")
_LOGINS: Final = frozenset(("login", "authorization_code", "import", "static", "seed"))
"""Ways of `TokenRefreshed` in which nothing was refreshed."""

_COUNTERS: Final = {
    "requests": ("Requests answered.", ("route", "method", "status", "cache")),
    "origin_requests": ("Requests sent to the origin, by status or by the code of what failed.", ("status",)),
    "token_refreshes": ("Attempts to renew the pair, by outcome.", ("outcome",)),
    "cache_evictions": ("Entries that went to make room.", ()),
    "cache_purged": ("Entries that were purged, by a command or by an event.", ()),
    "rejected": ("Requests refused, by code.", ("code",)),
}
_HISTOGRAMS: Final = {
    "request_duration": ("From the first byte of a request to the last of its answer.", ("route", "cache")),
    "origin_duration": ("From sending a request to the head of the origin's answer.", ()),
}
_AT_ZERO: Final = (("cache_evictions",), ("cache_purged",), *(("token_refreshes", each) for each in OUTCOMES))

Key = tuple[str | int, ...]
"""A metric's name and its labels; of a histogram also the number of the bucket, or `sum`."""
Counts = list[list[str | int | float]]
"""What a MetricsObserver has counted, as plain data: keys with their number at the end."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a scrape reads from the running daemon. Moments are epoch seconds; `runway` None: no person is ever needed, or it is unknown.

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


class MetricsObserver:
    """Counts events. `methods` are told apart in labels, every other method is `other`."""

    def __init__(self, methods: Iterable[str] = STANDARD_METHODS) -> None:
        self._methods = frozenset(methods)
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
        match event:
            case OriginAnswered(status=status, duration=took):
                counts["origin_requests", str(status)] += 1
                counts["origin_duration", bisect_left(BOUNDS, took)] += 1
                counts["origin_duration", "sum"] += took
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

    def hits(self, hits: Sequence[Hit]) -> None:
        """Counts hits that were answered from their bytes."""
        counts = self.counts
        for event, _, _, _, took in hits:
            route, cache = event.route, event.cache
            counts[
                "requests", route, event.method if event.method in self._methods else "other", event.status, cache
            ] += 1
            counts["request_duration", route, cache, bisect_left(BOUNDS, took)] += 1
            counts["request_duration", route, cache, "sum"] += took

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


class Metrics:
    """The exposition: what `observer` counted and what `read` tells, as text."""

    def __init__(self, observer: MetricsObserver, read: Callable[[], Awaitable[Reading]], version: str) -> None:
        self._observer, self._read, self._version = observer, read, version
        self._reading = Reading()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    async def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics and their Content-Type: OpenMetrics if `accept` asks for it, else Prometheus text."""
        self._reading = await self._read()
        self._observer.before_reading()
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def collect(self) -> Iterator[Metric]:
        """Every metric of contract §8; prometheus-client calls it."""
        counted: dict[str | int, list[tuple[Key, float]]] = {}
        for (name, *rest), number in self._observer.counts.items():
            counted.setdefault(name, []).append((tuple(rest), number))
        for name, (text, labels) in _COUNTERS.items():
            counter = CounterMetricFamily(f"passoproxy_{name}", text, labels=labels)
            for key, number in counted.get(name, ()):
                counter.add_metric([str(label) for label in key], number)
            yield counter
        for name, (text, labels) in _HISTOGRAMS.items():
            yield _histogram(name, text, labels, counted.get(name, [] if labels else [((0,), 0.0)]))
        yield from self._gauges()
        python = ".".join(map(str, sys.version_info[:3]))
        yield InfoMetricFamily("passoproxy_build", "The running program.", {"version": self._version, "python": python})

    def _gauges(self) -> Iterator[Metric]:
        now = self._reading
        # The access token has a `none` already, so the chain's is no_chain.
        states = [(word, word == now.access) for word in ACCESS_STATES]
        states += [("no_chain" if word == "none" else word, word == now.chain) for word in CHAIN_STATES]
        yield _gauge(
            "token_state",
            "1 for what is so: none, valid or expired (the access token); no_chain, healthy, retrying, unknown or dead (the refresh chain).",
            states,
            "state",
        )
        # Each tier once: a scraper refuses the whole exposition if a sample stands twice.
        yield _gauge("cache_bytes", "Bytes in use, by tier.", dict(now.cache_bytes).items(), "tier")
        for name, text, value in (
            (
                "token_expires_timestamp_seconds",
                "When the access token ends; absent if that is unknown.",
                now.expires_at,
            ),
            ("token_runway_seconds", "Until a person is needed; absent if none ever is, or it is unknown.", now.runway),
            ("alert_level", "How loud the runway is warned of: 0 not at all, 1 log, 2 notify, 3 page.", now.alert),
            ("cache_entries", "Stored answers.", now.cache_entries),
            ("in_flight", "Requests under way.", now.in_flight),
        ):
            yield _gauge(name, text, [] if value is None else [("", value)])


def _gauge(name: str, text: str, samples: Iterable[tuple[str, float]], *labels: str) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(f"passoproxy_{name}", text, labels=labels)
    for label, value in samples:
        gauge.add_metric([label] if labels else [], float(value))
    return gauge


def _histogram(
    name: str, text: str, labels: tuple[str, ...], counted: Iterable[tuple[Key, float]]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(f"passoproxy_{name}_seconds", text, labels=labels)
    numbers: dict[Key, dict[str | int, float]] = {}
    for (*labelled, bucket), number in counted:
        numbers.setdefault(tuple(labelled), {})[bucket] = number
    for key, found in numbers.items():
        reached, buckets = 0.0, []
        for bucket, le in enumerate(_LE):
            reached += found.get(bucket, 0.0)
            buckets.append((le, reached))  # cumulative, as Prometheus wants them
        family.add_metric([str(label) for label in key], buckets, found.get("sum", 0.0))
    return family

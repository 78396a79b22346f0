"""The text of contract §8's metrics: what `metrics` has counted, and what a `Reading` says at the scrape.

prometheus-client writes it, from a registry of our own. It is imported at the first scrape.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from passoproxy.telemetry.metrics import BOUNDS, Key, MetricsObserver
from passoproxy.values import dataclass

ACCESS_STATES: Final = ("none", "valid", "expired")
CHAIN_STATES: Final = ("none", "healthy", "retrying", "unknown", "dead")
_LE: Final = (*(f"{bound:g}" for bound in BOUNDS), "+Inf")

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


@dataclass(frozen=True, slots=True)
class Reading:
    """What a scrape reads from the running daemon. Moments are epoch seconds; `runway` None: no person is ever needed, or it is unknown.

    `budget` has what is used of `upstream.daily_budget`, and that; None without one.
    `places` has the places at the origin that this instance holds, and the number of instances; None without a store.
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
    budget: tuple[int | None, int | None] = (None, None)
    places: tuple[int | None, int | None] = (None, None)


def exposition(observer: MetricsObserver, reading: Reading, version: str, accept: str = "") -> tuple[bytes, str]:
    """All metrics and their Content-Type: OpenMetrics if `accept` asks for it, else Prometheus text."""
    observer.before_reading()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(observer, reading, version))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Collector:
    def __init__(self, observer: MetricsObserver, reading: Reading, version: str) -> None:
        self._observer, self._reading, self._version = observer, reading, version

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
            ("daily_budget_used", "Requests sent to the origin in 24 hours; absent without a budget.", now.budget[0]),
            ("daily_budget_limit", "Requests in 24 hours after which background work rests.", now.budget[1]),
            (
                "places_held",
                "Places at the origin that this instance holds; absent without a shared store.",
                now.places[0],
            ),
            ("instances", "Instances of the shared store; absent without one.", now.places[1]),
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

"""Many instances on one Redis and one account, on paper: what the cache saves, what the origin sees, and where Redis ends.

    python -m bench fleet

Every instance is asked for keys by the same Zipf law, as a Poisson process. A key that is fetched is fresh for `ttl`; an instance that had it from
Redis or the origin has it in memory until then, if its memory is large enough (Che's approximation of an LRU). The formulas are held against a
simulation of single requests, `played`, with the same rules. Costs are of this machine (`Costs`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Costs:
    """Counted with `INFO commandstats` on Redis 8 and two daemons, entries of 20 KiB; microseconds are processor time of Redis.

    20 µs of each round trip are the network's, the rest is what the command takes.
    """

    store_trips: float = 7.0
    store_us: float = 430.0
    read_trips: float = 1.0
    read_us: float = 95.0
    heard_trips: float = 1.0
    """Of each other instance, for each entry that one stores: all hear of it, so that their memories drop what it replaces."""
    heard_us: float = 40.0
    heard_bytes: float = 150.0
    used_us: float = 3.0
    """For each key that an instance used within a second, told together."""
    place_trips: float = 3.0
    """Of a fetch, for its place at the origin: one to have it, one that waits to be called, one to give it back. Fewer if fetches follow one another."""
    place_us: float = 110.0
    idle_trips: float = 4.3
    """A second, of an instance that is asked for nothing: lease, presence, following, and being counted among those that share the places."""
    idle_us: float = 260.0
    idle_bytes: float = 1000.0
    entry_bytes: float = 2600.0
    """Beside its body, in memory and on the wire."""
    connections: int = 6


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet and its traffic. The origin's limits are the vendor's: requests at once and a day are not public, 300 refreshes a minute are."""

    instances: int
    requests: float = 5.0
    """A second, at each instance."""
    keys: int = 83_600
    """220 destinations, 190 nationalities, two languages."""
    slope: float = 0.9
    ttl: float = 3600.0
    body: float = 20_480.0
    fetch: float = 0.4
    """Seconds that the origin takes."""
    memory: float = 64 * 2**20
    lifetime: float = 3600.0
    """Of an access token; it is renewed after four tenths."""
    max_concurrency: int = 4
    """Requests at once at the origin, of all instances."""
    costs: Costs = Costs()


@dataclass(frozen=True, slots=True)
class Load:
    """What comes of it: shares of all requests, and figures a second unless they say otherwise."""

    fleet: Fleet
    memory_hits: float
    store_hits: float
    fetches: float
    doubled: float
    """Of the fetches: asked for because another instance's fetch of the same key was still under way."""
    refreshes_a_day: float
    redis_trips: float
    redis_busy: float
    """Seconds of processor time a second; Redis has one core for its commands."""
    redis_bytes: float
    redis_connections: int
    redis_memory: float

    @property
    def at_origin(self) -> float:
        """Requests under way at the origin, on average."""
        return self.fetches * self.fleet.fetch

    @property
    def places_used(self) -> float:
        """The share of `upstream.max_concurrency` that is in use on average; from 1 on requests wait longer and longer."""
        return self.at_origin / self.fleet.max_concurrency


def weights(fleet: Fleet) -> list[float]:
    """The share of requests of each key; they sum up to one."""
    raw = [rank**-fleet.slope for rank in range(1, fleet.keys + 1)]
    whole = sum(raw)
    return [each / whole for each in raw]


def expected(fleet: Fleet) -> Load:
    """By formula: a key with rate r and lifetime T is fetched once in each T + 1/r; an instance's copy of it likewise, with its own part of the rate."""
    shares, n, rate = weights(fleet), fleet.instances, fleet.instances * fleet.requests
    patience = _patience(replace(fleet, instances=1))
    memory = shared = fetched = doubled = stored = used = 0.0
    for share in shares:
        all_of_it, own = rate * share, fleet.requests * share
        begun = 1 / (fleet.ttl + 1 / all_of_it)  # a second: fetches that find nothing under way
        again = begun * (n - 1) * -math.expm1(-own * fleet.fetch)  # the same key at other instances meanwhile
        kept = _kept(own, patience, fleet.ttl)
        memory += all_of_it * kept
        fetched += begun + again
        doubled += again
        shared += max(0.0, all_of_it * (1 - kept) - begun - again)
        stored += all_of_it * fleet.ttl / (1 + all_of_it * fleet.ttl)
        used += n * -math.expm1(-own)
    costs = fleet.costs
    heard = fetched * (n - 1)
    return Load(
        fleet,
        memory_hits=memory / rate,
        store_hits=shared / rate,
        fetches=fetched,
        doubled=doubled / fetched,
        refreshes_a_day=DAY / (0.4 * fleet.lifetime),
        redis_trips=(costs.store_trips + costs.place_trips) * fetched
        + costs.read_trips * shared
        + costs.heard_trips * heard
        + costs.idle_trips * n,
        redis_busy=1e-6
        * (
            (costs.store_us + costs.place_us) * fetched
            + costs.read_us * shared
            + costs.heard_us * heard
            + costs.used_us * used
            + costs.idle_us * n
        ),
        redis_bytes=(fetched + shared) * (fleet.body + costs.entry_bytes)
        + costs.heard_bytes * heard
        + costs.idle_bytes * n,
        redis_connections=costs.connections * n,
        redis_memory=stored * (fleet.body + costs.entry_bytes),
    )


def _kept(rate: float, patience: float, ttl: float) -> float:
    """The share of an instance's requests for a key that find it in memory: it is fresh for `ttl`, and goes if it was not used for `patience`.

    The smaller share of both counts. That is a little too much where others fetch: a copy from Redis has only the rest of its `ttl`.
    """
    fresh = rate * ttl / (1 + rate * ttl)
    return min(fresh, -math.expm1(-rate * patience)) if math.isfinite(patience) else fresh


@lru_cache(maxsize=8)
def _patience(one: Fleet) -> float:
    """How long a key stays in an instance's LRU without being used (Che, Tung, Wang 2002); infinite if all fit."""
    rates, ttl = [one.requests * share for share in weights(one)], one.ttl
    room = one.memory / (one.body + one.costs.entry_bytes)
    if sum(rate * ttl / (1 + rate * ttl) for rate in rates) <= room:
        return math.inf
    low, high = 0.0, ttl
    for _ in range(40):
        middle = (low + high) / 2
        if sum(-math.expm1(-rate * middle) for rate in rates) < room:
            low = middle
        else:
            high = middle
    return low


def played(fleet: Fleet, seconds: float, seed: int) -> tuple[float, float, float]:
    """Request by request, from an empty cache: shares of hits from memory, of hits from Redis, and fetches a second, after a first `ttl`."""
    chance, cumulated = random.Random(seed), list(accumulate(weights(fleet)))
    rate, room = fleet.instances * fleet.requests, int(fleet.memory / (fleet.body + fleet.costs.entry_bytes))
    memories: list[dict[int, float]] = [{} for _ in range(fleet.instances)]
    store: dict[int, float] = {}
    under_way: dict[tuple[int, int], float] = {}
    now, hits, reads, fetches, asked = 0.0, 0, 0, 0, 0
    while now < seconds:
        keys = chance.choices(range(fleet.keys), cum_weights=cumulated, k=1000)
        for key in keys:
            now += chance.expovariate(rate)
            instance = chance.randrange(fleet.instances)
            memory, counts = memories[instance], now > fleet.ttl
            asked += counts
            until = memory.pop(key, 0.0)
            if until > now or under_way.get((instance, key), 0.0) > now:
                hits += counts
                if until > now:
                    memory[key] = until  # used last
                continue
            if (stored := store.get(key, 0.0)) - fleet.ttl <= now < stored:
                reads += counts
                memory[key] = stored
            else:
                fetches += counts
                under_way[instance, key] = arrives = now + fleet.fetch
                store[key] = arrives + fleet.ttl if stored <= now else stored
                memory[key] = store[key]
            if len(memory) > room:
                del memory[next(iter(memory))]
    return hits / asked, reads / asked, fetches / (now - fleet.ttl)


def ends_at(fleet: Fleet, busy: float = 0.7) -> int:
    """The number of instances at which Redis is busy for that share of a core."""
    low, high = 1, 2
    while expected(replace(fleet, instances=high)).redis_busy < busy:
        low, high = high, 2 * high
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        if expected(replace(fleet, instances=middle)).redis_busy < busy:
            low = middle
        else:
            high = middle
    return high


_LINES: tuple[tuple[str, Callable[[Load], str]], ...] = (
    ("requests a second", lambda load: f"{load.fleet.instances * load.fleet.requests:,.0f}"),
    ("hits from memory", lambda load: f"{load.memory_hits:.1%}"),
    ("hits from Redis", lambda load: f"{load.store_hits:.1%}"),
    ("fetches a second", lambda load: f"{load.fetches:.1f}"),
    ("fetches a day", lambda load: f"{load.fetches * DAY:,.0f}"),
    ("of them while another instance fetched the same", lambda load: f"{load.doubled:.1%}"),
    ("at the origin at once, on average", lambda load: f"{load.at_origin:.1f}"),
    ("of the places that they share", lambda load: f"{load.places_used:.0%}"),
    ("refreshes a day", lambda load: f"{load.refreshes_a_day:.0f}"),
    ("Redis: round trips a second", lambda load: f"{load.redis_trips:,.0f}"),
    ("Redis: share of its core", lambda load: f"{load.redis_busy:.1%}"),
    ("Redis: MB a second", lambda load: f"{load.redis_bytes / 1e6:.1f}"),
    ("Redis: connections", lambda load: f"{load.redis_connections:,}"),
    ("Redis: GB of memory", lambda load: f"{load.redis_memory / 1e9:.2f}"),
)


def report(sizes: Sequence[int] = (10, 100, 1000), fleet: Fleet = Fleet(1)) -> str:
    """A table for these numbers of instances, how near the formulas are to single requests, and where Redis ends."""
    loads = [expected(replace(fleet, instances=size)) for size in sizes]
    lines = [f"| instances | {' | '.join(f'{size:,}' for size in sizes)} |", f"| --- |{' ---: |' * len(sizes)}"]
    lines += [f"| {name} | {' | '.join(text(load) for load in loads)} |" for name, text in _LINES]
    few = replace(fleet, instances=min(sizes))
    hits, reads, fetches = played(few, 3 * fleet.ttl, 1)
    formula = expected(few)
    lines += [
        "",
        f"Request by request, {few.instances} instances for three lifetimes: {hits:.1%} from memory, {reads:.1%} from Redis, {fetches:.1f} fetches a second "
        f"(by formula: {formula.memory_hits:.1%}, {formula.store_hits:.1%}, {formula.fetches:.1f}).",
        f"Redis is busy for seven tenths of its core at {ends_at(fleet):,} instances.",
    ]
    return "\n".join(lines)

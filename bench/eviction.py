"""Which eviction a memory should have: hit ratios of three policies on three traces, made here by seed. No network, no clock, no daemon.

    python bench/eviction.py [--requests 400000] [--seed 1] [--json]

S3-FIFO is the class that the memory uses; LRU and W-TinyLFU stand in `eviction_candidates`, as they were not chosen. Keys have sizes,
and the memory is a number of bytes, given as a share of what all keys of the trace take. The last line is what a hit pays: one call of `used`
(W-TinyLFU only notes it there, and pays when the next key comes).
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.eviction_candidates import Eviction, LeastRecentlyUsed, WindowTinyLfu
from passoproxy.stores.entries.memory import S3Fifo

SHARES = (0.01, 0.05, 0.2)


POLICIES: dict[str, Callable[[], Eviction]] = {"LRU": LeastRecentlyUsed, "S3-FIFO": S3Fifo, "W-TinyLFU": WindowTinyLfu}


# ---- traces ----------------------------------------------------------------------------------------------------------


def zipf(count: int, slope: float) -> list[float]:
    """Cumulated weights of `count` ranks."""
    return list(accumulate(1.0 / rank**slope for rank in range(1, count + 1)))


def drifting(requests: int, chance: random.Random) -> list[str]:
    """A Zipf law over 50,000 keys whose ranks move: every 50 requests two keys change places, one of them among the most wanted."""
    keys = [f"k{n}" for n in range(50_000)]
    chance.shuffle(keys)
    weights, trace = zipf(len(keys), 0.9), []
    while len(trace) < requests:
        trace += chance.choices(keys, cum_weights=weights, k=50)
        one, other = int(len(keys) ** chance.random()) - 1, chance.randrange(len(keys))
        keys[one], keys[other] = keys[other], keys[one]
    return trace[:requests]


def polluted(requests: int, chance: random.Random) -> list[str]:
    """A Zipf law over 20,000 keys, with a walk over 4,000 others (an export, a crawler) after every 12,000 requests."""
    keys = [f"k{n}" for n in range(20_000)]
    weights, trace, at = zipf(len(keys), 0.9), [], 0
    while len(trace) < requests:
        trace += chance.choices(keys, cum_weights=weights, k=12_000)
        trace += [f"s{at + n}" for n in range(4_000)]
        at = (at + 4_000) % 40_000
    return trace[:requests]


def trips(requests: int, chance: random.Random) -> list[str]:
    """The product's: a trip asks one destination for the nationalities of its travellers, two languages, and again while it is being planned.

    220 destinations, wanted by a Zipf law whose order changes with the days (sales, seasons); 190 nationalities, six of which make most travellers.
    Hours are busy as a day in an office is; at night a list of all nationalities for forty destinations is made.
    """
    places, nations = [f"d{n}" for n in range(220)], [f"n{n}" for n in range(190)]
    chance.shuffle(places)
    wanted, travellers = zipf(len(places), 0.8), zipf(len(nations), 1.3)
    trace: list[str] = []
    hour = 0
    while len(trace) < requests:
        busy = max(0.05, math.sin(math.pi * ((hour % 24) - 6) / 15)) if 6 <= hour % 24 <= 21 else 0.05
        trace += _hour(chance, places, nations, wanted, travellers, int(260 * busy))
        if hour % 24 == 3:
            trace += [f"{place} {nation} de" for place in chance.sample(places, 40) for nation in nations]
        if hour % 24 == 0:
            for _ in range(12):
                one, other = chance.randrange(40), chance.randrange(len(places))
                places[one], places[other] = places[other], places[one]
        hour += 1
    return trace[:requests]


def _hour(
    chance: random.Random,
    places: Sequence[str],
    nations: Sequence[str],
    wanted: Sequence[float],
    travellers: Sequence[float],
    count: int,
) -> list[str]:
    """The requests of the trips that begin within an hour, those of different trips mixed."""
    moments: list[tuple[float, str]] = []
    for place in chance.choices(places, cum_weights=wanted, k=count):
        language = "de" if chance.random() < 0.8 else "en"
        party = set(chance.choices(nations, cum_weights=travellers, k=chance.choice((1, 1, 1, 2, 2, 3, 5))))
        begun = chance.random()
        for _ in range(chance.choice((1, 2, 2, 3, 5))):
            moments += [(begun + chance.random() / 100, f"{place} {nation} {language}") for nation in sorted(party)]
            begun += chance.expovariate(8)
    return [key for _, key in sorted(moments)]


TRACES: dict[str, Callable[[int, random.Random], list[str]]] = {
    "Zipf with drift": drifting,
    "Zipf with scans": polluted,
    "trips": trips,
}


# ---- the simulation --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """Hit ratios of one trace and one size of memory, by policy, in percent of requests."""

    trace: str
    keys: int
    share: float
    hits: dict[str, float]


def sizes_of(trace: Sequence[str], chance: random.Random) -> dict[str, int]:
    """Bytes of each key's entry: a median of 12 KB, some ten times that."""
    return {key: int(2000 + chance.lognormvariate(9.2, 0.9)) for key in dict.fromkeys(trace)}


def hit_ratio(trace: Sequence[str], sizes: dict[str, int], most: int, policy: Eviction) -> float:
    """The share of requests that find their key, as a shelf of `most` bytes would keep them."""
    held: set[str] = set()
    taken = hits = 0
    used, most_of_one = policy.used, most // 8
    for key in trace:
        if key in held:
            hits += 1
            used(key)
            continue
        if sizes[key] > most_of_one:
            continue
        held.add(key)
        policy.added(key)
        taken += sizes[key]
        while taken > most:
            victim = policy.victim()
            held.remove(victim)
            policy.removed(victim)
            taken -= sizes[victim]
    return hits / len(trace)


def simulate(
    requests: int, seed: int, shares: Sequence[float] = SHARES, policies: Sequence[str] = tuple(POLICIES)
) -> list[Result]:
    """Every trace with every size of memory, every policy on the same requests."""
    results = []
    for name, make in TRACES.items():
        trace = make(requests, random.Random(seed))
        sizes = sizes_of(trace, random.Random(seed + 1))
        for share in shares:
            most = int(sum(sizes.values()) * share)
            hits = {name: 100 * hit_ratio(trace, sizes, most, POLICIES[name]()) for name in policies}
            results.append(Result(name, len(sizes), share, hits))
    return results


def cost_of_use(make: Callable[[], Eviction], keys: int = 10_000, rounds: int = 20) -> float:
    """Nanoseconds of one `used`, the best of some rounds."""
    policy = make()
    names = [f"key {n}" for n in range(keys)]
    for each in names:
        policy.added(each)
    best, used = math.inf, policy.used
    for _ in range(rounds):
        began = time.perf_counter()
        for each in names:
            used(each)
        best = min(best, time.perf_counter() - began)
    return best / keys * 1e9


def main() -> None:
    """Prints a table as the decision record has it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=400_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    results = simulate(chosen.requests, chosen.seed)
    costs = {name: cost_of_use(policy) for name, policy in POLICIES.items()}
    if chosen.json:
        print(json.dumps({"results": [asdict(each) for each in results], "cost_of_use_ns": costs}))
        return
    print(f"| trace | keys | memory | {' | '.join(POLICIES)} |")
    print(f"| --- | --- | --- |{' --- |' * len(POLICIES)}")
    for each in results:
        hits = " | ".join(f"{each.hits[name]:.1f} %" for name in POLICIES)
        print(f"| {each.trace} | {each.keys} | {each.share:.0%} | {hits} |")
    means = {name: sum(each.hits[name] for each in results) / len(results) for name in POLICIES}
    print(f"| mean | | | {' | '.join(f'{means[name]:.1f} %' for name in POLICIES)} |")
    print(f"| one `used` | | | {' | '.join(f'{costs[name]:.0f} ns' for name in POLICIES)} |")


if __name__ == "__main__":
    main()

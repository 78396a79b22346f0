"""kill -9 at random moments of a refresh under traffic, again and again on one and the same pair. The sandbox's journal is the judge."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import pytest

from tests.journeys.conftest import until
from tests.journeys.nursery import Nursery
from tests.journeys.proving import House, LiveSandbox, Traffic, kills


def how_long(house: House) -> float:
    """Seconds that a refresh takes here under traffic, from the order to its answer."""
    spans = []
    for _ in range(3):
        time.sleep(1.0)  # never more than one a second: waiting for its turn is no part of a refresh
        began = time.monotonic()
        house.refresh()
        spans.append(time.monotonic() - began)
    return median(spans)


def killed_again_and_again(house: House, times: int, chance: random.Random) -> Counter[str]:
    """What each of `times` kills came to, in words; 'lost' where the pair did not live on."""
    found: Counter[str] = Counter()
    child = house.live()
    with Traffic(house, clients=2) as traffic:
        span = how_long(house)
        for _ in range(times):
            time.sleep(1.0)
            before = len(house.sandbox.chain(house.first))
            order = threading.Thread(target=house.refresh)
            order.start()
            time.sleep(chance.uniform(0.0, 2.0 * span))
            child.send(signal.SIGKILL)
            child.wait()
            order.join()
            chain = house.sandbox.chain(house.first)
            rotated = len(chain) > before
            child = house.start()
            alive = until(lambda: house.token().get("chain") in ("healthy", "dead") and house.token())
            after = house.sandbox.chain(house.first)
            if not alive or alive["chain"] != "healthy":
                found["lost"] += 1
                print(f"lost: {alive} {child.said[-2000:]}")
                break
            replayed = any(each["replays"] for each in after[before - 1 :])
            if not rotated:
                found["before the provider rotated"] += 1
            elif replayed:
                found["in the window, replayed once"] += 1
            else:
                found["after the answer was durable"] += 1
    child.stop()
    tokens = house.sandbox.chain(house.first)
    found["presented more than twice"] += sum(each["presented"] > 2 for each in tokens)
    found["answers to clients"] += traffic.seen[200]
    found["refusals to clients"] += sum(count for status, count in traffic.seen.items() if status not in (0, 200))
    return found


def series(times: int, beside: int, folder: Path, forking: Nursery) -> Counter[str]:
    """So many in all, of `beside` daemons beside one another: much of a life is waiting."""
    sandbox = LiveSandbox(allow_replays=1)
    try:
        houses = [House(folder / f"house-{name}", sandbox, forking) for name in range(beside)]
        with ThreadPoolExecutor(beside) as lives:
            each = lives.map(
                lambda pair: killed_again_and_again(
                    pair[1], len(range(pair[0], times, beside)), random.Random(pair[0])
                ),
                enumerate(houses),
            )
            return sum(each, Counter())
    finally:
        sandbox.close()


def check(found: Counter[str], times: int) -> None:
    print(f"{times} kills at random moments: {dict(found)}")
    assert found["lost"] == 0
    assert found["presented more than twice"] == 0
    words = ("before the provider rotated", "in the window, replayed once", "after the answer was durable")
    assert sum(found[word] for word in words) == times
    assert found["answers to clients"] > times
    assert found["refusals to clients"] == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_pair_survives_many_kills_under_traffic(tmp_path: Path, forking: Nursery) -> None:
    began, times = time.monotonic(), kills(120)
    found = series(times, 8, tmp_path, forking)
    print(f"took {time.monotonic() - began:.0f} s")
    check(found, times)
    # the moments were spread over the whole of it
    assert min(found["before the provider rotated"], found["after the answer was durable"]) > times / 25

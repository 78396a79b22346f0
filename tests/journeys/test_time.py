"""Clock steps and a frozen process under the real daemon: no storm, no early death, the right runway afterwards."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest

from tests.journeys.conftest import until
from tests.journeys.nursery import Hand, Nursery
from tests.journeys.proving import House, LiveSandbox

slow = pytest.mark.slow  # real processes that live and die: minutes, not seconds

TARGET = "/api/v2/account/subscription"
MINUTE, DAY = 60.0, 86400.0


@slow
@pytest.mark.timeout(120)
def test_a_step_of_the_clock_changes_nothing_that_is_left(tmp_path: Path, forking: Nursery) -> None:
    all_at_once(stepped, (10 * MINUTE, -10 * MINUTE, DAY, -DAY), 16.0, tmp_path, forking)


@slow
@pytest.mark.timeout(120)
def test_a_step_while_the_daemon_is_down_kills_nothing(tmp_path: Path, forking: Nursery) -> None:
    """A machine without a clock of its own comes up in the past: its pair must not wait for a moment that is years away."""
    all_at_once(started_elsewhen, (-10 * MINUTE, -DAY, -20 * 365 * DAY, 10 * MINUTE), 16.0, tmp_path, forking)


def all_at_once(
    life: Callable[[float, Path, LiveSandbox, Nursery], None],
    steps: Sequence[float],
    lifetime: float,
    folder: Path,
    forking: Nursery,
) -> None:
    """A life for each step, beside one another, each with a provider of its own."""

    def one(step: float) -> None:
        sandbox = LiveSandbox(lifetime=lifetime, allow_replays=1)
        try:
            place = folder / f"step{step:+.0f}"
            place.mkdir()
            life(step, place, sandbox, forking)
        finally:
            sandbox.close()

    with ThreadPoolExecutor(len(steps)) as lives:
        list(lives.map(one, steps))


def stepped(step: float, tmp_path: Path, sandbox: LiveSandbox, forking: Nursery) -> None:
    lifetime = sandbox.lifetime
    house = House(tmp_path / "house", sandbox, forking)
    house.move_in()
    hand = Hand(tmp_path / "offset")
    house.start(clock=hand.path)
    house.wait_for()
    issued = next(each["issued_at"] for each in sandbox.chain(house.first))
    time.sleep(2.0)
    hand.step(step)
    # no refresh before its time, nor one a day late: at 40 % of the life, in the time that passes
    seen = []
    while time.time() < issued + 0.7 * lifetime:
        assert house.get(f"{TARGET}?turn={time.time_ns()}").status == 200
        token = house.token()
        seen.append((time.time() - issued, token["runway_seconds"]))
        time.sleep(0.25)
    refreshes = [each["time"] - issued for each in sandbox.refreshes()]
    print(f"step {step:+.0f} s: refreshed {refreshes} s after the issue, runway then {token['runway_seconds']:.1f} s")
    assert len(refreshes) == 1
    assert 0.38 * lifetime <= refreshes[0] <= 0.42 * lifetime + 2.0
    for moment, runway in seen:
        since = moment if moment < refreshes[0] else moment - refreshes[0]
        near_the_refresh = abs(moment - refreshes[0]) < 1.5
        assert near_the_refresh or abs(runway - (lifetime - since)) < 1.5, (moment, runway)
    assert house.token()["chain"] == "healthy"


def started_elsewhen(step: float, tmp_path: Path, sandbox: LiveSandbox, forking: Nursery) -> None:
    house = House(tmp_path / "house", sandbox, forking)
    house.move_in()
    hand = Hand(tmp_path / "offset")
    hand.step(step)
    house.start(clock=hand.path)
    assert until(lambda: house.token().get("generation", 0) >= 2), house.token()
    token = house.wait_for()
    print(f"{step:+.0f} s while it was down: refreshed at once, runway {token['runway_seconds']:.1f} s")
    assert len(sandbox.refreshes()) == 1
    assert 0 < token["runway_seconds"] <= sandbox.lifetime
    hand.step(-step)
    time.sleep(1.0)
    assert house.get(f"{TARGET}?turn=after").status == 200


@slow
@pytest.mark.timeout(180)
def test_a_process_frozen_for_one_and_a_half_lifetimes(tmp_path: Path, forking: Nursery) -> None:
    """Longer than the pair lives: it is dead by then, and says so at once, with one attempt and not a storm of them."""
    lifetime = 8.0
    sandbox = LiveSandbox(lifetime=lifetime)
    try:
        house = House(tmp_path / "house", sandbox, forking)
        child = house.live()
        child.send(signal.SIGSTOP)
        time.sleep(1.5 * lifetime)
        before = len(sandbox.refreshes())
        child.send(signal.SIGCONT)
        token = house.wait_for("dead", 5)
        assert token["runway_seconds"] == 0
        assert house.get(f"{TARGET}?turn=after").status == 503
        time.sleep(2.0)
        attempts = [each["time"] for each in sandbox.refreshes()][before:]
        print(f"frozen for {1.5 * lifetime:.0f} s: {len(attempts)} attempts afterwards, chain {token['chain']}")
        assert 1 <= len(attempts) <= 2
        assert all(after - earlier >= 0.99 for earlier, after in pairwise(attempts))
    finally:
        sandbox.close()


@slow
@pytest.mark.timeout(180)
def test_a_process_frozen_for_half_a_lifetime_goes_on(tmp_path: Path, forking: Nursery) -> None:
    lifetime = 10.0
    sandbox = LiveSandbox(lifetime=lifetime)
    try:
        house = House(tmp_path / "house", sandbox, forking)
        child = house.live()
        child.send(signal.SIGSTOP)
        time.sleep(0.55 * lifetime)
        child.send(signal.SIGCONT)
        woken = time.time()
        assert until(lambda: house.token().get("generation") == 2, 5), house.token()
        assert time.time() - woken < 3.0  # and not the 40 % of a life once more
        assert len(sandbox.refreshes()) == 1
        assert abs(house.token()["runway_seconds"] - lifetime) < 3
        assert house.get(f"{TARGET}?turn=after").status == 200
    finally:
        sandbox.close()

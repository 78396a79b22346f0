"""Three daemons in three folders on one Redis: the pair is renewed by one of them, whoever dies, and never twice. The sandbox's journal judges."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import until
from tests.journeys.nursery import Nursery
from tests.journeys.proving import House, LiveSandbox, Traffic, kills
from tests.redis_server import RedisServer

LIFETIME = 60.0


@dataclass
class Fleet:
    sandbox: LiveSandbox
    redis: RedisServer
    houses: list[House]

    def start(self) -> None:
        self.houses[0].move_in()
        for house in self.houses:
            house.start()
            house.wait_for()

    def owner(self) -> House:
        """The one that renews the pair; waits for it."""

        def found() -> House | None:
            owners = [each for each in self.houses if each.token().get("role") == "owner"]
            return owners[0] if len(owners) == 1 else None

        owner = until(found)
        assert owner is not None, [(each.token(), each.child and each.child.said[-1500:]) for each in self.houses]
        return owner  # type: ignore[no-any-return]

    def follower(self) -> House:
        owner = self.owner()
        return next(each for each in self.houses if each is not owner)

    def other_owner(self, before: House) -> House:
        """Whoever took over from `before`; waits for it."""
        rest = [each for each in self.houses if each is not before]
        new = until(lambda: next((each for each in rest if each.token().get("role") == "owner"), None))
        assert new is not None, [each.child and each.child.said[-2000:] for each in rest]
        return new  # type: ignore[no-any-return]

    def generation(self) -> int:
        return max(int(each.token().get("generation") or 0) for each in self.houses)

    def judge(self) -> dict[str, Any]:
        """What the journal says: tokens presented after their fate was known to anybody, and the most presentations of any one."""
        requests, tokens = self.sandbox.requests(), self.sandbox.tokens()
        issued = [each["hash"] for each in tokens if each["kind"] == "access"][1:]
        used: dict[str, float] = {}
        presented: dict[str, list[tuple[float, str | None]]] = {}
        given = iter(issued)
        for each in requests:
            bearer = each["headers"].get("Authorization", "").partition(" ")[2]
            used.setdefault(bearer, each["time"])
            if each["grant_type"] == "refresh_token":
                new = next(given) if each["outcome"] in ("rotated", "replayed", "dropped") else None
                presented.setdefault(each["refresh_token"], []).append((each["time"], new))
        late = [
            token
            for token, times in presented.items()
            for at, (moment, _) in enumerate(times)
            if any(new is None or used.get(new, moment) < moment for _, new in times[:at])
        ]
        refused = [each["outcome"] for each in self.sandbox.refreshes() if str(each["outcome"]).startswith("refused")]
        most = max((len(times) for times in presented.values()), default=0)
        return {"late": late, "refused": refused, "most": most, "refreshes": len(self.sandbox.refreshes())}


@contextmanager
def housed(folder: Path, forking: Nursery) -> Iterator[Fleet]:
    folder.mkdir(exist_ok=True)
    redis = RedisServer(folder)
    sandbox = LiveSandbox(lifetime=LIFETIME, latency=0.15, allow_replays=1, punish_reuse=False)
    houses = [House(folder / name, sandbox, forking, sections={"store": {"url": redis.url}}) for name in "abc"]
    made = Fleet(sandbox, redis, houses)
    try:
        yield made
    finally:
        for house in houses:
            if house.child is not None and house.child.poll() is None:
                house.child.stop(signal.SIGKILL)
        redis.stop()
        sandbox.close()


@pytest.fixture
def fleet(tmp_path: Path, forking: Nursery) -> Iterator[Fleet]:
    with housed(tmp_path, forking) as made:
        yield made


@pytest.mark.slow
def test_followers_have_a_new_token_within_a_second(fleet: Fleet) -> None:
    fleet.start()
    owner = fleet.owner()
    before = fleet.generation()
    fleet.follower().refresh()
    moment = time.monotonic()
    assert until(lambda: all(each.token().get("generation") == before + 1 for each in fleet.houses), 3.0)
    print(f"all three had the new token {time.monotonic() - moment:.3f} s after the order was answered")
    assert fleet.owner() is owner
    assert fleet.judge() == {"late": [], "refused": [], "most": 1, "refreshes": 1}


@pytest.mark.slow
def test_a_401_at_a_follower_is_one_refresh_at_the_owner(fleet: Fleet) -> None:
    fleet.start()
    follower = fleet.follower()
    fleet.sandbox.fault("origin_401:1")
    assert follower.get("/api/v2/account/subscription").status == 200
    assert fleet.judge()["refreshes"] == 1


def killed_at_random(times: int, beside: int, folder: Path, forking: Nursery) -> None:
    """So many in all, in `beside` fleets beside one another: most of it is waiting for leases to end."""

    def one(number: int) -> None:
        with housed(folder / f"fleet-{number}", forking) as fleet:
            _killed_at_random(fleet, len(range(number, times, beside)), number)

    with ThreadPoolExecutor(beside) as fleets:
        list(fleets.map(one, range(beside)))


def _killed_at_random(fleet: Fleet, times: int, seed: int) -> None:
    chance = random.Random(seed)
    fleet.start()
    with Traffic(*fleet.houses) as traffic:
        for turn in range(times):
            owner = fleet.owner()
            loses = (turn + seed) % 3 == 1
            if loses:
                fleet.sandbox.fault("refresh_lost:1")
            order = threading.Thread(target=owner.refresh)
            order.start()
            if loses:  # it dies with a lost answer on its hands, before it presents the token again itself
                order.join(60)
            else:
                time.sleep(chance.uniform(0.0, 1.3))
            owner.child.stop(signal.SIGKILL)
            killed = time.monotonic()
            fleet.sandbox.fault()
            order.join(60)
            new = fleet.other_owner(owner)
            took = time.monotonic() - killed
            new.wait_for(seconds=30)  # a lost answer was replayed
            print(
                f"fleet {seed}, turn {turn}: taken over in {took:.1f} s, {len(fleet.sandbox.refreshes())} presentations so far"
            )
            owner.start()
            owner.wait_for()
    found = fleet.judge()
    print(
        f"fleet {seed}: {times} owners killed: {found}, longest gap {traffic.longest_gap:.2f} s, answers {dict(traffic.seen)}"
    )
    assert (found["late"], found["refused"], set(traffic.seen)) == ([], [], {200})
    assert found["most"] <= 2
    assert traffic.longest_gap < 10


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_owner_is_killed_at_random_again_and_again(tmp_path: Path, forking: Nursery) -> None:
    killed_at_random(kills(10), 5, tmp_path, forking)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_store_that_is_away_costs_no_client_an_error_and_no_second_refresh(fleet: Fleet) -> None:
    fleet.start()
    owner, before = fleet.owner(), fleet.generation()
    with Traffic(*fleet.houses) as traffic:
        fleet.redis.kill()
        assert until(lambda: owner.child is not None and "store_away" in owner.child.said)
        # beyond the moment at which the pair is due: without the store nobody renews it
        due = until(lambda: owner.token().get("last_error"), LIFETIME)
        assert "is away" in due
        assert fleet.judge()["refreshes"] == 0
        fleet.redis.start()
        assert until(lambda: fleet.generation() == before + 1), owner.token()
        assert until(lambda: all(each.token().get("generation") == before + 1 for each in fleet.houses))
    found = fleet.judge()
    assert (found["late"], found["refused"], found["most"], found["refreshes"]) == ([], [], 1, 1)
    assert (set(traffic.seen), traffic.longest_gap < 10) == ({200}, True)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_owner_that_was_frozen_follows_when_it_wakes(fleet: Fleet) -> None:
    fleet.start()
    owner = fleet.owner()
    owner.child.send(signal.SIGSTOP)
    new = fleet.other_owner(owner)
    new.refresh()
    generation = new.token()["generation"]
    owner.child.send(signal.SIGCONT)
    assert until(lambda: owner.token().get("role") == "following")
    assert until(lambda: owner.token().get("generation") == generation, 5)
    assert new.token()["role"] == "owner"
    assert fleet.judge() == {"late": [], "refused": [], "most": 1, "refreshes": 1}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_login_survives_all_three_being_stopped_and_a_store_that_forgot(fleet: Fleet) -> None:
    fleet.start()
    fleet.owner().refresh()
    generation = fleet.generation()
    for house in fleet.houses:
        assert house.child.stop() == 0
    fleet.redis.restart()  # it kept nothing
    for house in reversed(fleet.houses):
        house.start()
    owner = fleet.owner()
    assert until(lambda: fleet.owner().token().get("chain") == "healthy"), owner.token()
    fleet.owner().refresh()
    assert until(lambda: fleet.generation() == generation + 1)
    assert fleet.judge()["late"] == []
    assert fleet.judge()["refused"] == []


@pytest.mark.slow
def test_an_import_whose_proof_was_lost_is_finished_by_whoever_takes_over(tmp_path: Path, forking: Nursery) -> None:
    """Ordered at a follower, presented by the holder, which is killed before it can repeat the proof."""
    with housed(tmp_path / "fleet", forking) as fleet:
        fleet.start()
        owner, follower = fleet.owner(), fleet.follower()
        fleet.sandbox.fault("refresh_lost:1")
        follower.import_another()
        assert [each["presented"] for each in fleet.sandbox.chain(follower.second)] == [1, 0]
        assert {each.token()["generation"] for each in fleet.houses} == {1}
        owner.child.stop(signal.SIGKILL)
        fleet.other_owner(owner)
        assert until(lambda: fleet.generation() > 1), [each.token() for each in fleet.houses]
        owner.start()
        owner.wait_for()
        assert until(lambda: len({each.token().get("generation") for each in fleet.houses}) == 1)
        assert all(each.get("/api/v2/version").status == 200 for each in fleet.houses)
        fleet.owner().refresh()
        assert fleet.owner().token()["chain"] == "healthy"
        assert fleet.sandbox.chain(follower.second)[0]["presented"] == 2
        assert [each["presented"] for each in fleet.sandbox.chain(owner.first)] == [0]

"""kill -9 at every point of a refresh: between any two calls that change durable state or the wire. The sandbox's journal is the judge.

The points are found by running one refresh with nothing killed, so that a new call in the code is a new row here by itself. The provider
allows one replay of a token whose answer nobody can have used; a replay may be needed only in the one window that the protocol leaves open:
after the provider has rotated, and before the raw answer could be durable.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.journeys.conftest import until
from tests.journeys.crashing import NEVER
from tests.journeys.nursery import Nursery
from tests.journeys.proving import House, LiveSandbox

BESIDE = 4
"""Daemons at once: much of a life is waiting."""

SIX = ("sync record.json.new", "wait for the answer", "read what the provider answered", "rename reserve to answer.json",
       "rename pair.2.json.new to pair.2.json", "remove answer.json")  # fmt: skip
"""One point of each stage, for the short form: intent, wire, the window, answer, generation, the end."""

slow = pytest.mark.slow


@pytest.fixture(scope="module")
def sandbox() -> Iterator[LiveSandbox]:
    made = LiveSandbox(allow_replays=1)
    yield made
    made.close()


@dataclass(frozen=True)
class Life:
    """What one kill came to."""

    number: int
    point: str
    presented: int
    rotated_before: bool
    durable: bool
    seconds: float
    lost: str = ""


def crashed(number: int, folder: Path, sandbox: LiveSandbox, forking: Nursery) -> tuple[Life, list[str]]:
    """One daemon that dies at point `number` of its first refresh, and is started again."""
    house = House(folder, sandbox, forking)
    points = killed(house, number)
    return judged(house, number, points), points


def killed(house: House, number: int, order: Callable[[House], None] = House.refresh) -> list[str]:
    """A life with a pair that ends at point `number` of its refresh, or of what is ordered (NEVER: in order); the points that it passed."""
    house.move_in()
    plan, trace = house.folder / "plan", house.folder / "trace"
    child = house.start(plan=plan, trace=trace, state=house.state)
    house.wait_for()
    plan.write_text(str(number))
    order(house)
    assert child.wait(20) == -signal.SIGKILL if number != NEVER else child.stop() == 0, child.said
    return trace.read_text().splitlines()


def judged(house: House, number: int, points: list[str]) -> Life:
    """What the next life makes of what the last one left."""
    sandbox = house.sandbox
    before = sandbox.chain(house.first)
    durable = (house.state / "answer.json").exists() or (house.state / "pair.2.json").exists()
    began = time.monotonic()
    house.start()
    # a refresh of its own tells whether the pair that survived is one that the provider still takes
    good = until(lambda: house.token().get("chain") in ("healthy", "dead") and house.token())
    lost = ""
    if not good or good["chain"] != "healthy":
        lost = f"the chain is {good and good['chain']}: {good and good['reason']}"
    took = time.monotonic() - began
    if not lost:
        generation = house.token()["generation"]
        house.refresh()
        after = house.token()
        if after.get("chain") != "healthy" or after.get("generation", 0) <= generation:
            lost = f"the next refresh failed: {after}"
    house.child.stop(signal.SIGKILL)
    presented = max(each["presented"] for each in sandbox.chain(house.first))
    return Life(number, points[-1], presented, len(before) > 1, durable, took, lost)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("which", ["six", pytest.param("every", marks=slow)])
def test_the_pair_survives_a_kill_at(which: str, tmp_path: Path, sandbox: LiveSandbox, forking: Nursery) -> None:
    whole, points = crashed(NEVER, tmp_path / "whole", sandbox, forking)
    assert not whole.lost
    assert whole.presented == 1
    # what the table of docs/refresh.md stands on: reserve, record, wire, answer, generation, record
    for needed in ("sync reserve", "sync record.json.new", "connect to the provider", "wait for the answer",
                   "rename reserve to answer.json", "rename pair.2.json.new to pair.2.json", "remove answer.json"):  # fmt: skip
        assert needed in points, (needed, points)
    # a record says that the token may have left: so it is written when the connection stands
    assert points.index("connect to the provider") < points.index("create record.json.new")
    assert points.index("sync record.json.new") < points.index("send the request")

    every = range(1, len(points) + 1)
    chosen = [points.index(name) + 1 for name in SIX] if which == "six" else every
    with ThreadPoolExecutor(BESIDE) as lives:
        found = list(
            lives.map(
                lambda number: crashed(number, tmp_path / f"at-{number}", sandbox, forking)[0],
                chosen,
            )
        )
    window = told(found)
    print(f"{len(found)} points, pair lost 0 times, {len(window)} in the window that needs a replay")
    # a provider that answers at once may be read before anybody waits for it, or between two such waits: then one life dies at the other
    either = {"wait for the answer", "read what the provider answered"}
    assert {points[number - 1] for number in chosen} - {life.point for life in found} <= either
    assert window
    assert len(window) <= len(found) / 2


def waits_for_proof(house: House) -> bool:
    """Whether a second pair stands in the record."""
    file = house.state / "record.json"
    return file.exists() and json.loads(file.read_bytes())["content"]["candidate"] is not None


def imported(number: int, folder: Path, sandbox: LiveSandbox, forking: Nursery) -> tuple[Life, list[str]]:
    """One daemon that dies at point `number` of the proof of an imported pair, and is started again."""
    house = House(folder, sandbox, forking)
    points = killed(house, number, House.import_another)
    rotated = len(sandbox.chain(house.second)) > 1
    durable = (house.state / "answer.json").exists() or (house.state / "pair.2.json").exists()
    began = time.monotonic()
    house.start()
    house.wait_for()
    # where it may have been sent the proof is repeated within ten seconds, and until then the old pair is in use
    assert until(lambda: not waits_for_proof(house)), (points[-1], house.token())
    took = time.monotonic() - began
    house.refresh()
    after, old, new = house.token(), sandbox.chain(house.first), sandbox.chain(house.second)
    house.child.stop(signal.SIGKILL)
    lost = "" if after.get("chain") == "healthy" else f"the next refresh failed: {after}"
    used, left = (new, old) if len(new) > 1 else (old, new)
    if rotated and used is not new:
        lost = "the imported pair is lost"
    if not lost and (used[-1]["presented"], [each["presented"] for each in left]) != (0, [0]):
        lost = f"not the one that is left was renewed: {old} {new}"
    return Life(number, points[-1], max(each["presented"] for each in new), rotated, durable, took, lost), points


@pytest.mark.timeout(300)
@pytest.mark.parametrize("which", ["six", pytest.param("every", marks=slow)])
def test_an_import_costs_no_pair_by_a_kill_at(
    which: str, tmp_path: Path, sandbox: LiveSandbox, forking: Nursery
) -> None:
    """The pair in use goes on until the imported one is proved; from the moment when the provider has rotated that one, it takes its place."""
    whole, points = imported(NEVER, tmp_path / "whole", sandbox, forking)
    assert whole.rotated_before
    assert whole.presented == 1
    assert points.index("sync record.json.new") < points.index("send the request")
    every = range(1, len(points) + 1)
    chosen = [points.index(name) + 1 for name in SIX] if which == "six" else every
    with ThreadPoolExecutor(BESIDE) as lives:
        found = [
            life for life, _ in lives.map(lambda at: imported(at, tmp_path / f"at-{at}", sandbox, forking), chosen)
        ]
    window = told(found)
    print(f"{len(found)} points of an import, pair lost 0 times, {len(window)} in the window that needs a replay")
    assert window
    assert any(not life.rotated_before for life in found)


@slow
@pytest.mark.timeout(300)
def test_the_pair_survives_a_second_kill_at_every_point_of_the_recovery(
    tmp_path: Path, sandbox: LiveSandbox, forking: Nursery
) -> None:
    """The raw answer is durable and nothing else is: the next life commits it, and is killed while it does so."""
    scout = House(tmp_path / "scout", sandbox, forking)
    answered = killed(scout, NEVER).index("rename reserve to answer.json") + 2

    def recovering(number: int) -> tuple[Life, list[str]]:
        house = House(tmp_path / f"at-{number}", sandbox, forking)
        killed(house, answered)
        assert (house.state / "answer.json").exists()
        plan, trace = house.folder / "again", house.folder / "trace-again"
        plan.write_text(str(number))
        child = house.start(plan=plan, trace=trace, state=house.state)
        if number == NEVER:
            house.wait_for()
            assert child.stop() == 0
        else:
            assert child.wait(20) == -signal.SIGKILL, child.said
        points = trace.read_text().splitlines()
        return judged(house, number, points), points

    _, points = recovering(NEVER)
    at = next(place for place, name in enumerate(points) if name.startswith("create pair."))
    with ThreadPoolExecutor(BESIDE) as lives:
        found = [life for life, _ in lives.map(recovering, range(at + 1, len(points) + 1))]
    told(found)
    print(f"{len(found)} points of the recovery, pair lost 0 times")
    assert all(life.presented == 1 for life in found)


def told(found: list[Life]) -> list[Life]:
    """Prints what each kill came to and holds it against the promise; those in the window are given back."""
    for life in found:
        print(
            f"{life.number:3}  {life.point:45} provider {'rotated' if life.rotated_before else 'has not rotated':15} "
            f"answer {'durable' if life.durable else '-':8} {'replayed once' if life.presented == 2 else '':14} "
            f"healthy after {life.seconds:.1f} s  {life.lost}"
        )
    for life in found:
        window = life.rotated_before and not life.durable
        assert not life.lost, life
        assert life.presented <= (2 if window else 1), life
    return [life for life in found if life.rotated_before and not life.durable]

"""The pair's disk fails in every way that disks fail, under the real daemon: what is in memory serves on, is saved when it can be, nothing is overwritten.

As root with a small tmpfs of its own for a full and a read-only disk; skipped where that cannot be mounted.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.journeys.conftest import until
from tests.journeys.nursery import Nursery
from tests.journeys.proving import House, LiveSandbox

slow = pytest.mark.slow  # real processes that live and die: minutes, not seconds

TARGET = "/api/v2/account/subscription"
LIFETIME = 20.0
SANDBOX = {"lifetime": LIFETIME}
LAST_STAND = 5.0
"""Seconds before the end from which on a refresh that cannot be recorded is better than none."""
NOBODY = 65534


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    where = tmp_path / "disk"
    where.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(where)], capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("a tmpfs cannot be mounted here: not root, or not allowed")
    yield where
    subprocess.run(["umount", "-l", str(where)], check=True)


def serves(house: House) -> bool:
    return house.get(f"{TARGET}?turn={time.time_ns()}").status == 200


def lives_through(
    house: House,
    sandbox: LiveSandbox,
    breaks: Callable[[], None],
    mends: Callable[[], None],
    *,
    logs: bool = True,
) -> None:
    """A life on a disk that takes nothing: no refresh while there is runway to wait for, one at its end, in memory and loudly;
    then the disk heals, and the pair is saved without a command. No client sees an error. `logs`: whether the log can be written meanwhile."""
    lifetime = sandbox.lifetime
    child = house.live()
    issued = next(each["issued_at"] for each in sandbox.chain(house.first))
    breaks()
    waited = issued + lifetime - LAST_STAND - 0.5
    while time.time() < waited:
        assert serves(house)
        time.sleep(0.1)
    assert until(lambda: house.token().get("chain") == "retrying", 10)  # since 40 % of the life
    while time.time() < issued + lifetime + 0.2:  # what is in memory only is held back while the older one lives
        assert serves(house), house.token()
        time.sleep(0.1)
    assert until(lambda: house.token().get("chain") == "healthy")
    refreshed = [each["time"] for each in sandbox.refreshes()]
    assert len(refreshed) == 1
    assert refreshed[0] > waited, "a refresh whose answer could not be kept, while there was time to wait"
    token = house.token()
    assert token["chain"] == "healthy"
    assert token["saved"] is False
    assert "memory only" in token["remedy"]
    assert "memory only" in child.said or not logs, child.said
    mends()
    assert until(lambda: house.token().get("saved"))
    assert child.stop(signal.SIGKILL) == -signal.SIGKILL
    house.start()
    house.wait_for()
    assert serves(house)
    generation = house.token()["generation"]
    house.refresh()
    assert house.token()["generation"] > generation
    assert all(each["presented"] <= 1 for each in sandbox.chain(house.first))


@slow
@pytest.mark.timeout(180)
def test_a_full_disk(small_disk: Path, tmp_path: Path, sandbox: LiveSandbox, forking: Nursery) -> None:
    house = House(tmp_path / "house", sandbox, forking)
    house.state = small_disk / "state"
    house.configure()
    filler = small_disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 512)
            except OSError:
                pass

    lives_through(house, sandbox, fill, filler.unlink)


@slow
@pytest.mark.timeout(180)
def test_a_folder_that_becomes_read_only(
    small_disk: Path, tmp_path: Path, sandbox: LiveSandbox, forking: Nursery
) -> None:
    """A read-only disk laid over the folder: the real one cannot be remounted while the lock in it is open for writing."""
    house = House(tmp_path / "house", sandbox, forking)
    house.state = small_disk / "state"
    house.configure()

    def cover() -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,mode=0700", "tmpfs", str(house.state)], check=True)

    def uncover() -> None:
        subprocess.run(["umount", "-l", str(house.state)], check=True)

    lives_through(house, sandbox, cover, uncover)


@slow
@pytest.mark.timeout(180)
def test_a_process_that_may_write_nothing(tmp_path: Path, sandbox: LiveSandbox, forking: Nursery) -> None:
    """RLIMIT_FSIZE of a running process: every write fails, as on a full disk."""
    house = House(tmp_path / "house", sandbox, forking)

    def limit(most: int) -> None:
        resource.prlimit(house.child.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

    unlimited = resource.RLIM_INFINITY
    lives_through(house, sandbox, lambda: limit(0), lambda: limit(unlimited), logs=False)


# ---- what is found at the start ------------------------------------------------------------------------------------------


def newest(house: House) -> Path:
    return max(house.state.glob("pair.*.json"), key=lambda path: int(path.name.split(".")[1]))


def two_generations(folder: Path, sandbox: LiveSandbox, forking: Nursery) -> House:
    """A folder that holds two generations of one pair, and no daemon."""
    house = House(folder, sandbox, forking)
    child = house.live()
    house.refresh()
    assert house.token()["generation"] == 2
    assert child.stop() == 0
    return house


@pytest.mark.parametrize(
    "damage", ["truncated", pytest.param("garbage", marks=slow), pytest.param("empty", marks=slow)]
)
def test_a_damaged_newest_generation_is_named_kept_aside_and_never_overwritten(
    damage: str, tmp_path: Path, sandbox: LiveSandbox, forking: Nursery
) -> None:
    house = two_generations(tmp_path / "house", sandbox, forking)
    path = newest(house)
    whole = path.read_bytes()
    left = {"truncated": whole[: len(whole) // 2], "garbage": os.urandom(len(whole)), "empty": b""}[damage]
    path.write_bytes(left)
    child = house.start()
    assert until(house.is_up)
    asides = list(house.state.glob(f"{path.name}.damaged-*"))
    assert len(asides) == 1
    assert asides[0].read_bytes() == left
    assert path.name in child.said
    # the older generation's token is known to be spent, so nobody presents it
    time.sleep(1.5)
    assert all(each["presented"] <= 1 for each in sandbox.chain(house.first))
    assert house.token()["chain"] == "dead"


@slow
@pytest.mark.parametrize(("fault", "word"), [("mode", "chmod 600"), ("owner", "belongs to user id")])
def test_a_pair_that_others_can_read_or_own_is_refused_until_it_is_mended(
    fault: str, word: str, tmp_path: Path, sandbox: LiveSandbox, forking: Nursery
) -> None:
    if fault == "owner" and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    house = two_generations(tmp_path / "house", sandbox, forking)
    path = newest(house)
    before = path.read_bytes()
    if fault == "mode":
        path.chmod(0o644)
    else:
        os.chown(path, NOBODY, NOBODY)
    child = house.start()
    assert until(house.is_up)
    assert word in house.token()["reason"], house.token()
    assert path.name in child.said
    assert path.read_bytes() == before
    path.chmod(0o600)
    if fault == "owner":
        os.chown(path, 0, 0)
    # mended while it runs: taken up within the interval in which it looks
    house.wait_for(seconds=15)
    assert serves(house)

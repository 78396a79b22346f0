"""Two daemons on one state folder: one owns the pair, the other serves with its access token and takes over when the owner is gone."""

from __future__ import annotations

import random
import signal
import socket
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Stand, ask, until
from tests.journeys.nursery import Nursery
from tests.journeys.proving import House, LiveSandbox, Traffic, kills

TARGET = "/api/v2/content/health/json?lang=en&countries=ZA"


def presented_again(refreshes: Iterable[dict[str, Any]]) -> list[int]:
    """How often each refresh token was presented, where that was more than once."""
    presented = Counter(each["refresh_token"] for each in refreshes)
    return [count for count in presented.values() if count > 1]


@pytest.mark.slow
def test_the_second_daemon_follows_and_takes_over(stand: Stand) -> None:
    stand.start_sandbox("--lifetime", "60s")
    stand.start_daemon()
    other = stand.follower()
    other.start_daemon()
    stand.login()
    assert until(lambda: ask(other.admin_port, "/readyz").status == 200), other.daemon and other.daemon.said
    assert (stand.role, other.role) == ("owner", "following")
    assert other.get(TARGET).status == 200

    began = time.monotonic()
    refreshed = stand.run("token", "refresh", "--config", str(other.config))
    assert refreshed.returncode == 0, refreshed.stderr
    generation = stand.token["generation"]
    assert until(lambda: other.token["generation"] == generation)
    print(f"a refresh by command is in use in both {time.monotonic() - began:.2f} s after the command began")

    assert other.run("status").returncode == 0
    names = {path.name for path in Path(stand.settings["state"]["directory"]).glob("control*.sock")}
    assert names == {"control.sock", f"control-{other.daemon.pid}.sock"}

    stand.stop_daemon(signal.SIGKILL)
    began = time.monotonic()
    assert other.get(TARGET).status == 200
    assert until(lambda: other.role == "owner")
    took = time.monotonic() - began
    print(f"taken over {took * 1000:.0f} ms after the owner was killed")
    assert took < 2
    assert until(
        lambda: (
            {path.name for path in Path(stand.settings["state"]["directory"]).glob("control*.sock")} == {"control.sock"}
        ),
        10,
    )
    assert other.run("token", "refresh").returncode == 0
    assert other.token["generation"] == generation + 1

    stand.start_daemon(ready=True)  # and now it is the other way round
    assert (stand.role, other.role) == ("following", "owner")
    assert other.stop_daemon() == 0
    assert until(lambda: stand.role == "owner")
    assert stand.get(TARGET).status == 200
    assert stand.stop_daemon() == 0
    assert not list(Path(stand.settings["state"]["directory"]).glob("control*.sock"))


@pytest.mark.slow
def test_a_401_at_the_follower_is_one_refresh_at_the_owner(stand: Stand) -> None:
    stand.start_sandbox("--lifetime", "60s")
    stand.start_daemon()
    other = stand.follower()
    stand.login()
    other.start_daemon(ready=True)
    before = stand.token["generation"]
    stand.fault("origin_401:1")
    assert other.get(TARGET).status == 200
    assert stand.token["generation"] == before + 1
    assert other.token["generation"] == before + 1


@pytest.mark.slow
def test_a_login_at_the_follower_reaches_the_owner(stand: Stand) -> None:
    stand.start_sandbox("--lifetime", "60s")
    stand.start_daemon()
    other = stand.follower()
    other.configure(
        **{**other.settings, "oauth": {**other.settings["oauth"], "redirect_url": f"{other.admin}/oauth/callback"}}
    )
    other.start_daemon()
    begun = ask(other.admin_port, "/oauth/start", headers={"Sec-Fetch-Site": "none", **other.page_session()})
    assert begun.status in (302, 303), begun
    back = urllib.parse.urlsplit(other.approve(begun.headers["location"]))
    assert back.port == other.admin_port
    cookie = {"Cookie": begun.headers["set-cookie"].split(";")[0]}
    assert ask(other.admin_port, f"{back.path}?{back.query}", headers=cookie).status in (200, 302, 303)
    assert stand.get(TARGET).status == 200
    assert other.get(TARGET).status == 200
    assert (stand.role, other.role) == ("owner", "following")
    assert stand.token["generation"] == 1


def takeovers(times: int, lifetime: float, folder: Path, forking: Nursery, seed: int) -> None:
    """Kills the owner again and again under traffic, at any moment of a pair's life."""
    chance = random.Random(seed)
    sandbox = LiveSandbox(lifetime=lifetime, allow_replays=1)
    owner, follower = (House(folder / name, sandbox, forking) for name in ("one", "two"))
    follower.state = owner.state
    follower.configure()
    slowest = 0.0
    try:
        owner.move_in()
        owner.start()
        owner.wait_for()
        follower.start()
        follower.wait_for()
        with Traffic(owner, follower, clients=1, pause=0.005) as client:
            for _ in range(times):
                time.sleep(chance.uniform(0.0, 0.5 * lifetime))
                owner.child.stop(signal.SIGKILL)
                began = time.monotonic()
                assert until(lambda: follower.token().get("role") == "owner"), follower.child  # noqa: B023
                slowest = max(slowest, time.monotonic() - began)
                owner.start()
                assert until(lambda: owner.token().get("role") == "following"), owner.child  # noqa: B023
                owner, follower = follower, owner
        again = presented_again(sandbox.refreshes())
        print(
            f"{times} owners killed: slowest take-over {slowest * 1000:.0f} ms, longest time without an answer {client.longest_gap:.2f} s, "
            f"answers {dict(client.seen)}, {len(sandbox.refreshes())} refreshes, presented more than once: {again}"
        )
        assert set(client.seen) == {200}
        assert client.longest_gap < 5
        assert slowest < 5
        assert all(count == 2 for count in again)
        owner.wait_for()
        follower.wait_for()
    finally:
        for house in (owner, follower):
            if house.child is not None:
                house.child.stop(signal.SIGKILL)
        sandbox.close()


@pytest.mark.slow
def test_many_owners_killed(tmp_path: Path, forking: Nursery) -> None:
    takeovers(kills(12), 6.0, tmp_path, forking, seed=2)


@pytest.mark.slow
def test_a_stopped_owner_keeps_nobody_waiting(stand: Stand) -> None:
    """SIGSTOP: its sockets take every call, and answer none. Whoever asks is told within ten seconds, and all is well after SIGCONT: also
    the pair whose export is carried out only then, when nobody waits for it any more."""
    stand.start_sandbox("--lifetime", "1h")
    stand.start_daemon()
    other = stand.follower()
    stand.login()
    other.start_daemon(ready=True)
    assert until(lambda: other.token["generation"] == 1)
    stand.daemon.send(signal.SIGSTOP)
    try:
        stand.fault("origin_401")
        began = time.monotonic()
        assert other.get(TARGET).status == 401
        took = {"a 401": time.monotonic() - began}
        for command in ("status", "token status", "token refresh", "cache stats"):
            began = time.monotonic()
            done = stand.run(*command.split(), timeout=90)
            took[command] = time.monotonic() - began
            assert done.returncode == 69, (command, done)
            assert "did not answer within 10 s" in done.stderr, (command, done)
        print(", ".join(f"{name} {seconds:.1f} s" for name, seconds in took.items()))
        with socket.socket(socket.AF_UNIX) as export:  # a command that was in the midst of it, and gives up
            export.connect(str(Path(stand.settings["state"]["directory"]) / "control.sock"))
            export.sendall(b"GET /api/token/export HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert max(took.values()) < 20, took
    finally:
        stand.daemon.send(signal.SIGCONT)
    stand.fault()
    assert until(lambda: stand.token["generation"] > 1 and stand.token["chain"] == "healthy", 20)
    assert stand.run("token", "refresh").returncode == 0
    assert stand.token["chain"] == "healthy"
    assert until(lambda: other.token["generation"] == stand.token["generation"])
    assert other.get("/api/v2/version").status == 200

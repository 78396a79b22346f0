"""`server.workers`: several processes on one listener, with one pair and one cache between them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.journeys.conftest import Stand, ask, environment, everywhere, until

slow = pytest.mark.slow  # real processes that live and die: minutes, not seconds

WORKERS = 3
HEALTH = "/api/v2/content/health/json?lang=en&countries=ZA"


def workers(stand: Stand) -> list[int]:
    return list(stand.status()["workers"])


def begin(stand: Stand, *options: str, count: int = WORKERS, **sections: dict[str, Any]) -> None:
    server = {"listen": f"127.0.0.1:{stand.port}", "workers": count, **sections.pop("server", {})}
    stand.start_sandbox(*options)
    stand.configure(server=server, **sections)
    stand.start_daemon()
    stand.login()
    assert until(lambda: len(workers(stand)) == count)


def get(connection: Any, target: str) -> tuple[int, str]:
    connection.request("GET", target)
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.headers.get("cache-status", "")


def served_by(stand: Stand) -> dict[int, int]:
    """Connections to the proxy that each worker holds."""
    wanted = f":{stand.port:04X}"
    inodes = {
        line.split()[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if line.split()[1].endswith(wanted) and line.split()[3] == "01"
    }
    found: Counter[int] = Counter()
    for pid in workers(stand):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                link = os.readlink(f"/proc/{pid}/fd/{name}")
                found[pid] += link.startswith("socket:[") and link[8:-1] in inodes
    return dict(found)


@slow
def test_all_serve_with_one_pair_and_one_cache(stand: Stand) -> None:
    begin(stand, "--lifetime", "60s", log={"access": False})
    with everywhere(stand, WORKERS) as connections:
        until(lambda: sum(served_by(stand).values()) >= len(connections))
        spread = served_by(stand)
        print(f"{len(connections)} connections on {WORKERS} workers: {sorted(spread.values())}")
        assert all(spread.values()), spread
        # what one has stored all can serve, within a second
        assert get(connections[0], HEALTH)[0] == 200
        time.sleep(1)
        said = [get(each, HEALTH)[1] for each in connections]
        assert all(each.startswith("passoproxy; hit") for each in said), said
    asked = sum(each["path"].startswith("/api/v2/content/health") for each in stand.journal()["requests"])
    assert asked == 1


@slow
@pytest.mark.alone
def test_a_new_token_is_in_use_in_all_within_100_ms(stand: Stand) -> None:
    refreshes = 3
    begin(stand, "--lifetime", "60s", "--revoke-old", log={"access": False})
    slowest = 0.0

    async def measured() -> list[float]:
        took = []
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            control = aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(stand.folder / "state/control.sock")))
            async with control:
                for turn in range(refreshes):
                    if turn:
                        await asyncio.sleep(1.1)  # a refresh has to wait for its second
                    async with control.post("http://localhost/api/token/refresh") as answer:
                        assert answer.status == 200
                    answered = time.monotonic()
                    await asyncio.sleep(max(0.0, answered + 0.1 - time.monotonic()))

                    async def one(number: int, turn: int = turn) -> int:
                        async with session.get(f"{stand.proxy}{HEALTH}&turn={turn}&number={number}") as answer:
                            await answer.read()
                            return answer.status

                    statuses = await asyncio.gather(*(one(number) for number in range(WORKERS * 6)))
                    assert set(statuses) == {200}
                    took.append(time.monotonic() - answered)
        return took

    took = asyncio.run(measured())
    slowest = max(took)
    refused = [
        each for each in stand.journal()["requests"] if each["path"].startswith("/api/") and each["status"] == 401
    ]
    print(
        f"{len(took)} refreshes: {len(refused)} requests with an old token from 100 ms on; a round took {slowest:.2f} s"
    )
    late = Counter(each["query"].partition("turn=")[2].partition("&")[0] for each in refused)
    assert len(late) < refreshes, late  # a machine that others use may be late with a worker, but not each time


@slow
def test_a_worker_is_replaced_while_requests_go_on(stand: Stand) -> None:
    begin(stand, "--lifetime", "60s", log={"access": False})

    async def traffic() -> tuple[Counter[Any], float]:
        seen: Counter[Any] = Counter()
        longest = 0.0
        ending = asyncio.Event()

        async def client(number: int) -> None:
            nonlocal longest
            turn = 0
            while not ending.is_set():
                turn += 1
                began = time.monotonic()
                # a connection of its own for each: one that is open when its worker is killed breaks, whoever serves it
                async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
                    try:
                        async with session.get(f"{stand.proxy}{HEALTH}&client={number % 5}") as answer:
                            await answer.read()
                            seen[answer.status] += 1
                    except aiohttp.ClientError as fault:
                        seen[type(fault).__name__] += 1
                longest = max(longest, time.monotonic() - began)
                await asyncio.sleep(0.01)

        clients = [asyncio.create_task(client(number)) for number in range(10)]
        await asyncio.sleep(1)
        os.kill((await asyncio.to_thread(workers, stand))[1], signal.SIGKILL)
        await asyncio.sleep(2)
        ending.set()
        await asyncio.gather(*clients)
        return seen, longest

    seen, longest = asyncio.run(traffic())
    assert until(lambda: len(workers(stand)) == WORKERS)
    broken = sum(count for status, count in seen.items() if status != 200)
    print(f"a worker killed under traffic: {dict(seen)}; the longest wait was {longest:.2f} s")
    assert seen[200] > 30
    assert broken <= 10  # those whose connection the killed one had taken
    assert ask(stand.admin_port, "/readyz").status == 200
    assert stand.stop_daemon() == 0


@slow
def test_a_crash_loop_is_told_and_ends(stand: Stand) -> None:
    begin(stand, "--lifetime", "60s", log={"access": False})
    daemon = stand.daemon
    assert daemon is not None
    began = time.monotonic()

    def kill_all() -> bool:
        with contextlib.suppress(ValueError, KeyError):
            for pid in workers(stand):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return daemon.poll() is not None

    assert until(kill_all)
    assert daemon.poll() == 1, daemon.said[-2000:]
    last = daemon.said.strip().splitlines()[-1]
    print(f"ended {time.monotonic() - began:.1f} s after the first crash: {last}")
    assert "workers in a row ended as soon as they had started" in last
    assert "server.workers" in last
    assert "Traceback" not in daemon.said


@slow
def test_workers_go_with_their_supervisor(stand: Stand) -> None:
    begin(stand, "--lifetime", "60s")
    pids = workers(stand)
    began = time.monotonic()
    stand.stop_daemon(signal.SIGKILL)
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    print(f"all workers were gone {time.monotonic() - began:.2f} s after their supervisor was killed")
    stand.start_daemon(ready=True)
    assert stand.get(HEALTH).status == 200


@slow
def test_a_term_drains_all(stand: Stand) -> None:
    begin(stand, "--lifetime", "60s", "--latency", "3s")
    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(stand.get, f"{HEALTH}&n={number}") for number in range(4)]
        time.sleep(1)
        began = time.monotonic()
        assert stand.stop_daemon() == 0
        print(f"drained in {time.monotonic() - began:.2f} s")
        assert [each.result().status for each in answers] == [200] * 4
    assert stand.get(HEALTH).status == 0


@slow
def test_a_reload_reaches_all(stand: Stand) -> None:
    begin(stand, "--lifetime", "60s", log={"access": False})
    daemon = stand.daemon
    assert daemon is not None
    assert stand.get("/api/v2/version").status == 200
    stand.configure(
        server=stand.settings["server"], log={"access": False}, upstream={"deny_paths": ["/api/v2/version"]}
    )
    daemon.send(signal.SIGHUP)
    assert until(lambda: "was read again" in daemon.said)
    assert until(lambda: {stand.get("/api/v2/version").status for _ in range(24)} == {403})
    # a broken file changes nothing, and a worker that starts meanwhile takes what is in force
    good = stand.config.read_text()
    stand.config.write_text("server: [broken")
    daemon.send(signal.SIGHUP)
    assert until(lambda: "nothing changed" in daemon.said)
    before = workers(stand)
    os.kill(before[0], signal.SIGKILL)
    assert until(lambda: len(workers(stand)) == WORKERS and workers(stand) != before)
    assert {stand.get("/api/v2/version").status for _ in range(24)} == {403}
    stand.config.write_text(good)


@slow
def test_what_they_count_is_gathered(stand: Stand) -> None:
    begin(stand, "--lifetime", "60s", log={"access": True})
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda number: stand.get(f"{HEALTH}&n={number % 10}").status, range(100)))
    assert statuses == [200] * 100

    def counted() -> float:
        lines = ask(stand.admin_port, "/metrics").body.decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("passoproxy_requests_total{"))

    def stored(of: str) -> int:
        return {each["name"]: each["entries"] for each in stand.status()["routes"]}[of]  # type: ignore[no-any-return]

    assert until(lambda: counted() >= 100)
    assert counted() == 100
    assert until(lambda: stored("content-health") == 10), "counted anew every few seconds"
    shown = stand.status()
    assert shown["requests"]["total"] == 100
    assert len(shown["requests"]["recent"]) == 50
    assert shown["last_hour"]["requests"] == 100
    by_route = {each["route"]: each["requests"] for each in shown["last_hour"]["routes"]}
    assert by_route == {"content-health": 100}
    assert sum(each["requests"] for each in shown["most_used"]) == 100
    assert shown["origin"]["answers"] == sum(
        each["path"].startswith("/api/v2/content") for each in stand.journal()["requests"]
    )
    daemon = stand.daemon
    assert daemon is not None
    lines = [json.loads(line) for line in daemon.lines if '"event": "request"' in line]
    assert len(lines) == 100


@slow
@pytest.mark.parametrize("most", [2, 5])
def test_places_at_the_origin_are_those_of_all(tmp_path: Path, most: int) -> None:
    stand = Stand(tmp_path, environment(tmp_path))
    stand.configure()
    try:
        begin(
            stand, "--lifetime", "60s", "--latency", "50ms", log={"access": False}, upstream={"max_concurrency": most}
        )

        async def flood() -> Counter[int]:
            seen: Counter[int] = Counter()

            async def one(number: int) -> None:
                async with (
                    aiohttp.ClientSession() as session,
                    session.get(f"{stand.proxy}{HEALTH}&n={number}") as answer,
                ):
                    await answer.read()
                    seen[answer.status] += 1

            await asyncio.gather(*(one(number) for number in range(60)))
            return seen

        began = time.monotonic()
        seen = asyncio.run(flood())
        took = time.monotonic() - began
        print(
            f"60 requests of 50 ms by {WORKERS} workers with {most} places: {took:.2f} s, best possible {60 * 0.05 / most:.2f} s"
        )
        assert seen == {200: 60}
        assert took > 60 * 0.05 / most * 0.95  # never more at once than there are places
        assert took < 60 * 0.05 / most * 2 + 10
    finally:
        stand.end()

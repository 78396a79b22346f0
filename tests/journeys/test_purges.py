"""Purges with `server.workers` and `store.url`: in force in every process when they are answered, soft ones too, and for questions that were
asked before.
"""

from __future__ import annotations

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.journeys.conftest import Stand, everywhere, until
from tests.redis_server import RedisServer

WORKERS = 2
HEALTH = "/api/v2/content/health/json?lang=en&countries=ZA"
ROUTE = {"name": "plain", "match": "/api/v2/content/**", "ttl": "1h", "override": True}
"""Without any window for stale answers."""

Connections = list[http.client.HTTPConnection]


def begin(stand: Stand) -> None:
    stand.start_sandbox()
    stand.configure(
        server={"listen": f"127.0.0.1:{stand.port}", "workers": WORKERS}, routes=[ROUTE], log={"access": False}
    )
    stand.start_daemon()
    stand.login()
    assert until(lambda: len(stand.status()["workers"]) == WORKERS)


def told(connection: http.client.HTTPConnection, target: str) -> str:
    """Which of the origin's answers it gives: each has a `requestid` of its own."""
    connection.request("GET", target)
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body
    return str(json.loads(body)["requestid"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "rounds"),
    [
        (["--soft", "--all"], 5),
        (["--soft", "--prefix", "/api/v2/content"], 5),
        (["--url", HEALTH], 20),
    ],
)
def test_a_purge_is_in_force_in_all_workers_when_it_is_answered(stand: Stand, options: list[str], rounds: int) -> None:
    begin(stand)
    with everywhere(stand, WORKERS) as connections, ThreadPoolExecutor(len(connections)) as pool:
        for _ in range(rounds):
            until(lambda: len({told(each, HEALTH) for each in connections}) == 1)
            before = {told(each, HEALTH) for each in connections}
            done = stand.run("cache", "purge", *options)
            assert done.returncode == 0, done.stderr
            assert before.isdisjoint(pool.map(lambda each: told(each, HEALTH), connections))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["--soft", ""])
def test_nobody_is_given_an_answer_that_was_asked_for_before_a_purge(stand: Stand, how: str) -> None:
    begin(stand)
    stand.fault(f"origin_slow:{WORKERS}")
    with everywhere(stand, WORKERS) as connections, ThreadPoolExecutor(len(connections)) as pool:
        half = len(connections) // 2
        early = [pool.submit(told, each, HEALTH) for each in connections[:half]]
        assert until(lambda: any(each["path"].startswith("/api/v2/content") for each in stand.journal()["requests"]))
        assert stand.run("cache", "purge", "--all", *([how] if how else [])).returncode == 0
        late = [pool.submit(told, each, HEALTH) for each in connections[half:]]
        assert {each.result() for each in early}.isdisjoint({each.result() for each in late})


@pytest.mark.slow
def test_a_soft_purge_is_in_force_on_every_instance_when_it_is_answered(stand: Stand, tmp_path: Path) -> None:
    server, second = RedisServer(tmp_path), stand.beside()
    try:
        stand.start_sandbox()
        for each in (stand, second):
            each.configure(
                store={"url": server.url}, routes=[ROUTE], server={"listen": f"127.0.0.1:{each.port}", "workers": 2}
            )
            each.start_daemon()
            if each is stand:
                stand.login()
        assert until(lambda: second.get(HEALTH).status == 200)
        for here in (stand, second, stand):
            with everywhere(stand, WORKERS) as near, everywhere(second, WORKERS) as far:
                assert until(lambda: len({told(each, HEALTH) for each in [*near, *far]}) == 1)
                before = {told(each, HEALTH) for each in [*near, *far]}
                done = here.run("cache", "purge", "--soft", "--prefix", "/api/v2/content")
                assert done.returncode == 0, done.stderr
                assert before.isdisjoint({told(each, HEALTH) for each in [*near, *far]})
                # by so much the clocks of instances may differ: until then what is fetched is stale at once
                assert until(lambda: all("; hit" in each.get(HEALTH).cache_status for each in (stand, second)))
    finally:
        stand.end()
        server.stop()

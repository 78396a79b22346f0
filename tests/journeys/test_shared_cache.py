"""`store.url` with `server.workers`: all workers have one cache, an answered purge is in force in each, and a Redis that dies costs misses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.journeys.conftest import Stand, ask, until
from tests.redis_server import RedisServer

HEALTH = "/api/v2/content/health/json?lang=en&countries=ZA"
ROUNDS = 24


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path)
    yield made
    made.stop()


def seen(stand: Stand) -> Counter[str]:
    """What so many connections are told; the kernel spreads them over the workers."""
    answers = [ask(stand.port, HEALTH) for _ in range(ROUNDS)]
    assert {each.status for each in answers} == {200}
    return Counter("hit" if "; hit" in each.cache_status else "miss" for each in answers)


@pytest.mark.slow
def test_workers_share_a_cache_in_redis(stand: Stand, server: RedisServer) -> None:
    purges = 2
    stand.start_sandbox()
    stand.configure(server={"listen": f"127.0.0.1:{stand.port}", "workers": 3}, store={"url": server.url})
    stand.start_daemon()
    stand.login()
    assert until(lambda: len(stand.status()["workers"]) == 3)
    ask(stand.port, HEALTH)
    assert until(lambda: seen(stand)["miss"] == 0)
    for _ in range(purges):
        assert until(lambda: stand.run("cache", "purge", "--all").returncode == 0)  # a busy store may be late once
        assert 1 <= seen(stand)["miss"] <= 3  # none of them serves what was purged; each may have asked at once
        assert until(lambda: seen(stand)["miss"] == 0)
    asked = len([each for each in stand.journal()["requests"] if each["path"].startswith("/api/v2/content")])
    assert asked <= 3 * (purges + 1)  # at most one by each worker
    server.kill()
    assert until(lambda: seen(stand)["miss"] == 0)  # each worker's memory works on alone
    assert stand.run("cache", "purge", "--all").returncode == 1
    server.start()
    assert until(lambda: stand.run("cache", "purge", "--all").returncode == 0)
    assert stand.run("status").returncode in (0, 1)
    assert "Traceback" not in stand.daemon.said

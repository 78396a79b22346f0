"""A thousand clients at once before the real daemon: what they cost the origin, and how long they take beside the origin alone."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.journeys.conftest import Stand

CROWD = 1000
PLACES = 16
LATENCY = 0.05
PATH = "/api/v2/countries"


async def ask(port: int, target: str) -> tuple[int, bytes]:
    """One request on a connection of its own: status, and the whole of what came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer[9:12]), answer


async def crowd(port: int, target: str) -> tuple[float, list[tuple[int, bytes]]]:
    """All at once, and the seconds that they took."""
    began = time.monotonic()
    answers = await asyncio.gather(*(ask(port, target) for _ in range(CROWD)))
    return time.monotonic() - began, answers


def arrived(stand: Stand, target: str) -> int:
    path = target.partition("?")[0]
    return sum(each["path"].startswith(path) for each in stand.journal()["requests"])


@pytest.mark.slow
def test_a_thousand_at_once(stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    routes = [{"name": "never", "match": "/api/v2/languages", "ttl": 0}]
    stand.configure(
        upstream={"url": stand.origin, "max_concurrency": PLACES, "queue_timeout": "120s"},
        server={"listen": f"127.0.0.1:{stand.port}", "limits": {"connections": 1200}},
        routes=routes,
    )
    stand.start_sandbox("--latency", f"{LATENCY * 1000:.0f}ms")
    stand.start_daemon()
    stand.login()

    took, answers = asyncio.run(crowd(stand.port, PATH))
    assert {status for status, _ in answers} == {200}
    assert arrived(stand, PATH) == 1
    report = [f"{CROWD} equal misses: 1 origin request, {took:.2f} s"]

    bypassed, answers = asyncio.run(crowd(stand.port, "/api/v2/travel-details/none"))
    assert len({status for status, _ in answers}) == 1
    never, answers = asyncio.run(crowd(stand.port, "/api/v2/languages"))
    assert {status for status, _ in answers} == {200}
    assert arrived(stand, "/api/v2/languages") == CROWD
    alone = CROWD / PLACES * LATENCY
    report.append(
        f"{CROWD} of what may not be stored: {never:.2f} s; passed by the cache: {bypassed:.2f} s; the places alone: {alone:.2f} s"
    )
    with capsys.disabled():
        print("\n" + "\n".join(report))

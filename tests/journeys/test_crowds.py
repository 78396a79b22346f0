"""A thousand clients at once before the real daemon: what they cost the origin, and how long they take beside those that the cache has
no part in, who wait for places at the origin alone.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.journeys.conftest import Stand

CROWD = 1000
PLACES = 16
LATENCY = 0.05
PATH = "/api/v2/countries"
NEVER = "/api/v2/languages"
ROUNDS = 2
MOST = 1.5
"""Times that a crowd may take longer where the cache looks at each answer and may store none."""


async def ask(port: int, target: str, fields: str = "") -> tuple[int, bytes]:
    """One request on a connection of its own: status, and the whole of what came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n{fields}Connection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer[9:12]), answer


def crowd(port: int, target: str, fields: str = "") -> tuple[float, list[tuple[int, bytes]]]:
    """All at once, and the seconds that they took."""

    async def asking() -> list[tuple[int, bytes]]:
        return await asyncio.gather(*(ask(port, target, fields) for _ in range(CROWD)))

    began = time.monotonic()
    answers = asyncio.run(asking())
    return time.monotonic() - began, answers


def arrived(stand: Stand, target: str) -> int:
    path = target.partition("?")[0]
    return sum(each["path"].startswith(path) for each in stand.journal()["requests"])


@pytest.mark.slow
@pytest.mark.alone
def test_a_thousand_at_once(stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    stand.configure(
        upstream={"url": stand.origin, "max_concurrency": PLACES, "queue_timeout": "120s"},
        server={"listen": f"127.0.0.1:{stand.port}", "limits": {"connections": 1200}},
        routes=[{"name": "never", "match": NEVER, "ttl": 0}],
    )
    stand.begin("--latency", f"{LATENCY * 1000:.0f}ms")

    took, answers = crowd(stand.port, PATH)
    assert {status for status, _ in answers} == {200}
    assert arrived(stand, PATH) == 1

    with_cache, without = [], []
    # another key each time, of which nothing is known yet; in turns, as the machine is not always the same
    for number in range(ROUNDS):
        for seconds, fields, word in (
            (with_cache, "", b"fwd=uri-miss"),
            (without, "Cache-Control: no-store\r\n", b"fwd=request"),
        ):
            spent, answers = crowd(stand.port, f"{NEVER}?n={number}", fields)
            assert all(status == 200 and word in answer for status, answer in answers)
            seconds.append(spent)
    assert arrived(stand, NEVER) == 2 * ROUNDS * CROWD
    assert min(with_cache) <= MOST * min(without)
    with capsys.disabled():
        print(f"\n{CROWD} equal misses: 1 origin request, {took:.2f} s")
        print(
            f"{CROWD} of what may not be stored: {min(with_cache):.2f} s; past the cache: {min(without):.2f} s; "
            f"the places alone: {CROWD / PLACES * LATENCY:.2f} s"
        )

"""Thousands of connections that come and go leave nothing behind: cycles are collected although full collections are rare (decision 14)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.journeys.conftest import Stand

HEALTH = "/api/v2/content/health/json?lang=en&countries=ZA"
TOGETHER = 200
MOST_GROWTH = 12 * 1024
"""KiB that the daemon may be larger after all rounds than after the first ones; a connection with all that hangs on it takes about 40 KiB."""


async def connect_and_ask(port: int, number: int) -> None:
    """One connection: it asks, in part badly, waits a while, and goes in one of several ways."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    target = ("/api/v2/nowhere", HEALTH, f"{HEALTH}&n={number % 50}")[number % 3]
    writer.write(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    if number % 7:
        await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(number % 5 / 10)
    if number % 11 == 0:
        writer.write(b"not HTTP at all\r\n\r\n")
        await reader.read()
    if number % 4:
        writer.transport.abort()
    writer.close()


async def one_round(port: int, connections: int) -> None:
    for begin in range(0, connections, TOGETHER):
        await asyncio.gather(*(connect_and_ask(port, number) for number in range(begin, begin + TOGETHER)))


def resident(pid: int) -> int:
    """KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


@pytest.mark.slow
def test_connections_leave_nothing_behind(stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    connections = 600
    stand.configure(log={"access": False, "level": "error"})
    stand.begin()
    pid = stand.daemon.pid
    seen = []
    for _ in range(4):
        asyncio.run(one_round(stand.port, connections))
        seen.append(resident(pid))
    with capsys.disabled():
        print(f"\nresident after rounds of {connections} connections: {seen} KiB")
    assert seen[-1] - seen[1] < MOST_GROWTH

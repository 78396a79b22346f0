"""The wire is tried on uvloop, which the daemon runs on; what depends on the loop (sockets, TLS, flow control) on asyncio's own too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop}
    if item.path.name in ("test_connection.py", "test_dialing.py") or "tls" in item.name:
        factories["asyncio"] = asyncio.new_event_loop
    return factories

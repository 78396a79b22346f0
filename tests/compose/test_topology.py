"""What is divided among worker processes, and their reports taken together."""

from __future__ import annotations

from passoproxy.compose.topology import ALONE, PARENTS_MEMORY, Part, WorkerReport, all_memory, all_traffic
from passoproxy.ports import StoreStats


def test_parts() -> None:
    assert (ALONE.is_worker, ALONE.memory(64 << 20), ALONE.connections(32)) == (False, 64 << 20, 32)
    worker = Part(3)
    assert (worker.is_worker, worker.memory(66), worker.connections(32)) == (True, 22, 11)
    parent = Part(3, serves=False)
    assert (parent.is_worker, parent.memory(64 << 20), parent.memory(10)) == (False, PARENTS_MEMORY, 10)


def test_reports_of_all_workers() -> None:
    own = {"in_flight": 1, "waiting": 0, "cool_down_until": None, "connections": 2}
    memory = StoreStats(1, 10, 0, "memory")
    assert (all_traffic(own, ()), all_memory(memory, ())) == (own, memory)
    busy = {"in_flight": 2, "waiting": 3, "cool_down_until": 7.0, "connections": 4}
    reports = (
        WorkerReport(5, busy, StoreStats(2, 20, 1, "memory")),
        WorkerReport(1, {**busy, "cool_down_until": None}),
    )
    assert all_traffic(own, reports) == {"in_flight": 5, "waiting": 6, "cool_down_until": 7.0, "connections": 10}
    assert all_memory(memory, reports) == StoreStats(3, 30, 1, "memory")

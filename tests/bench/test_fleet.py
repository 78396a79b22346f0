"""The fleet on paper: its formulas agree with single requests, and say where Redis ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.fleet import Fleet, ends_at, expected, played, report

SMALL = Fleet(8, requests=2.0, keys=500, ttl=120.0, body=1000.0, memory=80 * 3600.0)


@pytest.mark.parametrize(
    "fleet", [SMALL, replace(SMALL, instances=1), replace(SMALL, memory=1e9)], ids=["small", "one", "large memory"]
)
def test_the_formulas_agree_with_single_requests(fleet: Fleet) -> None:
    memory, redis, fetches = played(fleet, 600.0, 1)
    formula = expected(fleet)
    assert memory == pytest.approx(formula.memory_hits, abs=0.12)
    assert memory + redis == pytest.approx(formula.memory_hits + formula.store_hits, abs=0.03)
    assert fetches == pytest.approx(formula.fetches, rel=0.1)


def test_the_same_seed_plays_the_same_requests() -> None:
    assert played(SMALL, 200.0, 7) == played(SMALL, 200.0, 7) != played(SMALL, 200.0, 8)


def test_more_instances_cost_the_origin_less_each_and_redis_more() -> None:
    few, many = expected(SMALL), expected(replace(SMALL, instances=80))
    assert few.fetches < many.fetches < 10 * few.fetches
    assert many.redis_busy > 5 * few.redis_busy
    assert few.memory_hits + few.store_hits < many.memory_hits + many.store_hits < 1
    assert (few.refreshes_a_day, few.redis_connections, few.places_used) == (60, 48, few.fetches / 10)


def test_redis_ends_where_it_is_busy() -> None:
    most = ends_at(SMALL)
    assert (
        expected(replace(SMALL, instances=most)).redis_busy
        >= 0.7
        > expected(replace(SMALL, instances=most * 9 // 10)).redis_busy
    )


def test_the_report_has_a_column_for_each_size() -> None:
    text = report((2, 4), replace(SMALL, keys=50))
    assert "| instances | 2 | 4 |" in text
    assert "2 instances for three lifetimes" in text

"""Soft purges: whom they mean, from when on, how many are kept, and what becomes of terms."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.cache.entry import Entry, Selector
from passoproxy.core.cache.expiry import Terms, cut
from passoproxy.core.cache.freshness import Lifetime
from passoproxy.core.cache.soft_purge import MOST_KEPT, SoftPurge, SoftPurges

NEVER = float("-inf")


def entry(at: float = 100.0, **changes: Any) -> Entry:
    given: dict[str, Any] = {"target": "/api/a?x=1", "route": "r", "tags": ("s", "t"), "partition": "p", **changes}
    return Entry(key="k", identifier="i", method="GET", status=200, request_time=at, **given)


@pytest.mark.parametrize(
    ("selector", "meant"),
    [
        (Selector(), True),
        (Selector(target="/api/a?x=1"), True),
        (Selector(target="/api/a"), False),
        (Selector(target="/api/a?x=1", key="k"), True),
        (Selector(target="/api/a?x=1", key="other"), False),
        (Selector(key="k"), True),
        (Selector(prefix="/api/*"), True),
        (Selector(prefix="/api/a"), True),
        (Selector(prefix="/b"), False),
        (Selector(prefix="*"), True),
        (Selector(route="r"), True),
        (Selector(route="q"), False),
        (Selector(tag="t"), True),
        (Selector(tag="u"), False),
        (Selector(partition="p"), True),
        (Selector(partition="q"), False),
        (Selector(tag="t", partition="q"), False),
    ],
)
def test_whom_a_soft_purge_means(selector: Selector, meant: bool) -> None:
    purges = SoftPurges([SoftPurge(selector, 100.0)])
    assert purges.ended(entry()) == (100.0 if meant else None)
    assert purges.ended(entry()) is None or selector.matches(entry())


def test_what_was_asked_for_later_is_not_meant() -> None:
    purges = SoftPurges([SoftPurge(Selector(tag="t"), 100.0)])
    assert purges.ended(entry(99.0)) == 100.0
    assert purges.ended(entry(100.5)) is None


def test_the_first_one_that_counts_ended_it() -> None:
    purges = SoftPurges(
        [SoftPurge(Selector(), 300.0), SoftPurge(Selector(tag="t"), 200.0), SoftPurge(Selector(), 50.0)]
    )
    assert purges.ended(entry(100.0)) == 200.0
    assert purges.ended(entry(250.0)) == 300.0
    assert [purge.at for purge in purges.kept] == [50.0, 200.0, 300.0]


def test_a_leeway_reaches_what_was_asked_for_a_little_later_and_ends_freshness_at_the_moment() -> None:
    purges = SoftPurges([SoftPurge(Selector(), 100.0, 2.0)])
    assert [purges.ended(entry(at)) for at in (99.0, 102.0, 102.5)] == [100.0, 100.0, None]
    many = SoftPurges([SoftPurge(Selector(), float(at), float(at)) for at in range(4)]).having(
        SoftPurge(Selector(), 9.0), 4
    )
    assert many.kept[0] == SoftPurge(Selector(), 1.0, 1.0)


def test_none_means_nobody() -> None:
    assert not SoftPurges()
    assert SoftPurges().ended(entry()) is None
    assert SoftPurges().having(SoftPurge(Selector(), 1.0))


def test_too_many_become_one_that_means_everything() -> None:
    purges = SoftPurges()
    for at in range(MOST_KEPT + 1):
        purges = purges.having(SoftPurge(Selector(target=f"/{at}"), float(at)))
    assert len(purges.kept) == MOST_KEPT // 2 + 2
    assert purges.kept[0] == SoftPurge(Selector(), MOST_KEPT / 2 - 1)
    assert purges.ended(entry(3.0, target="/3")) == MOST_KEPT / 2 - 1
    assert purges.ended(entry(MOST_KEPT - 0.5, target=f"/{MOST_KEPT}")) == float(MOST_KEPT)
    assert purges.ended(entry(MOST_KEPT - 0.5, target="/another")) is None


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 20)), max_size=60), st.integers(0, 20))
def test_nothing_that_was_purged_is_ever_forgotten(purged: list[tuple[str, int]], asked_at: int) -> None:
    purges = SoftPurges()
    for name, at in purged:
        purges = purges.having(SoftPurge(Selector(tag=name), float(at)), most=6)
    assert len(purges.kept) <= 6
    for name, at in purged:
        if asked_at <= at:
            assert purges.ended(entry(float(asked_at), tags=(name,))) is not None


TERMS = Terms(
    lifetime=Lifetime(100.0, "max-age"),
    born_at=0.0,
    not_before=-60.0,
    fresh_until=100.0,
    revalidate_until=110.0,
    error_until=200.0,
    unauthorized_until=NEVER,
    refresh_from=90.0,
)


def test_windows_count_from_the_end_of_freshness() -> None:
    found = cut(TERMS, 40.0)
    assert (found.fresh_until, found.revalidate_until, found.error_until) == (40.0, 50.0, 140.0)
    assert found.unauthorized_until == NEVER
    assert found.refresh_from == float("inf")
    assert not found.is_fresh(40.0)
    assert found.is_fresh(39.0)
    assert found.age(40.0) == 40.0


@pytest.mark.parametrize("ended_at", [None, 100.0, 150.0])
def test_what_was_stale_already_stays_as_it_was(ended_at: float | None) -> None:
    assert cut(TERMS, ended_at) is TERMS

"""Which 401s start a refresh (contract §4)."""

from __future__ import annotations

import pytest

from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.rejections import MOST_PATHS, Rejections

HOUR = 3600.0


def pair(generation: int, lifetime: float | None = HOUR) -> Pair:
    return Pair("a", "r", lifetime=lifetime, generation=generation)


def renewed_by_401(known: Rejections, path: str, generation: int, now: float) -> bool:
    """A 401 of `path` for the newest token, and whether it started a refresh, which then gave the next generation."""
    if not known.may_refresh(generation, path, pair(generation), now):
        return False
    known.began(generation, now)
    known.ended(pair(generation + 1))
    return True


def test_a_stubborn_path_waits_for_a_renewal_of_another_reason() -> None:
    known = Rejections()
    assert renewed_by_401(known, "/p", 1, 0.0)
    known.again(2, "/p")
    assert not renewed_by_401(known, "/p", 2, HOUR)
    assert renewed_by_401(known, "/p", 3, HOUR), "the timer has renewed it"


def test_another_path_s_401_is_no_other_reason() -> None:
    known = Rejections()
    assert renewed_by_401(known, "/p", 1, 0.0)
    known.again(2, "/p")
    assert renewed_by_401(known, "/q", 2, HOUR)
    known.again(3, "/q")
    assert not renewed_by_401(known, "/p", 3, 2 * HOUR)
    assert not renewed_by_401(known, "/q", 3, 2 * HOUR)


def test_a_path_whose_replay_was_answered_is_not_stubborn() -> None:
    known = Rejections()
    assert renewed_by_401(known, "/p", 1, 0.0)
    assert renewed_by_401(known, "/p", 2, HOUR), "revoked once more, perhaps"


def test_a_path_that_refuses_what_the_timer_brought_is_stubborn_at_once() -> None:
    known = Rejections()
    known.again(2, "/p")
    assert not renewed_by_401(known, "/p", 2, HOUR)


@pytest.mark.parametrize(("lifetime", "spacing"), [(HOUR, 300.0), (60.0, 5.0), (None, 300.0)])
def test_over_all_paths_one_in_a_twelfth_of_the_lifetime(lifetime: float | None, spacing: float) -> None:
    known = Rejections()
    known.began(1, 0.0)
    known.ended(pair(2, lifetime))
    assert not known.may_refresh(2, "/q", pair(2, lifetime), spacing - 0.1)
    assert known.may_refresh(2, "/q", pair(2, lifetime), spacing)


def test_a_generation_starts_one_attempt() -> None:
    known = Rejections()
    known.began(1, 0.0)
    known.ended(pair(1))  # it gave nothing
    assert not known.may_refresh(1, "/q", pair(1), HOUR)


def test_memory_is_bounded() -> None:
    known = Rejections()
    for number in range(MOST_PATHS + 1):
        known.again(1, f"/{number}")
    assert renewed_by_401(known, "/0", 1, 0.0), "the oldest is forgotten"
    assert not renewed_by_401(known, "/1", 2, HOUR)

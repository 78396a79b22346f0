"""What goes first, and that the chosen policy is never told of what it does not hold."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.eviction import SHARES, hit_ratio, simulate, sizes_of, zipf
from bench.eviction_candidates import LeastRecentlyUsed
from passoproxy.stores.entries.memory import S3Fifo


def filled(policy: S3Fifo, *keys: str) -> S3Fifo:
    for key in keys:
        policy.added(key)
    return policy


def evicted(policy: S3Fifo) -> str:
    victim = policy.victim()
    policy.removed(victim)
    return victim


def test_whoever_was_asked_for_on_trial_stays() -> None:
    policy = filled(S3Fifo(), *"abcdef")
    policy.used("a")
    assert [evicted(policy) for _ in range(4)] == ["b", "c", "d", "e"]
    assert {evicted(policy), evicted(policy)} == {"a", "f"}


def test_a_walk_pushes_nothing_out_that_is_wanted() -> None:
    policy = filled(S3Fifo(), *"abcdefgh")
    for key in "abcd":
        policy.used(key)
    walk = [f"walk {n}" for n in range(1000)]
    gone = []
    for key in walk:
        policy.added(key)
        gone.append(evicted(policy))
    assert not set("abcd") & set(gone)


def test_what_comes_back_soon_needs_no_trial() -> None:
    policy = filled(S3Fifo(), *"abcd")
    assert evicted(policy) == "a"
    filled(policy, "a", "x", "y", "z")
    assert [evicted(policy) for _ in range(3)] == ["b", "c", "d"]
    assert "a" not in (evicted(policy), evicted(policy))


def test_what_stays_has_a_second_chance_each_round() -> None:
    policy = filled(S3Fifo(), "a", "b", "c")
    for key in "ab":
        policy.used(key)
    assert evicted(policy) == "a"  # the last of a trial is not cut short: it has had none yet
    policy.used("b")
    filled(policy, "n")
    assert evicted(policy) == "c"
    assert [evicted(policy), evicted(policy)] == ["b", "n"]


def test_clearing_forgets_also_who_went() -> None:
    policy = filled(S3Fifo(), "a", "b")
    evicted(policy)
    policy.cleared()
    filled(policy, "a", "b", "c")
    assert [evicted(policy) for _ in range(3)] == ["a", "b", "c"]


@given(moves=st.lists(st.tuples(st.sampled_from(["come", "use", "go", "evict"]), st.integers(0, 12)), max_size=80))
def test_a_victim_is_always_one_that_is_held(moves: list[tuple[str, int]]) -> None:
    policy, held = S3Fifo(), set[str]()
    for what, n in moves:
        key = f"k{n}"
        match what:
            case "come" if key not in held:
                policy.added(key)
                held.add(key)
            case "use" if key in held:
                policy.used(key)
            case "go" if key in held:
                policy.removed(key)
                held.remove(key)
            case "evict" if held:
                victim = policy.victim()
                assert victim in held
                policy.removed(victim)
                held.remove(victim)
    while held:
        held.remove(evicted(policy))


def test_ghosts_are_bounded() -> None:
    policy = S3Fifo()
    for n in range(5000):
        policy.added(f"k{n}")
        if n >= 10:
            evicted(policy)
    assert len(policy._ghosts) < 50
    assert len(policy._asked) == 0


@pytest.mark.slow
def test_the_chosen_one_finds_more_than_lru_does() -> None:
    """The simulation of the decision record, in small: the same program, so a change for the worse shows."""
    for result in simulate(30_000, 3, SHARES[1:2], ("S3-FIFO", "LRU")):
        assert result.hits["S3-FIFO"] > result.hits["LRU"], result


def test_the_simulation_counts_hits_and_keeps_the_bound() -> None:
    trace = ["a", "b", "a", "c", "a", "a"]
    assert hit_ratio(trace, dict.fromkeys("abc", 1), 100, LeastRecentlyUsed()) == 0.5
    assert hit_ratio(trace, dict.fromkeys("abc", 50), 100, LeastRecentlyUsed()) == 0  # over an eighth
    assert zipf(2, 1.0) == [1.0, 1.5]
    assert sizes_of(trace, random.Random(1)) == sizes_of(trace, random.Random(1))

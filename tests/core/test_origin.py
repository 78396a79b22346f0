"""What answers, and their absence, say of the origin (contract §5). Each row is a story, told in its order, and what is so after it."""

from __future__ import annotations

import json

import pytest

from passoproxy.core.origin import (
    ASK_EVERY,
    MOST_PATHS,
    Answered,
    BudgetSpent,
    Failed,
    Health,
    QuotaTold,
    Refused,
    Told,
    document_of,
    told_of,
)

UNCONNECTED = Failed(None, "origin_unreachable", "refused")
OK, POOR = Answered("/ok"), Answered("/ok", is_well=False)


def silent(path: str = "/a") -> Failed:
    return Failed(path, "origin_timeout", f"nothing on {path}")


def after(*story: Told, at: float = 100.0) -> Health:
    health = Health()
    for told in story:
        health.hear(told, at)
    return health


@pytest.mark.parametrize(
    ("story", "away"),
    [
        ([UNCONNECTED] * 2, False),
        ([UNCONNECTED] * 3, True),
        ([UNCONNECTED, UNCONNECTED, OK, UNCONNECTED], False),
        ([UNCONNECTED, UNCONNECTED, POOR, UNCONNECTED], False),
        ([silent("/a"), silent("/a")], False),
        ([silent("/a"), silent("/b")], True),
        ([silent("/a"), silent("/a"), silent("/b")], True),
        ([silent("/a"), OK, silent("/b")], False),
        ([silent("/a"), UNCONNECTED, silent("/b")], True),
        ([silent("/a"), silent("/b"), OK], False),
        ([silent("/a"), silent("/b"), POOR], False),
        ([*[UNCONNECTED] * 3, OK], False),
    ],
)
def test_when_the_whole_origin_is_away(story: list[Told], away: bool) -> None:
    health = after(*story)
    assert (health.away("/any") is not None, bool(health.away_because)) == (away, away)
    assert health.goes_one_at_a_time == away


@pytest.mark.parametrize(
    ("story", "away"),
    [
        ([silent(), silent()], False),
        ([silent(), silent(), silent()], True),
        ([silent(), OK, silent(), OK, silent()], True),
        ([silent(), silent(), Answered("/a"), silent()], False),
        ([silent(), silent(), silent(), Answered("/a")], False),
        ([silent(), silent(), silent(), OK], True),
    ],
)
def test_when_a_path_alone_is_away(story: list[Told], away: bool) -> None:
    health = after(*story)
    assert (health.away("/a") is not None, list(health.away_paths)) == (away, ["/a"] if away else [])
    assert health.away("/ok") is None
    assert not health.goes_one_at_a_time


def test_the_last_failure_is_the_one_that_is_shared() -> None:
    health = after(*[UNCONNECTED] * 3, silent("/b"))
    assert health.away("/any") == silent("/b")


@pytest.mark.parametrize("story", [[UNCONNECTED] * 3, [silent()] * 3])
def test_it_is_asked_again_every_second(story: list[Told]) -> None:
    health = after(*story, at=100.0)
    assert health.due_in("/a", 100.0) == ASK_EVERY
    assert health.due_in("/a", 101.0) == 0
    health.asks("/a", 101.0)
    assert health.due_in("/a", 101.5) == 0.5
    health.hear(story[0], 110.0)
    assert health.due_in("/a", 110.0) == ASK_EVERY


def test_what_is_not_away_is_due() -> None:
    health = after(*[silent()] * 3)
    assert health.due_in("/ok", 100.0) <= 0
    assert after(UNCONNECTED, silent()).due_in("/a", 100.0) <= 0


def test_paths_are_bounded() -> None:
    health = Health()
    for number in range(MOST_PATHS + 1):
        for _ in range(3):
            health.hear(silent(f"/{number}"), float(number))
        health.hear(OK, float(number))
    assert len(health.away_paths) == MOST_PATHS
    assert health.away("/0") is None


def test_a_path_that_was_silent_once_restrains_nobody() -> None:
    health = after(silent(), OK)
    assert health.is_calm
    assert health.hear(silent(), 200.0) is not None
    assert health.hear(silent(), 300.0) is not None
    assert not health.is_calm


def test_what_lasts_for_days_is_told_in_a_few_words() -> None:
    health = Health()
    for number in range(5000):
        health.hear(silent(f"/{number % 2}"), float(number))
    assert len(list(health.story(5000.0))) <= 12


# ---- pauses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("story", "left", "one_at_a_time"),
    [
        ([], 0, False),
        ([Refused(30.0)], 30, True),
        ([Refused(0.0)], 0, True),
        ([Refused(None)], 1, True),
        ([Refused(None), Refused(None)], 2, True),
        ([Refused(None)] * 20, 60, True),
        ([Refused(30.0), Refused(5.0)], 30, True),
        ([Refused(30.0), OK], 30, False),
        ([Refused(30.0), POOR], 30, True),
        ([Refused(30.0), Answered("/ok", began=99.0)], 30, True),  # it was under way when the pause began
        ([Refused(None), Refused(None, began=99.0)], 1, True),  # the same refusal
        ([Refused(None), Refused(7.0, began=99.0)], 7, True),
        ([Refused(None), Refused(7.0, began=99.0), Refused(None)], 7, True),
        ([Refused(None), Refused(None), OK, Refused(None)], 2, True),
        ([Refused(30.0), UNCONNECTED], 30, True),
    ],
)
def test_pauses(story: list[Told], left: float, one_at_a_time: bool) -> None:
    health = after(*story, at=100.0)
    assert max(0.0, health.pause_left(100.0)) == left
    assert health.goes_one_at_a_time == one_at_a_time
    assert max(0.0, health.due_in("/ok", 100.0)) == left


def test_after_the_pause_it_reopens_one_at_a_time_until_one_was_well() -> None:
    health = after(Refused(30.0), at=100.0)
    assert health.due_in("/ok", 130.0) <= 0
    assert health.goes_one_at_a_time
    health.hear(Answered("/ok", is_well=False, began=131.0), 132.0)
    assert health.goes_one_at_a_time
    health.hear(Answered("/ok", began=133.0), 134.0)
    assert not health.goes_one_at_a_time
    assert health.is_calm


@pytest.mark.parametrize(
    ("story", "rests"),
    [
        ([QuotaTold(40.0)], 40),
        ([QuotaTold(40.0), QuotaTold(0.0)], 0),
        ([QuotaTold(40.0), OK], 40),
        ([QuotaTold(40.0), Refused(60.0)], 60),
        ([Refused(60.0), QuotaTold(0.0)], 60),
    ],
)
def test_background_work_rests(story: list[Told], rests: float) -> None:
    health = after(*story, at=100.0)
    assert max(0.0, health.background_rests(100.0)) == rests
    assert health.due_in("/ok", 100.0) <= 0 or any(isinstance(each, Refused) for each in story)


# ---- what several processes tell one another ---------------------------------------------------------------------------


def seen(health: Health, now: float) -> tuple[object, ...]:
    rests = health.pause_left(now), health.background_rests(now), health.budget_rests(now)
    pauses = [max(0.0, each) for each in rests]
    return health.away_because, health.away_paths, *pauses, health.goes_one_at_a_time, health.is_calm


STORIES: list[list[Told]] = [
    [OK],
    [BudgetSpent(50.0)],
    [BudgetSpent(50.0), BudgetSpent(0.0)],
    [UNCONNECTED],
    [UNCONNECTED] * 3,
    [*[UNCONNECTED] * 3, OK],
    [silent(), silent("/b")],
    [*[silent()] * 3, OK, *[silent("/b")] * 3, OK],
    [*[silent()] * 3, OK, silent("/b")],
    [Refused(30.0, began=99.0)],
    [Refused(None, began=99.0), Refused(None, began=99.5)],
    [Refused(30.0, began=99.0), Answered("/ok", began=99.5)],
    [Refused(30.0, began=99.0), Answered("/ok", began=131.0)],
    [QuotaTold(40.0), OK],
    [QuotaTold(40.0), QuotaTold(0.0)],
]


@pytest.mark.parametrize("story", STORIES)
def test_another_process_that_is_told_comes_to_the_same(story: list[Told]) -> None:
    here, there, late = Health(), Health(), Health()
    for told in story:
        others = here.hear(told, 100.0)
        if others is not None:
            there.hear(told_of(json.loads(json.dumps(document_of(others)))), 100.0)
    for told in here.story(100.0):
        late.hear(told_of(json.loads(json.dumps(document_of(told)))), 100.0)
    assert seen(there, 100.0) == seen(here, 100.0)
    assert seen(late, 100.0) == seen(here, 100.0) or not here.goes_one_at_a_time, (
        "what is only beginning need not be told"
    )


def test_what_changes_nothing_is_told_to_nobody() -> None:
    health = Health()
    assert health.hear(OK, 1.0) is None
    assert health.hear(QuotaTold(0.0), 1.0) is None
    assert after(Refused(30.0)).hear(Refused(None, began=99.0), 101.0) is None
    assert after(*[silent()] * 3).hear(OK, 101.0) is not None, "the run of silences is over"
    assert after(*[silent()] * 3, OK).hear(OK, 101.0) is None


def test_growing_pauses_grow_in_all_of_them() -> None:
    here, there = Health(), Health()
    for now in (100.0, 110.0, 120.0):
        here, there = there, here
        told = here.hear(Refused(None, began=now - 1), now)
        assert told is not None
        there.hear(told, now)
    assert there.pause_left(120.0) == 4

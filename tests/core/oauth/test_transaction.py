"""The record before a refresh, and the way out after a crash."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.transaction import (
    REMEMBERED,
    AnswerUnknown,
    Intent,
    NotCommitted,
    NotSent,
    begun,
    concerns,
    digest,
    lost,
    may_present,
    remembered,
    spent_since,
    taken_back,
    unrecorded,
    way_out,
)

PAIR = Pair("a", "def-1", generation=3)
INTENT = Intent(digest("def-1"), 3, 100.0)


def test_a_first_presentation_and_a_replay():
    first = begun(None, "def-1", 3, 100.0)
    assert first == INTENT
    replay = begun(lost(first), "def-1", 3, 200.0)
    assert replay == Intent(digest("def-1"), 3, 100.0, presented=2)
    assert begun(first, "def-2", 3, 300.0).presented == 1
    assert begun(first, "def-1", 4, 300.0).presented == 1


def test_an_attempt_that_told_nothing_bad_does_not_count():
    assert taken_back(INTENT) is None
    assert taken_back(begun(lost(INTENT), "def-1", 3, 200.0)) == lost(INTENT)


@pytest.mark.parametrize(
    ("policy", "presented", "now", "access_until", "may"),
    [
        ("never", 1, 101, 900, False),
        ("once", 1, 101, 900, True),
        ("once", 1, 901, 900, True),
        ("once", 2, 101, 900, False),
        ("always", 50, 899, 900, True),
        ("always", 50, 900, 900, False),
        ("always", 1, 900, 900, True),
        ("always", 50, 900, None, True),
        (60.0, 9, 159, 900, True),
        (60.0, 9, 160, 900, False),
    ],
)
def test_replays(policy, presented, now, access_until, may):
    intent = Intent("x", 1, 100.0, presented, lost=True)
    assert may_present(intent, policy, now, access_until) is may
    assert may_present(None, policy, now, access_until)


@pytest.mark.parametrize(
    ("pair", "intent", "follows", "way"),
    [
        (None, None, None, NotSent()),
        (PAIR, None, None, NotSent()),
        (PAIR, INTENT, None, AnswerUnknown(lost(INTENT))),
        (PAIR, INTENT, 3, NotCommitted()),
        (PAIR, None, 3, NotCommitted()),
        (None, None, 0, NotCommitted()),
        (PAIR, INTENT, 5, NotCommitted()),  # the generation that it follows was lost since
        (None, None, 5, NotCommitted()),
        (PAIR, None, 2, NotSent()),
        (PAIR, INTENT, 2, AnswerUnknown(lost(INTENT))),
        (Pair("a", "def-1", generation=4), INTENT, None, NotSent()),
        (Pair("a", "def-2", generation=3), INTENT, None, NotSent()),
        (Pair("a", None, generation=3), INTENT, None, NotSent()),
        (None, INTENT, None, NotSent()),
    ],
)
def test_way_out(pair, intent, follows, way):
    assert way_out(pair, intent, follows) == way
    assert concerns(intent, pair) is (intent is not None and pair == PAIR)


@pytest.mark.parametrize(
    ("intent", "pair", "spent"),
    [
        (None, PAIR, ""),
        (INTENT, None, ""),
        (INTENT, PAIR, ""),
        (INTENT, Pair("a", "def-2", generation=4), INTENT.token),
        (INTENT, Pair("a", None, generation=4), INTENT.token),
        (INTENT, Pair("a", "def-1", generation=4), ""),  # the answer brought no new one
    ],
)
def test_a_newer_generation_tells_the_fate_of_the_token_before(intent, pair, spent):
    assert spent_since(intent, pair) == spent


def test_spent_tokens_are_remembered_by_digest_and_bounded():
    spent: tuple[str, ...] = ()
    for number in range(REMEMBERED + 10):
        spent = remembered(spent, digest(f"def-{number}"))
    assert len(spent) == REMEMBERED
    assert remembered(spent, spent[0])[-1] == spent[0]
    assert len(remembered(spent, spent[0])) == REMEMBERED


@given(st.lists(st.sampled_from(["lost", "told", "replay"])), st.sampled_from(["never", "once"]))
def test_a_token_is_never_presented_more_often_than_the_setting_allows(outcomes, policy):
    """Whatever the outcomes, crashes included (a crash leaves the intent as it was written)."""
    intent, lost_answers = None, 0
    for outcome in outcomes:
        if not may_present(intent, policy, 0.0, None):
            break
        intent = begun(intent, "t", 1, 0.0)
        if outcome == "told":
            intent = taken_back(intent)
        else:
            lost_answers += 1
    assert lost_answers <= (1 if policy == "never" else 2)


def test_a_damaged_record_stands_for_one_lost_answer_where_there_is_a_token():
    assert unrecorded(None, 5.0) is None
    assert unrecorded(Pair("a", None, generation=2), 5.0) is None
    assert unrecorded(Pair("a", "r", generation=2), 5.0) == Intent(digest("r"), 2, 5.0, lost=True)

"""Which pair counts when an instance becomes the holder, as a table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.transaction import Candidate, Intent, digest
from passoproxy.ports import ChainRecord, RawAnswer
from passoproxy.stores.pair.settlement import Held, Memory, Stamp, merged, settle, stamp_of, stamped

SHARED = Memory(shared=True)


def pair(generation: int, refresh: str = "") -> Pair:
    return Pair(f"access-{generation}", refresh or f"def-{generation}", generation=generation)


def held(generation: int, **more: object) -> Held:
    return replace(Held(pair(generation), generation=generation), **more)  # type: ignore[arg-type]


def answer(follows: int) -> RawAnswer:
    return RawAnswer(b"{}", previous_generation=follows)


def bare(generation: int) -> Pair:
    return replace(pair(generation), refresh_token=None)


@pytest.mark.parametrize(
    ("here", "there", "memory", "counts", "outdated", "taken_in"),
    [
        # nothing anywhere
        (Held(), Held(), Memory(), None, False, False),
        # a folder from before there was a fleet seeds an empty store, and gives way to one that has a pair
        (held(5), Held(), Memory(), pair(5), False, False),
        (held(9), held(3), Memory(), pair(3), False, True),
        # both are of the fleet: the higher generation
        (held(4), held(6), SHARED, pair(6), False, True),
        (held(6), held(4), SHARED, pair(6), False, False),
        (held(6), Held(), SHARED, pair(6), False, False),
        (held(6), held(6), SHARED, pair(6), False, False),
        (Held(), held(6), SHARED, pair(6), False, True),
        # two generations of one number: the store's, which the others have
        (Held(pair(6, "def-other"), generation=6), held(6), SHARED, pair(6), False, True),
        # a newer one was heard of: what is left may serve and is never presented
        (held(4), Held(), replace(SHARED, seen=7), bare(4), True, False),
        (Held(), held(4), replace(SHARED, seen=7), bare(4), True, True),
        (held(5), held(4), replace(SHARED, seen=7), bare(5), True, False),
        (held(4), Held(None, generation=6), SHARED, bare(4), True, False),
        (held(6), Held(None, generation=6), SHARED, pair(6), False, False),
    ],
)
def test_what_counts(here, there, memory, counts, outdated, taken_in):
    now = settle(here, there, memory, 9.0)
    assert (now.pair, now.outdated, now.taken_in, now.forgotten) == (counts, outdated, taken_in, False)
    assert now.floor == max(memory.seen, there.generation, now.generation)


@pytest.mark.parametrize(
    ("here", "there", "memory", "kept"),
    [
        (held(4), held(4, answer=answer(4)), SHARED, 4),
        (held(4, answer=answer(4)), held(4), SHARED, 4),
        (held(4, answer=answer(4)), held(4), replace(SHARED, seen=5), 4),
        (held(4, answer=answer(4)), held(5), SHARED, None),
        (held(4, answer=answer(3)), held(4, answer=answer(2)), SHARED, None),
        (Held(pair(4, "def-other"), answer(4), generation=4), held(4), SHARED, None),
        (held(4, answer=answer(4)), Held(), replace(SHARED, seen=9), None),
        (Held(answer=answer(0)), Held(answer=answer(0)), Memory(), 0),
    ],
)
def test_which_answer_counts(here, there, memory, kept):
    now = settle(here, there, memory, 9.0)
    assert (None if now.answer is None else now.answer.previous_generation) == kept
    assert now.outdated == (memory.seen > (now.pair.generation if now.pair else 0) + (now.answer is not None))


def test_a_pair_that_was_forgotten_on_purpose_is_forgotten_by_all():
    now = settle(held(4), Held(generation=5, erased=True), SHARED, 9.0)
    assert (now.pair, now.forgotten, now.floor, now.outdated) == (None, True, 5, False)
    newer = settle(held(6), Held(generation=5, erased=True), SHARED, 9.0)
    assert (newer.pair, newer.forgotten) == (pair(6), False)


LOST = Intent(digest("def-4"), 4, 9.0, lost=True)
DOUBT = ChainRecord("unknown", "torn", intent=LOST)
KNOWN = ChainRecord("healthy", spent=("a",))


@pytest.mark.parametrize(
    ("here", "there", "record"),
    [
        (held(4, record=KNOWN), held(4, record=KNOWN), KNOWN),
        # what the store knows is whole without the folder, and not the other way round: others may have presented since
        (held(4, unrecorded="torn"), held(4, record=KNOWN), KNOWN),
        (held(4, record=KNOWN), held(4, unrecorded="torn"), replace(DOUBT, spent=("a",))),
        (held(4, record=KNOWN), Held(), KNOWN),
        (held(4, unrecorded="torn"), Held(), DOUBT),
        (held(4, unrecorded="torn"), held(4, unrecorded="torn"), DOUBT),
        (Held(unrecorded="torn"), Held(), ChainRecord()),
        # the first pair of all, whose record a crash has cut off: one is written now, and it does speak of the pair
        (held(1), Held(), ChainRecord("healthy")),
        (Held(), held(1), ChainRecord("healthy")),
    ],
)
def test_a_damaged_record_is_one_lost_answer(here, there, record):
    assert settle(here, there, SHARED, 9.0).record == record


def test_how_far_a_place_reaches():
    assert [Held().reach, held(4).reach, held(4, answer=answer(4)).reach, held(4, answer=answer(2)).reach] == [
        0,
        4,
        5,
        4,
    ]


# ---- records ---------------------------------------------------------------------------------------------------------


def test_the_younger_record_counts_and_no_spent_token_is_forgotten():
    old = stamped(ChainRecord("dead", "old", ("a", "b"), asked_at=9.0), Stamp(3, 7))
    new = stamped(ChainRecord("healthy", "", ("b", "c"), asked_at=5.0), Stamp(4, 1))
    for here, there in ((old, new), (new, old)):
        both = merged(here, there)
        assert (both.state, both.spent, both.asked_at, stamp_of(both)) == ("healthy", ("a", "b", "c"), 9.0, Stamp(4, 1))


@pytest.mark.parametrize(
    ("older", "younger", "presented"),
    [
        (Intent("t", 1, 1.0, 2), Intent("t", 1, 1.0, 1), 2),
        (Intent("t", 1, 1.0, 1), Intent("t", 1, 1.0, 2), 2),
        (Intent("t", 1, 1.0, 2), Intent("u", 2, 1.0, 1), 1),
        (Intent("t", 1, 1.0, 3), Intent("t", 1, 1.0, 1, lost=True), 1),
        (None, Intent("t", 1, 1.0, 1), 1),
        (Intent("t", 1, 1.0, 1), None, None),
    ],
)
def test_presentations_are_counted_across_records(older, younger, presented):
    here, there = stamped(ChainRecord(intent=older), Stamp(1, 1)), stamped(ChainRecord(intent=younger), Stamp(1, 2))
    found = merged(here, there).intent
    assert (None if found is None else found.presented) == presented
    imported = Pair("imported", "r", generation=9)
    both = [replace(each, candidate=each.intent and Candidate(imported, each.intent)) for each in (here, there)]
    candidate = merged(*both).candidate
    assert (None if candidate is None else candidate.intent.presented) == presented


def test_a_stamp_that_is_none_is_the_oldest():
    assert stamp_of(ChainRecord()) == stamp_of(ChainRecord(extra=(("stamp", "x.1"),))) == Stamp()
    assert stamped(ChainRecord(extra=(("seed", "s"), ("stamp", "1.1"))), Stamp(2, 3)).extra == (
        ("seed", "s"),
        ("stamp", "2.3"),
    )

"""What the record remembers beside the chain."""

from __future__ import annotations

from passoproxy.core.oauth import notes
from passoproxy.core.oauth.notes import HandOver

OTHER = (("later", "x"),)


def test_a_hand_over_and_its_return():
    assert notes.hand_over(OTHER) is None
    given = notes.handed_over(OTHER, "abc", 12.5)
    assert notes.hand_over(given) == HandOver("abc", 12.5)
    back = notes.taken_back(given)
    assert notes.hand_over(back) == HandOver("abc", 12.5, is_back=True)
    assert notes.hand_over(notes.handed_over(back, "def", 13.0)) == HandOver("def", 13.0)
    assert notes.not_handed_over(back) == notes.not_handed_over(given) == OTHER
    assert notes.taken_back(OTHER) == OTHER


def test_a_hand_over_whose_moment_cannot_be_read_still_counts():
    assert notes.hand_over((("handed_over", "abc"),)) == HandOver("abc", 0.0)


def test_seeds_are_remembered_once_each_and_the_oldest_go():
    given = OTHER
    for number in (*range(60), 59):
        given = notes.seeded(given, str(number))
    assert notes.seeds(given) == tuple(map(str, range(10, 60)))
    assert notes.seeds(notes.seeded(given, "10"))[-1] == "10"
    assert OTHER[0] in given


def test_only_seeds_outlive_the_pair():
    given = notes.seeded(notes.refused(notes.handed_over(OTHER, "abc", 1.0), "abc"), "seed")
    assert notes.lasting(given) == (("seed", "seed"),)


def test_a_refusal_is_of_one_token():
    given = notes.refused(notes.refused(OTHER, "abc"), "def")
    assert (notes.was_refused(given, "abc"), notes.was_refused(given, "def")) == (False, True)


def test_what_new_pairs_are_numbered_above():
    assert [notes.floor(given) for given in (OTHER, (("generation", "x"),), (("generation", "7"),))] == [0, 0, 7]
    assert notes.floored(notes.floored(OTHER, 3), 9) == (*OTHER, ("generation", "9"))

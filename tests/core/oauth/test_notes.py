"""What the record remembers beside the chain."""

from __future__ import annotations

from passoproxy.core.oauth import transaction
from passoproxy.core.oauth.transaction import HandOver

OTHER = (("later", "x"),)


def test_a_hand_over_and_its_return():
    assert transaction.hand_over(OTHER) is None
    given = transaction.handed_over(OTHER, "abc", 12.5)
    assert transaction.hand_over(given) == HandOver("abc", 12.5)
    back = transaction.pair_taken_back(given)
    assert transaction.hand_over(back) == HandOver("abc", 12.5, is_back=True)
    assert transaction.hand_over(transaction.handed_over(back, "def", 13.0)) == HandOver("def", 13.0)
    assert transaction.not_handed_over(back) == transaction.not_handed_over(given) == OTHER
    assert transaction.pair_taken_back(OTHER) == OTHER


def test_a_hand_over_whose_moment_cannot_be_read_still_counts():
    assert transaction.hand_over((("handed_over", "abc"),)) == HandOver("abc", 0.0)


def test_seeds_are_remembered_once_each_and_the_oldest_go():
    given = OTHER
    for number in (*range(60), 59):
        given = transaction.seeded(given, str(number))
    assert transaction.seeds(given) == tuple(map(str, range(10, 60)))
    assert transaction.seeds(transaction.seeded(given, "10"))[-1] == "10"
    assert OTHER[0] in given


def test_only_seeds_outlive_the_pair():
    given = transaction.seeded(transaction.refused(transaction.handed_over(OTHER, "abc", 1.0), "abc"), "seed")
    assert transaction.lasting(given) == (("seed", "seed"),)


def test_a_refusal_is_of_one_token():
    given = transaction.refused(transaction.refused(OTHER, "abc"), "def")
    assert (transaction.was_refused(given, "abc"), transaction.was_refused(given, "def")) == (False, True)


def test_what_new_pairs_are_numbered_above():
    assert [transaction.floor(given) for given in (OTHER, (("generation", "x"),), (("generation", "7"),))] == [0, 0, 7]
    assert transaction.floored(transaction.floored(OTHER, 3), 9) == (*OTHER, ("generation", "9"))

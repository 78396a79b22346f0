"""The two machines: every happening in every state."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.oauth.chain import CHAIN, Access, Chain, Happening, Standing, arrival, has_ended, moved
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.settings import Terms

A, C, H = Access, Chain, Happening


@pytest.mark.parametrize(
    ("state", "happening", "after"),
    [
        (C.NONE, H.OBTAINED, C.HEALTHY), (C.DEAD, H.OBTAINED, C.HEALTHY), (C.UNKNOWN, H.OBTAINED, C.HEALTHY), (C.RETRYING, H.OBTAINED, C.HEALTHY),
        (C.HEALTHY, H.OBTAINED_BARE, C.NONE), (C.HEALTHY, H.OBTAINED_SPENT, C.DEAD),
        (C.HEALTHY, H.FAILED, C.RETRYING), (C.RETRYING, H.FAILED, C.RETRYING), (C.UNKNOWN, H.FAILED, C.UNKNOWN), (C.DEAD, H.FAILED, C.DEAD),
        (C.HEALTHY, H.LOST, C.UNKNOWN), (C.RETRYING, H.LOST, C.UNKNOWN), (C.UNKNOWN, H.LOST, C.UNKNOWN), (C.DEAD, H.LOST, C.DEAD),
        (C.HEALTHY, H.REFUSED, C.DEAD), (C.RETRYING, H.REFUSED, C.DEAD), (C.UNKNOWN, H.REFUSED, C.DEAD), (C.DEAD, H.REFUSED, C.DEAD),
        (C.UNKNOWN, H.GIVEN_UP, C.DEAD), (C.HEALTHY, H.ENDED, C.HEALTHY), (C.UNKNOWN, H.ENDED, C.UNKNOWN), (C.DEAD, H.ENDED, C.DEAD),
        (C.DEAD, H.FORGOTTEN, C.NONE), (C.UNKNOWN, H.FORGOTTEN, C.NONE), (C.NONE, H.FAILED, C.RETRYING),
        (C.HEALTHY, H.HANDED_OVER, C.UNKNOWN), (C.RETRYING, H.HANDED_OVER, C.UNKNOWN), (C.DEAD, H.HANDED_OVER, C.DEAD),
        (C.UNKNOWN, H.HANDED_OVER, C.UNKNOWN),
    ],
)  # fmt: skip
def test_chain(state, happening, after):
    assert moved(Standing(A.VALID, state), happening).chain is after


@pytest.mark.parametrize(
    ("state", "happening", "after"),
    [
        (A.NONE, H.OBTAINED, A.VALID),
        (A.EXPIRED, H.OBTAINED_BARE, A.VALID),
        (A.VALID, H.OBTAINED_SPENT, A.VALID),
        (A.VALID, H.ENDED, A.EXPIRED),
        (A.EXPIRED, H.ENDED, A.EXPIRED),
        (A.NONE, H.ENDED, A.NONE),
        (A.VALID, H.FORGOTTEN, A.NONE),
    ],
)
def test_access(state, happening, after):
    assert moved(Standing(state, C.HEALTHY), happening).access is after


@pytest.mark.parametrize(
    ("state", "happening"),
    [
        (C.NONE, H.LOST),
        (C.NONE, H.REFUSED),
        (C.NONE, H.HANDED_OVER),
        (C.NONE, H.GIVEN_UP),
        (C.HEALTHY, H.GIVEN_UP),
        (C.DEAD, H.GIVEN_UP),
        (C.RETRYING, H.GIVEN_UP),
    ],
)
def test_what_cannot_happen(state, happening):
    with pytest.raises(ValueError, match="cannot happen"):
        moved(Standing(A.VALID, state), happening)
    assert (state, happening) not in CHAIN


def test_a_failed_refresh_never_takes_a_valid_access_token_away():
    for chain, happening in itertools.product(C, (H.FAILED, H.LOST, H.REFUSED)):
        if (chain, happening) in CHAIN:
            assert moved(Standing(A.VALID, chain), happening).access is A.VALID


@given(st.lists(st.sampled_from(list(H))))
def test_dead_is_left_by_a_new_pair_or_by_forgetting_only(happenings):
    standing = Standing(A.VALID, C.DEAD)
    for happening in happenings:
        if (standing.chain, happening) not in CHAIN:
            continue
        before, standing = standing, moved(standing, happening)
        if before.chain is C.DEAD and standing.chain is not C.DEAD:
            assert happening in {H.OBTAINED, H.OBTAINED_BARE, H.FORGOTTEN}


def test_several_happenings_are_one_move():
    assert moved(Standing(), H.OBTAINED, H.LOST, H.ENDED, H.GIVEN_UP) == Standing(A.EXPIRED, C.DEAD)


def test_arrival():
    whole, bare = Pair("a", "r"), Pair("a")
    assert arrival(whole, False, Terms()) is H.OBTAINED
    assert arrival(whole, True, Terms()) is H.OBTAINED_SPENT
    assert arrival(bare, False, Terms()) is H.OBTAINED_BARE
    assert arrival(bare, False, Terms(grant="client_credentials")) is H.OBTAINED


def test_has_ended():
    assert has_ended(Pair("a", access_until=5), 5)
    assert not has_ended(Pair("a", access_until=5), 4.9)
    assert not has_ended(Pair("a"), 1e12)

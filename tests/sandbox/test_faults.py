"""Faults: reading them, and how often they strike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.sandbox.faults import FAULTS, FaultSet, parse_fault
from passoproxy.sandbox.journal import Entry

CONTRACT = {
    "refresh_lost",
    "refresh_5xx",
    "refresh_429",
    "refresh_garbage",
    "refresh_slow",
    "refresh_redirect",
    "no_expires_in",
    "expires_in_string",
    "no_new_refresh_token",
    "origin_5xx",
    "origin_429",
    "origin_401",
    "origin_slow",
    "origin_reset_midbody",
    "origin_truncated",
    "revoked",
}


def test_every_fault_of_the_contract_is_known() -> None:
    assert set(FAULTS) == CONTRACT


def entry() -> Entry:
    return Entry(0, 0.0, "GET", "/", "", "/", {})


def test_a_name_alone_strikes_until_switched_off_and_is_noted() -> None:
    faults, struck = FaultSet(["revoked"]), entry()
    assert [faults.strikes("revoked", struck) for _ in range(5)] == [True] * 5
    assert struck.fault == ",".join(["revoked"] * 5)
    faults.arm([])
    assert not faults.strikes("revoked", entry())


@given(st.integers(1, 20), st.integers(0, 30))
def test_a_number_bounds_how_often(count: int, asked: int) -> None:
    faults = FaultSet([f"origin_5xx:{count}"])
    assert sum(faults.strikes("origin_5xx", entry()) for _ in range(asked)) == min(count, asked)
    (fault,) = faults.armed()
    assert (fault.struck, fault.left) == (min(count, asked), count - min(count, asked))


@pytest.mark.parametrize("text", ["revoked:", "revoked:0", "revoked:-1", "revoked:x", "revoked:1:2", "revoked:²"])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="whole number from 1"):
        parse_fault(text)


def test_an_unknown_name_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="'origin_5x'; did you mean 'origin_5xx'"):
        parse_fault("origin_5x:3")
    with pytest.raises(ValueError, match="'zzz'; known are refresh_lost"):
        parse_fault("zzz")


def test_a_set_that_cannot_be_read_changes_nothing() -> None:
    faults = FaultSet(["revoked"])
    with pytest.raises(ValueError, match="nonsense"):
        faults.arm(["origin_429", "nonsense"])
    assert [fault.name for fault in faults.armed()] == ["revoked"]
    assert not faults.strikes("origin_429", entry())

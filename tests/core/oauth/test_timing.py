"""When, how long, how often: runway, refresh moment, pauses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from passoproxy.core.oauth.chain import Access, Chain, Standing
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.schedule import (
    is_last_stand,
    is_worth_filling,
    patience,
    pause,
    refresh_moment,
    rooted,
    runway,
    shorter_lifetime,
    time_left,
)
from passoproxy.core.oauth.settings import Terms

NOW = 1_000_000.0
TERMS = Terms()


def pair(access: float | None = 3600, refresh: float | None = 3600, token: str | None = "r") -> Pair:
    return Pair("a", token, NOW, None if access is None else NOW + access, None if refresh is None else NOW + refresh)


@pytest.mark.parametrize(
    ("access", "refresh", "shorter"),
    [(3600, 60, 60), (60, 3600, 60), (60, None, 60), (None, 60, 60), (None, None, None)],
)
def test_shorter_lifetime(access, refresh, shorter):
    assert shorter_lifetime(pair(access, refresh)) == shorter


@pytest.mark.parametrize(
    ("of", "chance", "delay"),
    [
        (pair(), 0.5, 1440),
        (pair(), 0, 1440 * 0.98),
        (pair(), 1, 1440 * 1.02),
        (pair(3600, 600), 0.5, 240),
        (pair(None, None), 0.5, 3600),
    ],
)
def test_refresh_moment(of, chance, delay):
    assert refresh_moment(of, TERMS, chance) == pytest.approx(NOW + delay)


def test_refresh_moment_without_a_refresh_token():
    assert refresh_moment(pair(token=None), TERMS, 0.5) is None
    assert refresh_moment(pair(3600, None, None), Terms(grant="client_credentials"), 0.5) == NOW + 1440


@given(st.floats(1, 1e9), st.floats(0.01, 0.99), st.floats(0, 1))
def test_jitter_stays_within_two_percent(lifetime, share, chance):
    delay = refresh_moment(pair(lifetime, lifetime), Terms(refresh_at=share), chance) - NOW
    assert 0.98 * share * lifetime - 1e-3 <= delay <= 1.02 * share * lifetime + 1e-3


@pytest.mark.parametrize(
    ("standing", "of", "expected"),
    [
        (Standing(Access.VALID, Chain.HEALTHY), pair(60, 3600), 3600),
        (Standing(Access.EXPIRED, Chain.RETRYING), pair(-60, 3600), 3600),
        (Standing(Access.VALID, Chain.RETRYING), pair(3600, -5), 0),
        (Standing(Access.VALID, Chain.HEALTHY), pair(3600, None), None),
        (Standing(Access.VALID, Chain.UNKNOWN), pair(600, 3600), 600),
        (Standing(Access.VALID, Chain.UNKNOWN), pair(None, None), None),
        (Standing(Access.EXPIRED, Chain.UNKNOWN), pair(None, None), 0),
        (Standing(Access.VALID, Chain.DEAD), pair(), 0),
        (Standing(Access.VALID, Chain.NONE), pair(600, None, None), 600),
        (Standing(Access.NONE, Chain.NONE), None, 0),
    ],
)
def test_runway(standing, of, expected):
    assert runway(of, standing, TERMS, NOW) == expected
    assert runway(of, standing, Terms(grant="client_credentials"), NOW) is None


@given(
    st.none() | st.floats(-1e9, 1e9),
    st.none() | st.floats(-1e9, 1e9),
    st.sampled_from(list(Chain)),
    st.sampled_from(list(Access)),
)
def test_runway_is_never_negative(access, refresh, chain, access_state):
    found = runway(pair(access, refresh), Standing(access_state, chain), TERMS, NOW)
    assert found is None or found >= 0


@pytest.mark.parametrize(
    ("of", "left"),
    [(None, None), (pair(None, None), None), (pair(60, 600), 60), (pair(-60, 600), 600), (pair(-60, -600), 0)],
)
def test_time_left(of, left):
    assert time_left(of, NOW) == left


def series(lifetime: float, chance: float, **more: object) -> list[float]:
    """Moments of attempts from refresh_at to the end, each failing at once."""
    of, moments, now, failures = pair(lifetime, lifetime), [], NOW + 0.4 * lifetime, 0
    while now < NOW + lifetime and failures < 100_000:
        moments.append(now - NOW)
        failures += 1
        now += pause(of, now, failures, chance, **more)
    return moments


@settings(max_examples=40, deadline=None)
@given(
    st.floats(60, 400_000),
    st.floats(0, 1),
    st.sampled_from([{}, {"slow": True}, {"retry_after": 5.0}, {"retry_after": 1e6}]),
)
def test_at_least_six_attempts_fit_into_the_last_half_and_never_more_than_one_a_second(lifetime, chance, more):
    moments = series(lifetime, chance, **more)
    half = 0.7 * lifetime  # of what is left when the first attempt is due
    assert len([moment for moment in moments if moment >= half - 1e-6]) >= 6
    assert all(after - before >= 1 for before, after in pairwise(moments))
    assert moments[-1] >= lifetime - 2.5


def test_retry_after_is_respected_but_not_beyond_half_of_what_is_left():
    assert pause(pair(), NOW, 1, 0.5, retry_after=120) == 120
    assert pause(pair(), NOW + 3500, 1, 0.5, retry_after=120) == 50
    assert pause(None, NOW, 1, 0.5, retry_after=120) == 120
    assert pause(None, NOW, 1, 0.5, retry_after=1e9) == 3600
    assert pause(pair(-5, -5), NOW, 1, 0.5, retry_after=1e9) == 3600


@pytest.mark.parametrize(
    ("of", "cap"),
    [
        (pair(3e7, 3e7), 900),
        (None, 10),
        (pair(-5, -5), 60),
        (pair(-5, 3e7), 10),
        (pair(None, 3e7), 900),
        (replace(pair(-5, None), refresh_token=None), 10),
    ],
)
def test_pauses_grow_to_a_cap(of, cap):
    pauses = [pause(of, NOW, failures, 1.0) for failures in range(1, 60)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 1
    assert pauses[-1] == cap


def test_faults_of_the_configuration_are_retried_slowly():
    assert pause(pair(3e7, 3e7), NOW, 1, 1.0, slow=True) == 30
    assert pause(None, NOW, 9, 1.0, slow=True) == 60


@pytest.mark.parametrize(
    ("of", "seconds"), [(None, 60), (pair(3600), 60), (pair(90, 90), 30), (pair(6, 6), 10), (pair(-1, -1), 60)]
)
def test_patience(of, seconds):
    assert patience(of, NOW) == seconds


@pytest.mark.parametrize(
    ("of", "now", "is_worth"),
    [
        (pair(), 360, False),
        (pair(), 361, True),
        (pair(access=3600, refresh=600), 61, True),
        (pair(access=None, refresh=None), 360, False),
        (pair(access=None, refresh=None), 361, True),
        (pair(), -5, False),
    ],
)
def test_a_tank_is_filled_when_a_tenth_is_used(of, now, is_worth):
    assert is_worth_filling(of, of.obtained_at + now) is is_worth


def test_last_stand():
    assert not is_last_stand(None, NOW)
    assert not is_last_stand(pair(), NOW)
    assert is_last_stand(pair(), NOW + 3240)
    assert is_last_stand(pair(20, 20), NOW + 15)
    assert not is_last_stand(pair(None, None), NOW)


def test_a_pair_from_the_future_is_taken_for_due():
    """The wall clock was set back while nobody looked: what was planned by it would come years too late."""
    later = rooted(pair(), NOW - 30 * 86400, TERMS)
    now = NOW - 30 * 86400
    assert refresh_moment(later, TERMS, 0.5) == now
    assert (later.access_until, later.refresh_until) == (now + 0.6 * 3600, now + 0.6 * 3600)
    unknown = rooted(pair(None, None), now, TERMS)
    assert (unknown.access_until, unknown.refresh_until) == (None, None)
    assert refresh_moment(unknown, TERMS, 0.5) == now


def test_a_pair_of_the_past_is_lived_with_as_it_is():
    assert rooted(pair(), NOW, TERMS) == pair()
    assert rooted(pair(), NOW + 86400, TERMS) == pair()

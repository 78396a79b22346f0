"""Contract §3 `alerts.runway`: by what is left of the shorter lifetime, once a level, again after `repeat`, once on recovery."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from passoproxy.core.oauth.alert_levels import (
    GRACE_SHARE,
    LONGEST_GRACE,
    Alarmed,
    Kind,
    Level,
    Thresholds,
    Watch,
    alarmed,
    deadline,
    level_of,
    looked,
    outlook,
    remaining,
    resumed,
    spoken,
)
from passoproxy.core.oauth.snapshot import TokenSnapshot

NONE, LOG, NOTIFY, PAGE = Level
SHARES = Thresholds()
T0 = 1_700_000_000.0
HOUR, DAY, YEAR = 3600.0, 86_400.0, 365 * 86_400.0


def shown(
    at: float = 0.0,
    *,
    access: float | None = HOUR,
    runway: float | None = -1.0,
    chain: str = "retrying",
    due: float | None = 0.4 * HOUR,
    **more: object,
) -> TokenSnapshot:
    """A pair `at` seconds after it was obtained; both lifetimes are `access` unless `runway` says how long the chain lasts."""
    whole = access if runway == -1.0 else runway
    made = TokenSnapshot(
        access="none" if access is None else "valid" if at < access else "expired",
        chain=chain,
        reason="why",
        runway_seconds=None if whole is None else max(0.0, whole - at),
        access_until=None if access is None else T0 + access,
        served_until=None,
        next_refresh_at=None if due is None else T0 + due,
        remedy="do",
        link="http://127.0.0.1:8611/",
        generation=1,
        grant="authorization_code",
        obtained_at=T0,
        last_error="",
        saved=True,
        as_of=T0 + at,
    )
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lifetime", "left", "level"),
    [
        (HOUR, HOUR, NONE),
        (HOUR, 0.6 * HOUR, NONE),
        (HOUR, 0.551 * HOUR, NONE),
        (HOUR, 0.55 * HOUR, LOG),
        (HOUR, 0.501 * HOUR, LOG),
        (HOUR, 0.5 * HOUR, NOTIFY),
        (HOUR, 0.351 * HOUR, NOTIFY),
        (HOUR, 0.35 * HOUR, PAGE),
        (HOUR, 0.0, PAGE),
        # a long life warns by hours, not by months: at most 72 h, 48 h, 24 h
        (YEAR, 0.5 * YEAR, NONE),
        (YEAR, 73 * HOUR, NONE),
        (YEAR, 72 * HOUR, LOG),
        (YEAR, 49 * HOUR, LOG),
        (YEAR, 48 * HOUR, NOTIFY),
        (YEAR, 25 * HOUR, NOTIFY),
        (YEAR, 24 * HOUR, PAGE),
        # between: 4 days, of which 55 % are 52.8 h
        (4 * DAY, 53 * HOUR, NONE),
        (4 * DAY, 52 * HOUR, LOG),
        (4 * DAY, 24.5 * HOUR, NOTIFY),
        (4 * DAY, 24 * HOUR, PAGE),
    ],
)
def test_levels_by_what_is_left(lifetime: float, left: float, level: Level) -> None:
    assert level_of(shown(lifetime - left, access=lifetime), SHARES) is level


@pytest.mark.parametrize(
    ("seen", "level"),
    [
        (shown(0, chain="dead", runway_seconds=0.0), PAGE),
        (shown(0, chain="dead", access=None, runway=None), PAGE),
        (shown(0, grant="static", chain="none"), None),
        (shown(0, access=None, runway=0.0, chain="none", obtained_at=None), None),
        (shown(0, access=None, runway=0.0, chain="none", obtained_at=None, last_error="pair.json is damaged"), PAGE),
        (shown(0, access=None, runway=None, chain="retrying", grant="client_credentials", last_error="503"), None),
        # client credentials need no person, and still end when nobody renews them
        (shown(0.7 * HOUR, runway=None, grant="client_credentials"), PAGE),
        # the access token is the shorter one of the two, or the longer one
        (shown(0.5 * HOUR, runway=30 * DAY), NOTIFY),
        (shown(0.5 * HOUR, access=30 * DAY, runway=HOUR), NOTIFY),
        (shown(2 * HOUR, runway=30 * DAY), PAGE),
        # after a lost answer only the access token counts, and without a refresh token there is nothing else
        (shown(0.2 * HOUR, chain="unknown"), NONE),
        (shown(0.7 * HOUR, chain="unknown"), PAGE),
        (shown(0.52 * HOUR, chain="none", due=None), NOTIFY),
        # a lifetime that nobody told
        (replace(shown(9 * DAY, runway=None), access="valid", access_until=None), NONE),
        (replace(shown(9 * DAY), access="valid", obtained_at=None), NONE),
    ],
)
def test_levels_by_state(seen: TokenSnapshot, level: Level | None) -> None:
    assert level_of(seen, SHARES) is level


def test_what_remains() -> None:
    assert remaining(shown(600)) == (HOUR - 600, HOUR)
    assert remaining(shown(600, runway=600.0 + 60)) == (60, 660)
    assert remaining(shown(2 * HOUR)) == (0, HOUR)


@pytest.mark.parametrize(
    ("seen", "by"),
    [
        (shown(600), T0 + HOUR),
        (shown(600, runway=DAY), T0 + DAY),
        (shown(600, chain="dead", runway_seconds=0.0), T0 + HOUR),
        (shown(600, runway=None), None),
    ],
)
def test_the_deadline(seen: TokenSnapshot, by: float | None) -> None:
    assert deadline(seen) == by


@pytest.mark.parametrize(
    ("seen", "level", "line"),
    [
        (shown(60), NONE, "runway 59 min"),
        (shown(3000), PAGE, "runway 10 min, alert page, a person is needed by 2023-11-14T23:13:20Z"),
        (shown(0, runway=None), NONE, "runway unknown"),
        (shown(0, runway=None, grant="client_credentials"), LOG, "no person needed, alert log"),
    ],
)
def test_the_outlook(seen: TokenSnapshot, level: Level, line: str) -> None:
    assert outlook(seen, level) == line


def test_a_moment_that_no_calendar_holds_is_not_said() -> None:
    assert spoken(1e300) == ""


class Life:
    """One pair watched for a while; `at` is seconds since it was obtained, and the steady clock too."""

    def __init__(self, repeat: float = HOUR) -> None:
        self.watch, self.repeat, self.told = Watch(), repeat, list[tuple[float, str, str]]()
        self.again_in: float | None = None

    def look(self, at: float, **words: object) -> Level:
        return self.see(at, shown(at, **words))  # type: ignore[arg-type]

    def see(self, at: float, seen: TokenSnapshot) -> Level:
        found = looked(self.watch, seen, SHARES, self.repeat, at)
        self.watch, self.again_in = found.watch, found.again_in
        if found.telling is not None:
            self.told.append((at, found.telling.kind.value, found.telling.level.word))
        return found.watch.level


def test_each_level_once_in_order_and_once_on_recovery() -> None:
    life = Life()
    for minute in range(24, 60):
        life.look(minute * 60.0)
        life.look(minute * 60.0 + 30)
    life.look(100, chain="healthy")
    life.look(110, chain="healthy")
    assert life.told == [
        (27 * 60.0, "raised", "log"),
        (30 * 60.0, "raised", "notify"),
        (39 * 60.0, "raised", "page"),
        (100, "recovered", "none"),
    ]
    assert life.watch == Watch(told_at=life.watch.told_at, since=life.watch.since)


def test_a_death_is_told_at_the_worst_level_alone() -> None:
    life = Life()
    assert life.look(60, chain="dead", runway_seconds=0.0) is PAGE
    assert life.told == [(60, "raised", "page")]


def test_it_is_repeated_while_it_lasts() -> None:
    life = Life(repeat=600)
    for at in (0.0, 300, 599, 600, 900, 1199, 1200):
        life.look(at, chain="dead", runway_seconds=0.0)
    assert [at for at, *_ in life.told] == [0, 600, 1200]
    assert [kind for _, kind, _ in life.told] == ["raised", "repeated", "repeated"]
    assert life.again_in == 600


def test_what_gets_a_little_better_is_not_told_and_not_worse_again_either() -> None:
    life = Life(repeat=600)
    life.look(0.0, chain="dead", runway_seconds=0.0)
    life.see(10.0, replace(shown(0.5 * HOUR), chain="retrying"))
    assert life.watch.level is NOTIFY
    life.see(20.0, replace(shown(0.7 * HOUR), chain="retrying"))
    assert [word for *_, word in life.told] == ["page"]
    life.see(610.0, replace(shown(0.5 * HOUR), chain="retrying"))
    assert life.told[-1] == (610.0, "repeated", "notify")


def test_health_is_silent_even_where_the_pair_is_renewed_late() -> None:
    life = Life()
    for at in range(0, int(0.8 * HOUR), 60):
        assert life.look(float(at), chain="healthy", due=0.8 * HOUR) is NONE
        assert life.again_in is not None
    assert life.told == []


def test_an_overdue_renewal_in_health_has_a_grace() -> None:
    life = Life()
    at = 0.7 * HOUR  # for instance after a suspend
    assert life.look(at, chain="healthy") is NONE
    assert life.again_in == LONGEST_GRACE
    assert life.look(at + 4.9, chain="healthy") is NONE
    assert life.look(at + 5.0, chain="healthy") is PAGE
    assert life.told == [(at + 5.0, "raised", "page")]


def test_the_grace_of_a_short_life_is_short() -> None:
    life = Life()
    life.look(7.0, access=12.0, due=4.8, chain="healthy")
    assert life.again_in == pytest.approx(12 * GRACE_SHARE)
    assert life.look(7.5, access=12.0, due=4.8, chain="healthy") is NONE
    assert life.look(8.0, access=12.0, due=4.8, chain="healthy") is PAGE


def test_an_alarm_goes_on_through_the_grace() -> None:
    life = Life()
    life.look(0.0, chain="dead", runway_seconds=0.0)
    at = 0.7 * HOUR  # someone imports a pair that is old already
    assert life.look(at, chain="healthy") is PAGE
    assert life.look(10.0 + at, chain="healthy", access=2 * HOUR, due=2 * HOUR) is NONE
    assert [kind for _, kind, _ in life.told] == ["raised", "recovered"]


def test_after_a_logout_nothing_is_told_before_the_next_pair_is_safe() -> None:
    life = Life()
    life.look(0.0, chain="dead", runway_seconds=0.0)
    since = life.watch.since
    for at in (5.0, 5 * HOUR):
        assert life.look(at, access=None, runway=0.0, chain="none", obtained_at=None) is NONE
        assert life.again_in is None
    assert [kind for _, kind, _ in life.told] == ["raised"]
    life.look(6 * HOUR, chain="healthy", access=12 * HOUR, due=12 * HOUR)
    assert [kind for _, kind, _ in life.told] == ["raised", "recovered"]
    assert life.watch.since == since


def test_it_knows_when_to_look_again() -> None:
    life = Life()
    life.look(600.0)
    assert life.again_in == pytest.approx(0.45 * HOUR - 600)
    life.look(0.5 * HOUR)
    assert life.again_in == pytest.approx(0.15 * HOUR)
    life.look(0.7 * HOUR)
    assert life.again_in == HOUR
    assert looked(Watch(), replace(shown(0), access_until=None, runway_seconds=None), SHARES, HOUR, 0).again_in is None


@given(
    st.lists(
        st.tuples(
            st.floats(0, 100),
            st.sampled_from(["healthy", "retrying", "unknown", "dead"]),
            st.floats(0, 2 * HOUR),
        ),
        max_size=40,
    )
)
def test_no_level_twice_between_two_recoveries(steps: list[tuple[float, str, float]]) -> None:
    life, now = Life(repeat=float("inf")), 0.0
    for wait, chain, age in steps:
        now += wait
        life.see(now, replace(shown(age), chain=chain))
    raised: list[str] = []
    for _, kind, word in life.told:
        assert kind != Kind.REPEATED.value
        if kind == Kind.RECOVERED.value:
            assert raised
            raised = []
        else:
            order = ["log", "notify", "page"]
            assert not raised or order.index(word) > order.index(raised[-1])
            raised.append(word)


def test_what_was_told_outlives_the_watch():
    assert alarmed(Watch(), 50.0, 1000.0) is None
    told = alarmed(Watch(Level.LOG, Level.PAGE, told_at=40.0, since=900.0), 50.0, 1000.0)
    assert told == Alarmed(Level.PAGE, 990.0, 900.0)
    assert resumed(Watch(), told, 7.0, 1100.0) == Watch(Level.PAGE, Level.PAGE, told_at=-103.0, since=900.0)
    assert resumed(Watch(), told, 7.0, 900.0) == Watch(
        Level.PAGE, Level.PAGE, told_at=7.0, since=900.0
    )  # the clock was set back
    assert resumed(Watch(Level.LOG), None, 7.0, 900.0) == Watch(Level.LOG)


def test_what_is_resumed_lasts_through_the_grace_after_a_start():
    """A pair that is loaded is healthy until its first attempt has failed: that is no recovery."""
    before = resumed(Watch(), Alarmed(Level.PAGE, 990.0, 900.0), 0.0, 1000.0)
    look = looked(before, shown(0.8 * HOUR, chain="healthy"), SHARES, HOUR, 0.0)
    assert (look.telling, look.watch.level) == (None, Level.PAGE)

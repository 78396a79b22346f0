"""Logins that are open, by where they were begun."""

from __future__ import annotations

from passoproxy.tokens.commands import HERE
from passoproxy.tokens.state import MOST, OpenLogins


def test_each_place_speaks_for_itself():
    logins = OpenLogins()
    assert (logins.until, logins.of(HERE)) == (0.0, 0.0)
    logins.put(HERE, 100.0)
    logins.put("another", 200.0)
    assert (logins.until, logins.of(HERE), logins.of("another")) == (200.0, 100.0, 200.0)
    logins.put("another", 10.0)  # denied there
    assert logins.until == 100.0
    logins.move(-50.0)
    assert logins.until == 50.0
    logins.clear()
    assert logins.until == 0.0


def test_their_number_is_bounded_and_the_newest_word_counts():
    logins = OpenLogins()
    for number in range(MOST):
        logins.put(f"process {number}", 100.0 + number)
    logins.put("the newest", 5.0)
    assert logins.of("the newest") == 5.0
    assert (logins.of("process 0"), logins.of("process 1")) == (0.0, 101.0)

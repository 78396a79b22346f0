"""What is said of the pair: reasons, remedies, and never a token."""

from __future__ import annotations

import pytest

from passoproxy.core.oauth.chain import Access, Chain, Standing
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.settings import Terms
from passoproxy.core.oauth.snapshot import UNTOLD, left_alone, snapshot, told

PAIR = Pair("access-secret", "def-secret", 0, 100.0, 100.0, 100, generation=2)
LINKED = Terms(link="http://127.0.0.1:8611/")
CREDENTIALS, STATIC = Terms(grant="client_credentials", link="http://x/"), Terms(grant="static")


@pytest.mark.parametrize(
    ("pair", "standing", "terms", "more", "reason", "remedy"),
    [
        (
            None,
            Standing(),
            LINKED,
            {},
            "nobody has authorised",
            "run 'passoproxy login' or open http://127.0.0.1:8611/",
        ),
        (None, Standing(), Terms(), {}, "nobody", "run 'passoproxy login'"),
        (None, Standing(), LINKED, {"login_until": 60.0}, "nobody", "finish it in the browser"),
        (None, Standing(), CREDENTIALS, {}, "no access token was obtained", "oauth.client_id"),
        (None, Standing(), STATIC, {"reason": "unreadable"}, "unreadable", ""),
        (PAIR, Standing(Access.VALID, Chain.HEALTHY), LINKED, {}, "renews itself", ""),
        (PAIR, Standing(Access.VALID, Chain.HEALTHY), LINKED, {"saved": False}, "renews itself", "memory"),
        (PAIR, Standing(Access.VALID, Chain.RETRYING), LINKED, {}, "failed", "none needed"),
        (PAIR, Standing(Access.EXPIRED, Chain.RETRYING), LINKED, {"now": 200}, "failed", "passoproxy login"),
        (PAIR, Standing(Access.VALID, Chain.RETRYING), CREDENTIALS, {"reason": "503"}, "503", "oauth.client_id"),
        (PAIR, Standing(Access.VALID, Chain.UNKNOWN), LINKED, {}, "answer was lost", "passoproxy login"),
        (PAIR, Standing(Access.VALID, Chain.DEAD), LINKED, {}, "refuses", "passoproxy login"),
        (PAIR, Standing(Access.VALID, Chain.UNKNOWN), LINKED, {"handed_over_at": 7.0}, "handed over", "--force"),
        (PAIR, Standing(Access.EXPIRED, Chain.DEAD), LINKED, {"handed_over_at": 7.0}, "on Thu, 01 Jan 1970", "import"),
        (PAIR, Standing(Access.VALID, Chain.NONE), LINKED, {}, "no refresh token", "passoproxy login"),
        (PAIR, Standing(Access.VALID, Chain.NONE), STATIC, {}, "static", ""),
    ],
)
def test_words(pair, standing, terms, more, reason, remedy):
    shown = snapshot(pair, standing, terms, **{"now": 50, **more})
    assert reason in shown.reason
    assert remedy in shown.remedy
    assert bool(shown.remedy) == bool(remedy)
    assert "access-secret" not in repr(shown)
    assert "def-secret" not in repr(shown)
    assert shown.link == (terms.link if terms.needs_person else "")


def test_moments():
    shown = snapshot(PAIR, Standing(Access.VALID, Chain.HEALTHY), Terms(), 40, next_refresh_at=45.0)
    assert (
        shown.runway_seconds,
        shown.access_until,
        shown.served_until,
        shown.obtained_at,
        shown.generation,
        shown.next_refresh_at,
    ) == (60, 100, 100, 0, 2, 45)
    assert snapshot(PAIR, Standing(Access.EXPIRED, Chain.DEAD), Terms(), 140).served_until is None


@pytest.mark.parametrize(
    ("standing", "now", "due", "chain", "reason", "remedy"),
    [
        (Standing(Access.VALID, Chain.HEALTHY), 50, 60.0, "healthy", "renews itself", ""),
        (
            Standing(Access.VALID, Chain.HEALTHY),
            50,
            40.0,
            "retrying",
            "nobody renews the pair",
            "before the access token",
        ),
        (
            Standing(Access.VALID, Chain.RETRYING),
            50,
            None,
            "retrying",
            "nobody renews the pair",
            "before the access token",
        ),
        (Standing(Access.EXPIRED, Chain.HEALTHY), 200, 40.0, "retrying", "nobody renews the pair", "bring back"),
        (Standing(Access.VALID, Chain.DEAD), 50, None, "dead", "refuses", "passoproxy login"),
    ],
)
def test_an_owner_who_is_gone_for_long(standing, now, due, chain, reason, remedy):
    shown = left_alone(snapshot(PAIR, standing, LINKED, now, next_refresh_at=due))
    assert (shown.chain, shown.alone) == (chain, True)
    assert reason in shown.reason
    assert remedy in shown.remedy
    assert not told({"alone": True}).alone  # one who follows him has him to listen to


def test_an_owner_who_was_never_heard():
    shown = left_alone(UNTOLD)
    assert (shown.access, shown.chain, shown.alone) == ("none", "none", True)
    assert shown.reason.startswith("nothing is known of the pair")

"""Words between the pair's owner and those who follow: there and back, and what is none."""

from __future__ import annotations

import json

import pytest

from passoproxy.core.oauth.pair import Bearer
from passoproxy.errors import (
    AuthorizationRequired,
    CannotCreate,
    CommandFailure,
    ConfigurationError,
    ImportRefused,
    PairStoreFailure,
    PersonNeeded,
    ServiceUnreachable,
    TokenUnavailable,
    UsageFailure,
)
from passoproxy.ports import Followed, RawAnswer
from passoproxy.tokens.messages import document_of, fault_of, followed_of, in_our_time, obey, packed, unpacked
from tests.tokens.life import Life


@pytest.mark.parametrize(
    "followed",
    [
        Followed(None, "partition", {"access": "none"}),
        Followed(Bearer("token", 3, 12.5), "", {}),
        Followed(Bearer("token", 3, None), "p", {"generation": 3}),
    ],
)
def test_what_is_followed_comes_through(followed: Followed) -> None:
    assert followed_of(json.loads(json.dumps(document_of(followed)))) == followed


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {"bearer": None}, {"bearer": {"token": "secret"}, "partition": "p", "snapshot": {}}],
)
def test_what_is_none_is_refused_without_being_repeated(document: object) -> None:
    with pytest.raises(PairStoreFailure) as caught:
        followed_of(document)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("skew", [86400.0, -600.0])
def test_what_is_left_is_left_whatever_another_machines_clock_says(skew: float) -> None:
    shown = {"as_of": 1e9, "access_until": 1e9 + 60, "next_refresh_at": None, "runway_seconds": 60.0, "generation": 3}
    told = in_our_time(Followed(Bearer("token", 3, 1e9 + 60), "p", shown), 1e9 + skew)
    assert told.bearer == Bearer("token", 3, 1e9 + skew + 60)
    assert told.snapshot == shown | {"as_of": 1e9 + skew, "access_until": 1e9 + skew + 60}
    for bearer in (None, Bearer("token", 3, None)):
        assert in_our_time(Followed(bearer, "p", shown), 1e9 + skew).bearer == bearer


@pytest.mark.parametrize("shown", [{}, {"as_of": 0.0}, {"as_of": "late"}, {"as_of": 1e9 - 9}])
def test_what_says_nothing_of_its_clock_and_what_was_on_its_way_stays_as_it_is(shown: dict[str, object]) -> None:
    followed = Followed(Bearer("token", 3, 1e9 + 60), "p", shown)
    assert in_our_time(followed, 1e9) is followed


def test_a_logins_answer_comes_through() -> None:
    answer = RawAnswer(b"\xff\x00{}", "text/html", 12.5, "authorization_code")
    assert unpacked(packed(answer)) == answer
    for document in (b"", b"[]", b"{}", b'{"body": "!", "content_type": "", "sent_at": 0, "grant": ""}'):
        with pytest.raises(UsageFailure):
            unpacked(document)


def test_a_fault_is_raised_as_the_owner_raised_it() -> None:
    for kind in (PersonNeeded, ServiceUnreachable, CannotCreate, UsageFailure, ImportRefused, CommandFailure):
        fault = kind("what is wrong")
        told = fault_of(fault.code, fault.exit_code, str(fault))
        assert (type(told), str(told)) == (kind, "what is wrong")
    told = fault_of("configuration_error", 78, "what is wrong")
    assert (type(told), str(told)) == (ConfigurationError, "what is wrong")
    for refusal in (AuthorizationRequired, TokenUnavailable):
        told = fault_of(refusal.code, 1, "wait", 7.0)
        assert isinstance(told, refusal)
        assert told.fields == (("Retry-After", "7"),)


async def test_orders_reach_the_keeper() -> None:
    life = Life()
    keeper = await life.started_with_pair()
    await life.clock.advance(2)
    assert (await obey(keeper, "refresh", b""))["generation"] == 2
    await life.clock.advance(2)
    assert (await obey(keeper, "refresh_force", b""))["generation"] == 3
    assert (await obey(keeper, "import_force", life.document()))["generation"] == 4
    issued = json.dumps(life.rotating.issue()).encode()
    answer = RawAnswer(issued, "application/json", life.clock.wall(), "authorization_code")
    assert (await obey(keeper, "answer", packed(answer)))["generation"] == 5
    until = life.clock.wall() + 60
    told = json.dumps({"until": until, "by": "another process"}).encode()
    assert (await obey(keeper, "login_pending", told))["login_until"] == until
    assert (await obey(keeper, "hand_over", b""))["refresh_token"]
    assert "erased here" in str((await obey(keeper, "logout", b""))["revocation"])
    assert keeper.snapshot().access == "none"
    for what, document in (
        ("dance", b""),
        ("login_pending", b"soon"),
        ("login_pending", b'{"until": 5}'),
        ("login_pending", b'{"until": 1e999, "by": "x"}'),
        ("login_pending", b"[" * 100_000),
        ("answer", b"[" * 100_000),
    ):
        with pytest.raises(UsageFailure):
            await obey(keeper, what, document)
    await life.stop()

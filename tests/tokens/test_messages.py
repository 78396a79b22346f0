"""The message format between the pair's owner and its followers: there and back, and what is refused."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from passoproxy.core.oauth.pair import Bearer
from passoproxy.errors import (
    AuthorizationRequired,
    CannotCreate,
    CommandFailure,
    ConfigurationError,
    Fault,
    ImportRefused,
    OwnerGone,
    PairStoreFailure,
    PersonNeeded,
    ServiceUnreachable,
    TokenUnavailable,
    UsageFailure,
)
from passoproxy.ports import Followed, RawAnswer
from passoproxy.tokens.commands import (
    Command,
    Export,
    Import,
    Leave,
    Login,
    LoginPending,
    Logout,
    Refill,
    Refresh,
    Renew401,
)  # fmt: skip
from passoproxy.tokens.messages import (
    answer_of,
    answered,
    document_of,
    fault_document,
    followed_of,
    gives_pair,
    in_our_time,
    packed,
    unpacked,
)  # fmt: skip
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


COMMANDS = [
    Refresh(), Refresh(force=True), Import(b"\xff{}"), Import(b"{}", force=True), Export(), Logout(), LoginPending(5.0, "b"),
    Renew401(3, "path", again=True), Login(RawAnswer(b"\xff\x00{}", "text/html", 12.5, "authorization_code")),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: type(command).__name__)
def test_a_command_comes_through(command: Command) -> None:
    assert unpacked(json.loads(json.dumps(packed(command)))) == command


@pytest.mark.parametrize("command", [Refill(5.0), Leave(5.0)])
def test_what_is_for_this_process_only_is_not_sent(command: Command) -> None:
    with pytest.raises(TypeError):
        packed(command)


@pytest.mark.parametrize(
    "document",
    [
        b"", b"[" * 100_000, b"[]", b"{}", b'{"command": "dance"}', b'{"command": "refresh"}',
        b'{"command": "refresh", "force": "secret"}', b'{"command": "import", "document": "secret", "force": false}',
        b'{"command": "login", "body": "!", "content_type": "", "sent_at": 0, "grant": ""}',
        b'{"command": "login", "body": "", "content_type": "", "sent_at": NaN, "grant": ""}',
        b'{"command": "login_pending", "until": 5}', b'{"command": "login_pending", "until": 1e999, "by": "x"}',
        b'{"command": "login_pending", "until": 1' + b"0" * 400 + b', "by": "x"}',
    ],
)  # fmt: skip
async def test_what_is_no_command_is_refused_without_being_repeated(document: bytes) -> None:
    reply = await answered(Life().keeper, document)
    with pytest.raises(UsageFailure, match="same version") as told:
        answer_of(Refresh(), reply)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize("after", [float("inf"), float("nan"), -1, 10**400, "5", None])
def test_a_wait_that_is_none_is_five_seconds(after: object) -> None:
    fault = {"code": "token_unavailable", "exit_code": 1, "detail": "later", "retry_after": after}
    with pytest.raises(TokenUnavailable) as told:
        answer_of(Refresh(), {"fault": fault})
    assert told.value.fields == (("Retry-After", "5"),)


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (Refresh(), None), (Refresh(), {}), (Refresh(), {"answer": 3}), (Export(), {"answer": None}), (Renew401(1), {"answer": {}}),
        (Logout(), {"answer": {"revocation": 1}}), (LoginPending(1.0), {"answer": 1}), (Refresh(), {"fault": "secret"}),
    ],
)  # fmt: skip
def test_what_is_no_reply_is_refused_without_being_repeated(command: Command, reply: object) -> None:
    with pytest.raises(OwnerGone) as told:
        answer_of(command, reply)
    assert "secret" not in str(told.value)


def test_a_fault_is_raised_as_the_owner_raised_it() -> None:
    for kind in (
        PersonNeeded,
        ServiceUnreachable,
        CannotCreate,
        UsageFailure,
        ImportRefused,
        PairStoreFailure,
        CommandFailure,
    ):
        with pytest.raises(kind, match=r"^what is wrong$") as told:
            answer_of(Refresh(), fault_document(kind("what is wrong")))
        assert type(told.value) is kind
    with pytest.raises(ConfigurationError, match=r"^oauth: what is wrong$"):
        answer_of(Refresh(), fault_document(ConfigurationError(Fault("", "oauth", "what is wrong"))))
    for refusal in (AuthorizationRequired, TokenUnavailable):
        with pytest.raises(refusal) as waits:
            answer_of(Refresh(), fault_document(refusal("wait", 7.0)))
        assert waits.value.fields == (("Retry-After", "7"),)


async def test_commands_reach_the_keeper_and_answers_come_back() -> None:
    life = Life()
    keeper = await life.started_with_pair()

    async def execute(command: Command) -> Any:
        await life.clock.advance(2)
        return answer_of(command, json.loads(json.dumps(await answered(keeper, json.dumps(packed(command)).encode()))))

    issued = RawAnswer(
        json.dumps(life.rotating.issue()).encode(), "application/json", life.clock.wall(), "authorization_code"
    )
    for generation, command in enumerate(
        (Refresh(), Refresh(force=True), Import(life.document(), True), Login(issued)), 2
    ):
        assert (await execute(command)).generation == generation
    until = life.clock.wall() + 60
    await execute(LoginPending(until, "another process"))
    assert keeper.snapshot().login_until == until
    assert await execute(Renew401(4)) == 5
    assert gives_pair({"answer": await execute(Export())})
    assert "erased here" in (await execute(Logout())).revocation
    assert not gives_pair({"answer": asdict(keeper.snapshot())})
    assert keeper.snapshot().access == "none"
    await life.stop()

"""An import never costs a pair that lives: it is proved by a refresh first, and only with its success takes the place of the old pair (contract §4)."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from passoproxy.core.events import Warned
from passoproxy.core.oauth.settings import Terms
from passoproxy.errors import CannotCreate, ConfigurationError, ImportRefused, ServiceUnreachable
from passoproxy.ports import RawAnswer
from passoproxy.tokens.commands import Import, Login, Logout, Refresh
from tests.fakes import PowerLoss
from tests.tokens.life import Life

OTHER = "def-refresh-2"
"""The refresh token of the pair that is imported here; the one in use has def-refresh-1."""


@pytest.fixture
async def life():
    life = Life()
    yield life
    if life.task is not None and not life.task.done():
        life.store.failing.clear()
        life.store.loss = None
        await life.stop()


async def imported(life: Life, document: bytes, *, force: bool = False):
    """What comes of an import, the second between two requests included."""
    order = asyncio.create_task(life.keeper.execute(Import(document, force=force)))
    await life.clock.advance(2)
    return await order


async def lost(life: Life) -> bytes:
    """A pair in use, and another one whose proof's answer was lost; its document."""
    await life.started_with_pair()
    document = life.document()
    life.rotating.faults = ["lost"]
    with pytest.raises(ServiceUnreachable, match="both pairs are kept"):
        await imported(life, document)
    return document


async def in_state(life: Life, state: str) -> None:
    """A keeper whose chain is so."""
    await life.started_with_pair()
    life.rotating.faults = {"healthy": [], "retrying": [503] * 99, "unknown": ["lost"]}[state]
    if life.rotating.faults:
        order = asyncio.create_task(life.keeper.execute(Refresh()))
        await life.clock.advance(0.1)
        await asyncio.gather(order, return_exceptions=True)
    assert life.keeper.snapshot().chain == state


# ---- over a pair that lives ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["healthy", "retrying", "unknown"])
async def test_the_present_refresh_token_changes_nothing(state):
    life = Life().having(lost_answer_replay="never")
    await in_state(life, state)
    before, sent = life.keeper.snapshot(), len(life.rotating.bodies)
    words = {**life.held(), "access_token": "garbage", "expires_in": 1}
    shown = await imported(life, json.dumps(words).encode())
    assert (shown.generation, shown.chain, shown.access_until) == (before.generation, state, before.access_until)
    assert life.keeper.current().token == "access-1"
    if state != "retrying":  # which goes on by itself
        assert len(life.rotating.bodies) == sent
    await life.stop()


@pytest.mark.parametrize("state", ["healthy", "retrying", "unknown"])
@pytest.mark.parametrize("refresh_token", [None, "spent", "dead"])
async def test_what_cannot_be_renewed_is_refused_and_not_sent(state, refresh_token):
    life = Life().having(lost_answer_replay="never")
    if refresh_token == "spent":
        await life.started_with_pair()
        await asyncio.gather(life.keeper.execute(Refresh()), life.clock.advance(2))
        refresh_token = "def-refresh-1"
        life.rotating.faults = {"healthy": [], "retrying": [503] * 9, "unknown": ["lost"]}[state]
        if life.rotating.faults:
            await asyncio.gather(life.keeper.execute(Refresh()), life.clock.advance(2), return_exceptions=True)
    else:
        await in_state(life, state)
        if refresh_token == "dead":
            refresh_token = "def-dead"
            life.rotating.faults = [lambda: (400, b'{"error": "invalid_grant"}'), *life.rotating.faults]
            with pytest.raises(ImportRefused):
                await imported(life, life.document(refresh_token=refresh_token))
    presented = dict(life.rotating.presented)
    own, bearer = life.held()["refresh_token"], life.keeper.current()
    with pytest.raises(ImportRefused, match="--force") as told:
        await imported(life, json.dumps({"access_token": "garbage", "refresh_token": refresh_token}).encode())
    assert told.value.exit_code == 1
    assert life.keeper.current() == bearer
    assert {**life.rotating.presented, own: 0} == {**presented, own: 0}
    await life.stop()


@pytest.mark.parametrize("state", ["healthy", "retrying", "unknown"])
async def test_another_pair_is_proved_by_a_refresh_and_its_successor_is_used(state):
    life = Life().having(lost_answer_replay="never")
    await in_state(life, state)
    life.rotating.faults = []
    before = life.keeper.snapshot().generation, life.keeper.partition
    document = life.document()
    token = json.loads(document)["refresh_token"]
    shown = await imported(life, document)
    assert (shown.access, shown.chain) == ("valid", "healthy")
    assert shown.generation > before[0]
    assert life.keeper.partition != before[1]  # whose it is, is not known
    assert life.rotating.presented[token] == 1
    assert life.keeper.current().token not in {"access-1", "access-2", json.loads(document)["access_token"]}
    assert life.store.generations[shown.generation].source == "import"
    assert (await imported(life, json.dumps(life.held()).encode())).generation == shown.generation
    await life.clock.advance(5000)
    assert life.keeper.snapshot().chain == "healthy"
    assert life.rotating.told == []
    await life.stop()


async def test_the_providers_refusal_leaves_the_old_pair_in_use_and_is_remembered(life):
    await life.started_with_pair()
    document = life.document(refresh_token="def-of-somebody")
    with pytest.raises(
        ImportRefused, match=r"the provider answered 400 invalid_grant.*the pair in use is kept"
    ) as told:
        await imported(life, document)
    assert told.value.exit_code == 1
    assert "def-of-somebody" not in str(told.value)
    assert (life.keeper.current().token, life.keeper.snapshot().chain) == ("access-1", "healthy")
    assert life.withdrawals == []
    await life.stop()
    await life.start()
    with pytest.raises(ImportRefused):
        await imported(life, document)
    assert life.rotating.presented == {"def-of-somebody": 1}
    await life.clock.advance(1500)
    assert (life.keeper.snapshot().chain, life.keeper.snapshot().generation) == ("healthy", 2)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("unsent", ServiceUnreachable),
        (503, ServiceUnreachable),
        (429, ServiceUnreachable),
        (lambda: (401, b'{"error": "invalid_client"}'), ConfigurationError),
    ],
)
async def test_a_provider_that_cannot_now_leaves_everything_as_it_was(life, fault, error):
    await life.started_with_pair()
    document = life.document()
    life.rotating.faults = [fault]
    with pytest.raises(error, match="the pair in use is kept"):
        await imported(life, document)
    assert (life.keeper.current().token, life.keeper.snapshot().chain) == ("access-1", "healthy")
    assert life.store.record.candidate is None
    await life.clock.advance(30)
    assert len(life.rotating.bodies) == 1
    assert (await imported(life, document)).chain == "healthy"
    assert life.rotating.told == []


async def test_a_proof_that_cannot_be_recorded_is_not_sent(life):
    await life.started_with_pair()
    life.store.failing = {"save_record"}
    with pytest.raises(CannotCreate):
        await imported(life, life.document())
    assert life.rotating.presented == {}
    assert life.keeper.current().token == "access-1"


async def test_force_takes_it_unproved(life):
    await life.started_with_pair()
    shown = await imported(life, life.document(), force=True)
    assert (shown.chain, life.keeper.current().token) == ("healthy", "access-2")
    assert (await imported(life, b'{"access_token": "bare"}', force=True)).chain == "none"
    assert life.rotating.bodies == []


@pytest.mark.parametrize("state", ["none", "dead", "bare"])
async def test_where_nothing_lives_it_is_taken_as_it_is(life, state):
    await life.start()
    if state != "none":
        await imported(life, life.document(refresh_token=None if state == "bare" else "def-of-nobody"))
    if state == "dead":
        await asyncio.gather(life.keeper.execute(Refresh()), life.clock.advance(2), return_exceptions=True)
    assert life.keeper.snapshot().chain == ("dead" if state == "dead" else "none")
    sent = len(life.rotating.bodies)
    assert (await imported(life, b'{"access_token": "garbage"}')).access == "valid"
    assert (await imported(life, life.document())).chain == "healthy"
    assert len(life.rotating.bodies) == sent


async def test_clients_own_tokens_need_no_proof():
    life = Life(terms=Terms(grant="client_credentials"))
    await life.start()
    await life.clock.advance(1)
    assert (await imported(life, life.document())).chain == "healthy"
    await life.stop()


# ---- a proof whose answer is lost ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "presented"),
    [("never", 1), ("once", 2), ("always", 2), (60.0, 2)],
    ids=["never", "once", "always", "60s"],
)
async def test_the_proof_is_repeated_as_the_setting_allows(policy, presented):
    life = Life().having(lost_answer_replay=policy)
    life.rotating.replays = 5
    await lost(life)
    assert (life.keeper.current().token, life.keeper.snapshot().chain) == ("access-1", "healthy")
    (warned,) = [each for each in life.observer.of(Warned) if each.code == "import_unproved"]
    assert "def-" not in warned.detail
    await life.clock.advance(10)
    assert life.rotating.presented[OTHER] == presented
    proved = policy != "never"
    assert (life.store.record.candidate is None) == proved
    assert (life.keeper.current().token != "access-1") == proved
    assert any(each.over for each in life.observer.of(Warned) if each.code == "import_unproved") == proved
    await life.clock.advance(1500)
    assert life.keeper.snapshot().chain == "healthy"
    assert life.rotating.presented[OTHER] == presented
    assert life.rotating.told == []
    await life.stop()


@pytest.mark.parametrize("sleeps", [False, True])
async def test_when_the_grace_period_is_over_the_proof_is_not_repeated(life, sleeps):
    life.having(lost_answer_replay=30.0)
    life.rotating.replays = 99
    await lost(life)
    life.rotating.faults = ["lost"] * 99
    await life.clock.advance(0 if sleeps else 35)
    count = life.rotating.presented[OTHER]
    if sleeps:
        life.clock._monotonic, life.clock._wall = life.clock._monotonic + 100, life.clock._wall + 100
    await life.clock.advance(100)
    assert life.rotating.presented[OTHER] == count > 0


async def test_a_repeated_proof_that_is_refused_leaves_the_old_pair_in_use(life):
    await lost(life)
    await life.clock.advance(10)
    assert life.rotating.presented == {OTHER: 2}
    assert life.store.record.candidate is None
    assert (life.keeper.current().token, life.keeper.snapshot().chain) == ("access-1", "healthy")
    await life.clock.advance(3000)
    assert life.keeper.snapshot().chain == "healthy"
    assert life.rotating.presented[OTHER] == 2


@pytest.mark.parametrize(("policy", "presented"), [("never", 1), ("once", 2)])
@pytest.mark.parametrize("how", ["crash", "stop"])
async def test_it_is_counted_across_restarts(policy, presented, how):
    life = Life().having(lost_answer_replay=policy)
    await lost(life)
    life.rotating.faults = [lambda: (200, b"garbage")] * 99
    for _ in range(4):
        await (life.crash() if how == "crash" else life.stop())
        await life.start()
        await life.clock.advance(12)
        assert (life.keeper.current().token, life.keeper.snapshot().chain) == ("access-1", "healthy")
    assert life.rotating.presented == {OTHER: presented}
    life.rotating.faults = []
    await life.clock.advance(3700)  # the imported access token has ended, and with it the wait for its proof
    assert life.store.record.candidate is None
    assert life.keeper.snapshot().chain == "healthy"
    with pytest.raises(ImportRefused):
        await imported(life, life.document(refresh_token=OTHER))
    assert life.rotating.presented[OTHER] == presented
    await life.stop()


async def test_importing_it_again_proves_it_no_more_often(life):
    life.having(lost_answer_replay="once")
    document = await lost(life)
    life.rotating.faults, life.rotating.replays = ["lost"], 2
    with pytest.raises(ServiceUnreachable, match="both pairs are kept"):
        await imported(life, document)
    with pytest.raises(ServiceUnreachable, match="both pairs are kept"):
        await imported(life, document)
    assert life.rotating.presented == {OTHER: 2}


async def test_the_old_pair_is_renewed_meanwhile(life):
    life.having(lost_answer_replay="never")
    await lost(life)
    await life.clock.advance(1500)
    assert life.rotating.presented == {OTHER: 1, "def-refresh-1": 1}
    assert life.store.record.candidate is not None
    await life.crash()
    await life.start()
    assert life.keeper.snapshot().chain == "healthy"
    assert life.store.record.candidate is not None


@pytest.mark.parametrize("crash", [False, True])
async def test_it_takes_the_place_of_a_pair_that_dies_meanwhile(life, crash):
    life.having(lost_answer_replay="once")
    life.rotating.replays = 1
    await lost(life)
    life.rotating.faults = [503] * 20
    life.rotating.spend("def-refresh-1")
    if crash:
        await life.crash()
        await life.start()
    await life.clock.advance(10)
    life.rotating.faults = []
    await asyncio.gather(life.keeper.execute(Refresh()), life.clock.advance(2), return_exceptions=True)
    await life.clock.advance(300)
    assert life.keeper.snapshot().chain == "healthy"
    assert life.rotating.presented[OTHER] >= 2


async def test_another_import_takes_its_place(life):
    life.having(lost_answer_replay="never")
    document = await lost(life)
    assert (await imported(life, life.document())).chain == "healthy"
    assert life.store.record.candidate is None
    with pytest.raises(ImportRefused):
        await imported(life, document)
    assert life.rotating.presented[OTHER] == 1


async def test_another_import_whose_answer_is_lost_too_says_that_the_first_is_given_up(life):
    life.having(lost_answer_replay="never")
    await lost(life)
    life.rotating.faults = ["lost"]
    with pytest.raises(ServiceUnreachable, match="the import that waited before is given up"):
        await imported(life, third := life.document())
    assert life.store.record.candidate.pair.refresh_token == json.loads(third)["refresh_token"]


async def test_a_login_ends_the_matter(life):
    life.having(lost_answer_replay="always")
    await lost(life)
    issued = json.dumps(life.rotating.issue()).encode()
    await life.keeper.execute(Login(RawAnswer(issued, "", life.clock.wall(), "authorization_code")))
    await life.clock.advance(60)
    assert life.rotating.presented == {OTHER: 1}
    assert life.store.record.candidate is None


@pytest.mark.parametrize("order", [Import(b"", force=True), Logout()], ids=["force", "logout"])
async def test_a_proof_that_is_not_wanted_any_more_keeps_nobody_busy(life, order):
    life.having(lost_answer_replay="always")
    await lost(life)
    order = replace(order, document=life.document()) if isinstance(order, Import) else order
    await life.keeper.execute(order)
    await life.clock.advance(10)
    assert life.store.record.candidate is None
    assert life.keeper._until_next() > 1


async def test_a_step_of_the_clock_moves_it_too(life):
    life.having(lost_answer_replay=600.0)
    await lost(life)
    life.rotating.faults = ["unsent"] * 1000
    life.clock.step(86400)
    await life.clock.advance(300)
    life.rotating.faults, life.rotating.replays = [], 1
    await life.clock.advance(120)
    assert life.store.record.candidate is None
    assert life.rotating.presented[OTHER] == 2


# ---- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["reserve", "save_record", "keep_answer", "commit"])
async def test_a_crash_at_every_step_of_a_proof(life, method, when):
    life.having(lost_answer_replay="once")
    await life.started_with_pair()
    document = life.document()
    life.store.loss = (method, when)
    order = asyncio.create_task(life.keeper.execute(Import(document)))
    await life.clock.advance(2)
    assert life.task.done()
    assert isinstance(life.task.exception(), PowerLoss)
    order.cancel()
    if (method, when) == ("keep_answer", "before"):
        life.rotating.lose(OTHER)
        life.rotating.replays = 1
    elif (method, when) == ("save_record", "after"):
        life.rotating.replays = 1
    await life.crash()
    await life.start()
    await life.clock.advance(12)
    sent = method in {"keep_answer", "commit"} or (method, when) == ("save_record", "after")
    assert life.rotating.presented.get(OTHER, 0) == {
        ("keep_answer", "before"): 2,  # the one window of the protocol
    }.get((method, when), 1 if sent else 0)
    assert (life.keeper.current().token == "access-1") == (not sent)
    assert life.keeper.snapshot().chain == "healthy"
    assert life.store.record.candidate is None
    assert life.rotating.told == []
    await life.clock.advance(1500)
    assert life.keeper.snapshot().chain == "healthy"
    assert life.rotating.told == []


async def test_a_crash_between_the_new_pair_and_its_record_presents_nothing_again(life):
    await life.started_with_pair()
    commit = life.store.commit

    def then_lost(pair):
        commit(pair)
        life.store.failing = {"save_record"}

    life.store.commit = then_lost
    shown = await imported(life, life.document())
    del life.store.commit
    life.store.failing = set()
    await life.crash()
    assert life.store.record.candidate is not None
    await life.start()
    await life.clock.advance(12)
    assert life.keeper.snapshot().generation == shown.generation
    assert life.rotating.presented == {OTHER: 1}
    assert life.store.record.candidate is None
    with pytest.raises(ImportRefused):
        await imported(life, life.document(refresh_token=OTHER))


async def test_an_answer_that_cannot_be_written_is_held_while_the_old_pair_lives(life):
    await life.started_with_pair()
    life.store.failing = {"keep_answer", "commit"}
    with pytest.raises(Exception, match="held back"):
        await imported(life, life.document())
    assert life.keeper.current().token == "access-1"
    life.store.failing = set()
    await life.clock.advance(6)
    assert life.keeper.current().token == "access-3"
    assert life.keeper.snapshot().chain == "healthy"

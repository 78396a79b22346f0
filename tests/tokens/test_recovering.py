"""A crash at every step of a refresh, and the next start: the pair is kept wherever the protocol allows it (core/oauth/transaction)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from passoproxy.core.events import RefreshFailed
from passoproxy.core.oauth.pair import Pair
from passoproxy.core.oauth.transaction import digest
from passoproxy.errors import PairDamaged
from passoproxy.ports import RawAnswer
from passoproxy.tokens.commands import Import, Refresh
from tests.fakes import PowerLoss, settle
from tests.tokens.life import Life

STEPS = [
    (method, when, occurrence)
    for method, occurrence in [
        ("reserve", 1),
        ("save_record", 1),
        ("keep_answer", 1),
        ("commit", 1),
        ("save_record", 2),
    ]
    for when in ("before", "after")
]


async def crashed_at(life: Life, method: str, when: str, occurrence: int) -> None:
    """Lets power fail at the `occurrence`-th such step of the next refresh, then starts anew."""
    seen = 0
    original = life.store._at

    def at(name: str, moment: str) -> None:
        nonlocal seen
        if (name, moment) == (method, when):
            seen += 1
            life.store.loss = (method, when) if seen == occurrence else None
        original(name, moment)

    life.store._at = at  # type: ignore[method-assign]
    await life.clock.advance(1441)
    with pytest.raises(PowerLoss):
        await life.task
    life.store._at = original  # type: ignore[method-assign]
    await life.crash()


@pytest.mark.parametrize(("method", "when", "occurrence"), STEPS)
@pytest.mark.parametrize(("policy", "replays"), [("never", 0), ("once", 1)])
async def test_a_crash_at_every_step_of_a_refresh(method, when, occurrence, policy, replays):
    life = Life().having(lost_answer_replay=policy)
    await life.started_with_pair()
    life.rotating.replays = replays
    await crashed_at(life, method, when, occurrence)
    sent = len(life.rotating.bodies)
    nobody_has_it = (method, when) == ("keep_answer", "before")
    if nobody_has_it:
        life.rotating.lose("def-refresh-1")
    keeper = await life.start()
    await life.clock.advance(10)
    sent_or_not = (method, when, occurrence) == ("save_record", "after", 1)
    if policy == "never" and (nobody_has_it or sent_or_not):
        assert keeper.snapshot().chain == "unknown"
        assert len(life.rotating.bodies) == sent
    elif nobody_has_it:
        assert keeper.snapshot().chain == "healthy"  # the provider allowed the one replay
        assert keeper.current().token == "access-3"
        assert len(life.rotating.bodies) == sent + 1
    else:
        assert keeper.snapshot().chain == "healthy"
        assert keeper.current().token == "access-2"
        assert life.rotating.told == []
    await life.stop()


async def test_a_replay_after_a_crash_is_counted_across_restarts():
    life = Life()
    await life.started_with_pair()
    life.rotating.faults = ["lost", *[lambda: (200, b"garbage")] * 4]
    await life.clock.advance(1440.2)
    for _ in range(4):
        await life.crash()
        keeper = await life.start()
        await life.clock.advance(20)
    assert life.rotating.presented["def-refresh-1"] == 2
    assert keeper.snapshot().chain == "unknown"
    assert keeper.current().token == "access-1"
    await life.clock.advance(2200)
    assert keeper.snapshot().chain == "dead"
    await life.crash()
    keeper = await life.start()
    await life.clock.advance(100)
    assert keeper.snapshot().chain == "dead"
    assert life.rotating.presented["def-refresh-1"] == 2
    await life.stop()


async def test_an_interrupted_refresh_found_after_the_access_token_ended_is_replayed_once_then_dead():
    for policy, chain, more in [("once", "dead", 1), ("never", "dead", 0), ("always", "dead", 1)]:
        life = Life().having(lost_answer_replay=policy)
        await life.started_with_pair()
        await crashed_at(life, "save_record", "after", 1)
        await life.clock.advance(4000)
        life.rotating.spend("def-refresh-1")
        keeper = await life.start()
        await life.clock.advance(20)
        assert (keeper.snapshot().chain, len(life.rotating.bodies)) == (chain, more)
        await life.stop()


async def test_a_login_answer_that_was_not_committed_is_committed_at_the_start():
    life = Life()
    life.store.answer = RawAnswer(
        b'{"access_token": "a", "refresh_token": "def-a", "expires_in": 3600}',
        "application/json",
        life.clock.wall(),
        "authorization_code",
    )
    keeper = await life.start()
    assert keeper.current().token == "a"
    assert life.store.generations[1].source == "login"
    await life.stop()


async def test_a_kept_answer_that_cannot_be_read_is_a_lost_one_and_stays_where_it_is():
    life = Life().having(lost_answer_replay="never")
    await life.started_with_pair()
    life.rotating.faults = [lambda: (200, b"<html>")]
    await life.clock.advance(1441)
    assert life.observer.of(RefreshFailed)[-1].outcome == "lost"
    await life.crash()
    keeper = await life.start()
    assert keeper.snapshot().chain == "unknown"
    assert life.store.answer.body == b"<html>"
    await life.stop()


async def test_an_answer_without_rotation_keeps_the_old_refresh_token_unspent():
    life = Life()
    await life.started_with_pair()
    life.rotating.faults = [lambda: (200, b'{"access_token": "b", "expires_in": 3600}')]
    await life.clock.advance(1441)
    assert life.keeper.current().token == "b"
    assert life.store.record.spent == ()
    await life.crash()
    life.store.answer = RawAnswer(
        b'{"access_token": "c", "expires_in": 3600}', "", life.clock.wall(), previous_generation=2
    )
    keeper = await life.start()
    assert keeper.current().token == "c"
    await life.clock.advance(1441)
    assert keeper.snapshot().chain == "healthy"
    assert life.rotating.told == []
    await life.stop()


async def test_left_overs_of_an_older_generation_mean_nothing():
    life = Life()
    await life.started_with_pair()
    await life.keeper.execute(Refresh())
    answer = RawAnswer(b'{"access_token": "stale"}', "", life.clock.wall(), previous_generation=1)
    await life.stop()
    life.store.answer = answer
    keeper = await life.start()
    assert keeper.current().token == "access-2"
    assert keeper.snapshot().chain == "healthy"
    await life.stop()


async def test_a_dead_chain_stays_dead_and_keeps_its_reason_over_a_restart():
    life = Life()
    await life.started_with_pair(refresh_token="def-revoked")
    await life.clock.advance(1441)
    reason = life.keeper.snapshot().reason
    await life.crash()
    keeper = await life.start()
    await life.clock.advance(100)
    assert (keeper.snapshot().chain, keeper.snapshot().reason) == ("dead", reason)
    assert life.rotating.presented == {"def-revoked": 1}
    await life.stop()


async def test_the_older_generation_of_a_damaged_one_has_a_spent_token_and_is_not_presented():
    life = Life()
    await life.started_with_pair()
    await life.keeper.execute(Refresh())
    await life.stop()
    del life.store.generations[2]
    life.store.damaged = ["/state/pair.2.json: torn"]
    keeper = await life.start()
    await settle()
    shown = keeper.snapshot()
    assert (shown.access, shown.chain, shown.reason) == ("valid", "dead", "/state/pair.2.json: torn")
    await life.clock.advance(5000)
    assert life.rotating.told == []
    await life.stop()


async def test_an_interrupted_refresh_of_a_token_known_as_spent_is_dead():
    life = Life()
    await life.started_with_pair()
    await crashed_at(life, "save_record", "after", 1)
    intent = life.store.record.intent
    life.store.record = type(life.store.record)(spent=(intent.token,), intent=intent)
    keeper = await life.start()
    assert keeper.snapshot().chain == "dead"
    assert isinstance(life.store.generations[1], Pair)
    await life.stop()


async def test_a_crash_loop_asks_no_more_than_once_a_second():
    life = Life().having(grant="client_credentials")
    life.rotating.faults = [503] * 1000
    for _ in range(50):
        await life.start()
        await life.clock.advance(0.1)
        await life.crash()
    gaps = [after - before for before, after in pairwise(life.rotating.times)]
    assert 4 <= len(life.rotating.times) <= 6
    assert min(gaps) > 0.999


async def test_a_clock_that_went_back_between_two_starts_delays_an_attempt_by_a_second_only():
    life = Life().having(grant="client_credentials")
    life.rotating.faults = [503]
    await life.start()
    await life.clock.advance(0.1)
    await life.crash()
    life.clock.step(-86400)
    keeper = await life.start()
    await life.clock.advance(1.1)
    assert keeper.current() is not None
    await life.stop()


async def test_a_clock_that_was_set_back_while_nobody_looked_does_not_delay_the_renewal():
    """A machine without a clock of its own starts in 1970; then its time is set, and all moments move with it."""
    life = Life()
    await life.started_with_pair()
    await life.clock.advance(300)
    await life.stop()
    life.clock.step(-20 * 365 * 86400.0)
    await life.start()
    await life.clock.advance(60)
    assert life.keeper.snapshot().generation == 2
    assert len(life.rotating.bodies) == 1
    assert 0 < life.keeper.snapshot().runway_seconds <= 3600
    life.clock.step(20 * 365 * 86400.0)
    await life.clock.advance(30)
    assert 3400 < life.keeper.snapshot().runway_seconds <= 3600
    await life.stop()


async def test_a_token_whose_successor_is_here_is_spent_although_the_record_was_not_written():
    """A crash between the new generation and its record, and then damage to that generation: the older token is known to be spent."""
    life = Life().having(lost_answer_replay="always")
    await life.started_with_pair()
    await crashed_at(life, "save_record", "before", 2)
    keeper = await life.start()
    await life.clock.advance(2)
    assert keeper.current().token == "access-2"
    await life.crash()
    del life.store.generations[2]
    sent = len(life.rotating.bodies)
    keeper = await life.start()
    await life.clock.advance(4000)
    assert keeper.snapshot().chain == "dead"
    assert len(life.rotating.bodies) == sent


async def test_an_answer_outlives_the_generation_that_it_follows():
    life = Life()
    await life.started_with_pair()
    await life.clock.advance(2)
    await life.keeper.execute(Refresh())
    await crashed_at(life, "keep_answer", "after", 1)
    del life.store.generations[2]
    keeper = await life.start()
    await life.clock.advance(2)
    assert (keeper.current().token, keeper.snapshot().chain) == ("access-3", "healthy")
    assert keeper.snapshot().generation >= 3
    sent = len(life.rotating.bodies)
    assert sent == 2
    await keeper.execute(Refresh())  # and its refresh token is the newest one
    await life.stop()


@pytest.mark.parametrize(("policy", "allowed"), [("never", 1), ("once", 2)])
async def test_a_token_that_was_presented_before_its_generation_could_be_written(policy, allowed):
    """Its raw answer is durable, its generation is not: what the record says of its own presentation counts at the next start."""
    life = Life().having(lost_answer_replay=policy)
    await life.started_with_pair()
    await crashed_at(life, "keep_answer", "after", 1)
    life.store.failing = {"commit"}
    await life.start()
    life.rotating.faults = ["lost"]
    await life.clock.advance(3000)
    assert "def-refresh-2" not in life.rotating.presented, "it can wait until the generation is written"
    while "def-refresh-2" not in life.rotating.presented:
        await life.clock.advance(1)
    assert life.rotating.presented == {"def-refresh-1": 1, "def-refresh-2": 1}
    life.store.failing = set()
    for _ in range(3):
        await life.crash()
        life.rotating.faults = [lambda: (200, b"garbage")]
        keeper = await life.start()
        assert (keeper.current().token, keeper.snapshot().chain) == ("access-2", "unknown")
        await life.clock.advance(20)
    assert life.rotating.presented["def-refresh-2"] == allowed
    await life.stop()


# ---- a damaged record --------------------------------------------------------------------------------------------------


def damages(life: Life) -> None:
    """The record was torn: it is moved aside when it is read, and is missing until one is saved."""
    life.store.record = None

    def load_record():
        if life.store.record is None:
            raise PairDamaged("/state/record.json: torn")
        return life.store.record

    life.store.load_record = load_record


@pytest.mark.parametrize(("policy", "more"), [("never", 0), ("once", 1), (60.0, 7)])
@pytest.mark.parametrize("came_before", ["healthy", "lost twice", "dead"])
async def test_a_damaged_record_counts_as_one_lost_answer_whatever_came_before(policy, more, came_before):
    life = Life().having(lost_answer_replay="once")
    keeper = await life.started_with_pair()
    if came_before == "lost twice":
        life.rotating.faults = ["lost", lambda: (200, b"garbage")]
        await life.clock.advance(1460)
    elif came_before == "dead":
        life.rotating.spend("def-refresh-1")
        await life.clock.advance(1460)
    await life.crash()
    life.having(lost_answer_replay=policy)
    damages(life)
    before = life.rotating.presented.get("def-refresh-1", 0)
    for _ in range(3):
        keeper = await life.start()
        shown = keeper.snapshot()
        assert (shown.access, shown.chain, shown.reason) == ("valid", "unknown", "/state/record.json: torn")
        await life.crash()
    life.rotating.faults = [lambda: (200, b"garbage")] * 20
    keeper = await life.start()
    await life.clock.advance(100)
    assert keeper.snapshot().chain == "unknown"
    assert life.rotating.presented.get("def-refresh-1", 0) - before == more
    await life.stop()


async def test_success_or_a_person_ends_the_doubt_of_a_damaged_record():
    for by_person in (False, True):
        life = Life()
        await life.started_with_pair()
        await life.stop()
        damages(life)
        keeper = await life.start()
        assert keeper.snapshot().chain == "unknown"
        if by_person:
            await keeper.execute(Import(life.document()))
        else:
            await life.clock.advance(10)
        assert keeper.snapshot().chain == "healthy"
        await life.stop()
        assert (await life.start()).snapshot().chain == "healthy"
        await life.stop()


async def test_a_damaged_record_beside_an_answer_that_was_not_committed():
    """The answer's token may have been presented since, where its generation could not be written."""
    life = Life().having(lost_answer_replay="never")
    await life.started_with_pair()
    await crashed_at(life, "keep_answer", "after", 1)
    damages(life)
    keeper = await life.start()
    assert (keeper.current().token, keeper.snapshot().chain) == ("access-2", "unknown")
    assert life.store.generations[2].access_token == "access-2"
    await life.stop()


async def test_an_answer_whose_generation_is_gone_is_the_pair():
    life = Life()
    await life.started_with_pair()
    await crashed_at(life, "keep_answer", "after", 1)
    life.store.generations.clear()
    keeper = await life.start()
    assert (keeper.current().token, keeper.snapshot().chain) == ("access-2", "healthy")
    await life.stop()
    assert digest("def-refresh-1") in life.store.record.spent


async def test_a_replay_that_tells_nothing_leaves_the_reason_of_the_doubt():
    life = Life()
    await life.started_with_pair()
    await life.stop()
    damages(life)
    life.rotating.faults = [503] * 9
    keeper = await life.start()
    await life.clock.advance(2)
    assert (keeper.snapshot().reason, keeper.snapshot().last_error) == (
        "/state/record.json: torn",
        "the provider answered 503",
    )
    await life.stop()
